-- Removes a run that ended.
-- KEYS  1 run hash
-- ARGV  prefix, id, thread
-- Returns 1 if removed, 0 if there is none on that thread, -1 if it has not ended.
local a = named(ARGV)
local found = redis.call('HMGET', KEYS[1], 'record', 'ended_by', 'thread_id')
if not found[1] or found[3] ~= a.thread then return 0 end
if not found[2] then return -1 end
forget(a.prefix, a.id)
redis.call('ZREM', a.prefix .. ':thread:' .. a.thread .. ':runs', a.id)
tell_of_thread(a.prefix, a.thread, 'removed')
return 1
