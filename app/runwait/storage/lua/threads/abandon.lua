-- Gives up a thread that is being built.
-- ARGV  prefix, id, token (that it is built with)
-- Returns the fencing token as text, with which its checkpoints are to be deleted; false if it is there
-- by now, or was given up before.
local a = named(ARGV)
if not thread_is_built_with(a.prefix, a.id, a.token) then return false end
return thread_left_over(a.prefix, a.id)
