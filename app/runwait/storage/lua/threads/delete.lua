-- Removes a thread with its runs; its checkpoints are to be deleted.
-- KEYS  1 what removed threads left
-- ARGV  prefix, id
-- Returns the fencing token for deleting its checkpoints (also when repeated), false if there is no
-- such thread.
local a = named(ARGV)
if thread_expire(a.prefix, a.id, clock()) then return false end
thread_remove(a.prefix, a.id, clock())
local token = redis.call('ZSCORE', KEYS[1], a.id)
return token and string.format('%.0f', token)
