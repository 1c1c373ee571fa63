-- Removes a thread with its runs; its checkpoints are to be deleted.
-- KEYS  1 what removed threads left
-- ARGV  1 tag of all keys, 2 thread id
-- Returns the fencing token for deleting its checkpoints (also when repeated), false if there is no
-- such thread.
if thread_expire(ARGV[1], ARGV[2], clock()) then return false end
thread_remove(ARGV[1], ARGV[2], clock())
local token = redis.call('ZSCORE', KEYS[1], ARGV[2])
return token and string.format('%.0f', token)
