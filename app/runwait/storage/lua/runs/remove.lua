-- Removes a run that ended.
-- KEYS  1 run hash
-- ARGV  1 prefix of all keys, 2 run id, 3 thread id
-- Returns 1 if removed, 0 if there is none on that thread, -1 if it has not ended.
local found = redis.call('HMGET', KEYS[1], 'record', 'ended_by', 'thread_id')
if not found[1] or found[3] ~= ARGV[3] then return 0 end
if not found[2] then return -1 end
forget(ARGV[1], ARGV[2])
redis.call('ZREM', ARGV[1] .. ':thread:' .. ARGV[3] .. ':runs', ARGV[2])
return 1
