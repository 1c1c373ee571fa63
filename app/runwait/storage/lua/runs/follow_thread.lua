-- Has a process told of the runs of a thread, and of their events, as they begin; it may be made later.
-- KEYS  1 thread hash, 2 its runs
-- ARGV  prefix, thread, follower (a process id)
--       watcher  a name of this call, where of runs that have ended only the latest is wanted, and only if
--                no other watcher has followed it, or it waits for an answer
-- Returns {false} if there is no such thread; else {id of the run that has it, id of the last event of
-- that, id of the last event that a watcher does not want, id of the latest run if that has ended and none of
-- its events is logged}, each false where there is none, and then of each run whose events are logged its id
-- and the id of its last event.
local a = named(ARGV)
local p = a.prefix
local key = p .. ':listening:' .. a.thread
thread_expire(p, a.thread, clock())
redis.call('SADD', key, a.follower)
redis.call('PEXPIRE', key, 604800000)
local found = redis.call('HMGET', KEYS[1], 'created', 'active')
if not found[1] then return {false} end
local function last(id)
  local event = redis.call('XREVRANGE', p .. ':events:' .. id, '+', '-', 'COUNT', 1)[1]
  return event and event[1] or false
end
local active = found[2] or false
if active then
  redis.call('SADD', p .. ':waiting:' .. active, a.follower)
  listen(p, active, a.follower, redis.call('HGET', p .. ':run:' .. active, 'owner'))
  if a.watcher then redis.call('HSETNX', p .. ':run:' .. active, 'watcher', a.watcher) end
end
local answer = {'found', active, active and last(active), false, false}
local latest
for n, id in ipairs(redis.call('ZREVRANGE', KEYS[2], 0, 999)) do
  local at = last(id)
  if n == 1 and not (at or active) then answer[5] = id end
  if at then
    table.insert(answer, id)
    table.insert(answer, at)
    if a.watcher and not latest then
      redis.call('HSETNX', p .. ':run:' .. id, 'watcher', a.watcher)
      latest = redis.call('HMGET', p .. ':run:' .. id, 'watcher', 'status')
      if id ~= active and latest[1] ~= a.watcher and latest[2] ~= 'interrupted' then answer[4] = at end
    elseif a.watcher and not answer[4] then
      answer[4] = at
    end
  end
end
return answer
