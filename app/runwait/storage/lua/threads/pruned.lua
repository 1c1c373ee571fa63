-- Notes that a thread was pruned, unless it was used since its time was over.
-- KEYS  1 when threads are to be pruned
-- ARGV  id
-- Returns 1.
local id = named(ARGV).id
local due = redis.call('ZSCORE', KEYS[1], id)
if due and tonumber(due) <= clock() then redis.call('ZREM', KEYS[1], id) end
return 1
