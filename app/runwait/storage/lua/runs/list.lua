-- The runs of a thread, newest first.
-- KEYS  1 thread hash, 2 the thread's runs
-- ARGV  1 prefix of all keys, 2 how many, 3 how many to pass over, 4 status or ''
-- Returns a list of {record, status, updated_at}; false if there is no such thread.
local p, most, skip = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
local found, at = {}, 0
if ARGV[4] == '' then at, skip = skip, 0 end
while #found < most do
  local ids = redis.call('ZREVRANGE', KEYS[2], at, at + 99)
  if #ids == 0 then break end
  for _, id in ipairs(ids) do
    local run = redis.call('HMGET', p .. ':run:' .. id, 'record', 'status', 'updated_at')
    if run[1] and (ARGV[4] == '' or run[2] == ARGV[4]) then
      if skip > 0 then skip = skip - 1 elseif #found < most then table.insert(found, run) end
    end
  end
  at = at + 100
end
return found
