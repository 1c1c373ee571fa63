-- This process has what it waited for of a run.
-- KEYS  1 run hash, 2 result, 3 waiting processes
-- ARGV  follower (the process's id)
-- Returns 1.
redis.call('SREM', KEYS[3], named(ARGV).follower)
local run = redis.call('HMGET', KEYS[1], 'once', 'undone', 'kept')
if run[1] and redis.call('SCARD', KEYS[3]) == 0 then
  redis.call('DEL', KEYS[2])
  if run[2] or not run[3] then redis.call('DEL', KEYS[1]) end
end
return 1
