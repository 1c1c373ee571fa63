-- Keeps an id for a thread that is being built: its checkpoints are there before it is.
-- KEYS  1 thread hash
-- ARGV  prefix, id
-- Returns {fencing token to build it with}; 0 if there is such a thread; the fencing token as text, where
-- checkpoints of this id are to be deleted first. A repeated call gives up what the first one kept.
local a = named(ARGV)
thread_expire(a.prefix, a.id, clock())
if redis.call('HEXISTS', KEYS[1], 'created') == 1 then return 0 end
local left_over = thread_left_over(a.prefix, a.id)
if left_over then return left_over end
local token = next_token(a.prefix)
redis.call('ZADD', a.prefix .. ':threads:building', token, a.id)
return {token}
