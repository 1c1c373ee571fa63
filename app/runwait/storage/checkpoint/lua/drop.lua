-- Deletes checkpoints of a namespace, with their writes and the values that only they name.
-- ARGV  1 token or '', 2 namespace, then ids
-- Returns 1, or -1 if the thread is claimed by someone else.
if is_fenced(ARGV[1]) then return REFUSED end
for i = 3, #ARGV do drop(ARGV[2], ARGV[i]) end
return 1
