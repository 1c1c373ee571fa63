-- Deletes what tasks wrote on a checkpoint.
-- ARGV  1 token or '', 2 namespace, 3 id
-- Returns 1, or -1 if the thread is claimed by someone else.
if is_fenced(ARGV[1]) then return REFUSED end
drop_writes(ARGV[2] .. SEP .. ARGV[3])
return 1
