-- Gives up a thread that is being built.
-- ARGV  1 tag of all keys, 2 thread id, 3 the token that it is built with
-- Returns the fencing token as text, with which its checkpoints are to be deleted; false if it is there
-- by now, or was given up before.
if not thread_is_built_with(ARGV[1], ARGV[2], ARGV[3]) then return false end
return thread_left_over(ARGV[1], ARGV[2])
