-- Deletes checkpoints of a namespace, with their writes and the values that only they name.
-- ARGV  1 token or '', 2 namespace, then ids
-- Returns 1, or -1 if the thread is claimed by someone else.
local token, ns = unpack(ARGV, 1, 2)
if is_fenced(token) then return REFUSED end
for i = 3, #ARGV do drop(ns, ARGV[i]) end
return 1
