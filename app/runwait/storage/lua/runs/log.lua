-- Logs events of runs, and tells the processes that listen to them.
-- ARGV  prefix
--       runs   of each: id, token, attempt, numbers of its events, their names; as JSON
--       most   how many events of a run are kept, about
--       quiet  the life of a log without new events, in ms
--       data   of all events, one after the other
-- Returns for each run 1, or 0 if it is not the sender's any more: then nothing of it was logged.
-- A repeated call logs nothing twice.
local a = named(ARGV)
local p, at, taken = a.prefix, 0, {}
for i, run in ipairs(cjson.decode(a.runs)) do
  local id, token, attempt, numbers, names = run[1], run[2], run[3], run[4], run[5]
  local found = redis.call('HMGET', p .. ':run:' .. id, 'token', 'ended_by')
  taken[i] = 0
  if found[1] == token and not found[2] then
    local key = p .. ':events:' .. id
    for j, name in ipairs(names) do
      local added = redis.pcall('XADD', key, 'MAXLEN', '~', a.most, token .. '-' .. numbers[j],
        'n', name, 'd', a.data[at + j], 'a', attempt)
      -- Redis refuses an id twice: it was logged by the first of two calls.
      if added.err and not string.find(added.err, 'equal or smaller', 1, true) then return added end
    end
    redis.call('PEXPIRE', key, a.quiet)
    for _, process in ipairs(redis.call('SMEMBERS', p .. ':listening:' .. id)) do
      redis.pcall('PUBLISH', p .. ':told:' .. process, 'events ' .. id)
    end
    taken[i] = 1
  end
  at = at + #names
end
return taken
