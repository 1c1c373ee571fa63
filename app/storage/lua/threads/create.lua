-- Makes a thread, unless there is one.
-- KEYS  1 thread hash
-- ARGV  1 tag of all keys, 2 thread id, 3 what tells this call from others, 4 metadata, 5 its terms,
--       6 ms to live without use, or '', 7 config
-- Returns 1 if made (also when repeated), 0 if there is one; the fencing token as text, where the
-- checkpoints of a thread of this id that was removed are to be deleted first.
local p, id = ARGV[1], ARGV[2]
local found = redis.call('HMGET', KEYS[1], 'created', 'nonce')
if found[1] then return found[2] == ARGV[3] and 1 or 0 end
local token = redis.call('ZSCORE', p .. ':doomed', id)
if token then return string.format('%.0f', token) end
thread_create(p, id, clock(), ARGV[4], ARGV[5], ARGV[6], ARGV[7], {nonce = ARGV[3]})
return 1
