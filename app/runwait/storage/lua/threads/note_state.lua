-- Notes that a thread's state was changed from outside of a run.
-- KEYS  1 thread hash
-- ARGV  1 tag of all keys, 2 thread id, 3 status
-- Returns 1 if noted, 0 if there is no such thread or a run has it, which will note its own.
thread_expire(ARGV[1], ARGV[2], clock())
local found = redis.call('HMGET', KEYS[1], 'created', 'status')
if not found[1] or found[2] == 'busy' then return 0 end
local now = clock()
thread_set(ARGV[1], ARGV[2], now, {status = ARGV[3], error = false, state_updated = now})
for _, process in ipairs(redis.call('SMEMBERS', ARGV[1] .. ':listening:' .. ARGV[2])) do
  redis.pcall('PUBLISH', ARGV[1] .. ':told:' .. process, 'state ' .. ARGV[2])
end
return 1
