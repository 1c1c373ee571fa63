-- Deletes what tasks wrote on a checkpoint.
-- ARGV  1 token or '', 2 namespace, 3 id
-- Returns 1, or -1 if the thread is claimed by someone else.
local token, ns, id = unpack(ARGV)
if is_fenced(token) then return REFUSED end
drop_writes(ns .. SEP .. id)
return 1
