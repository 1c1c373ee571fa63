-- Notes that a thread was pruned, unless it was used since its time was over.
-- KEYS  1 when threads are to be pruned
-- ARGV  1 thread id
-- Returns 1.
local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
if due and tonumber(due) <= clock() then redis.call('ZREM', KEYS[1], ARGV[1]) end
return 1
