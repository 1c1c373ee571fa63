-- Removes threads that were not used for as long as they live, unless a run is scheduled on them, and gives
-- up those that somebody began to build an hour ago.
-- KEYS  1 expiry, 2 what removed threads left, 3 building
-- ARGV  prefix, most (to remove)
-- Returns {1 if there may be more to do, else 0, ids and fencing tokens of threads whose checkpoints are
-- to be deleted, in turn, ids of threads that are to be pruned}.
local a = named(ARGV)
local p, now = a.prefix, clock()
local more = threads_expire(p, now, a.most)
-- The token that a thread is built with tells since when, in microseconds.
local hour_ago = string.format('%.0f', (now - 3600000) * 1000)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', hour_ago, 'LIMIT', 0, a.most)) do
  thread_left_over(p, id)
end
local left_over = redis.call('ZRANGE', KEYS[2], 0, a.most - 1, 'WITHSCORES')
for i = 2, #left_over, 2 do left_over[i] = string.format('%.0f', left_over[i]) end
more = more or redis.call('ZCARD', KEYS[2]) > #left_over / 2
return {more and 1 or 0, left_over, redis.call('ZRANGEBYSCORE', p .. ':threads:pruning', '-inf', now, 'LIMIT', 0, a.most)}
