-- Keeps an id for a thread that is being built: its checkpoints are there before it is.
-- KEYS  1 thread hash
-- ARGV  1 tag of all keys, 2 thread id
-- Returns {fencing token to build it with}; 0 if there is such a thread; the fencing token as text, where
-- checkpoints of this id are to be deleted first. A repeated call gives up what the first one kept.
thread_expire(ARGV[1], ARGV[2], clock())
if redis.call('HEXISTS', KEYS[1], 'created') == 1 then return 0 end
local left_over = thread_left_over(ARGV[1], ARGV[2])
if left_over then return left_over end
local token = next_token(ARGV[1])
redis.call('ZADD', ARGV[1] .. ':threads:building', token, ARGV[2])
return {token}
