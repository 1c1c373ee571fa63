-- The runs of a thread, newest first.
-- KEYS  1 thread hash, 2 the thread's runs
-- ARGV  prefix, id (of the thread), limit, offset, status (if only such are meant)
-- Returns a list of {record, status, updated_at}; false if there is no such thread.
local a = named(ARGV)
local p, most, skip = a.prefix, tonumber(a.limit), tonumber(a.offset)
thread_expire(p, a.id, clock())
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
local found, at = {}, 0
if not a.status then at, skip = skip, 0 end
-- The one that a temporary thread is for is not among the thread's runs.
local only = redis.call('HGET', KEYS[1], 'temporary')
while #found < most do
  local ids = only and at == 0 and {only} or redis.call('ZREVRANGE', KEYS[2], at, at + 99)
  if #ids == 0 then break end
  for _, id in ipairs(ids) do
    local run = redis.call('HMGET', p .. ':run:' .. id, 'record', 'status', 'updated_at')
    if run[1] and (not a.status or run[2] == a.status) then
      if skip > 0 then skip = skip - 1 elseif #found < most then table.insert(found, run) end
    end
  end
  at = at + 100
end
return found
