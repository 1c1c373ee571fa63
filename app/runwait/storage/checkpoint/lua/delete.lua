-- Deletes all of a thread but its fence.
-- ARGV  1 token or '', 2 what the fence is set to, or '' to leave it, 3 ms that it then lasts
-- Returns 1, or -1 if the thread is claimed by someone else.
local fence = redis.call('GET', FENCE)
if ARGV[1] ~= '' and fence and tonumber(fence) > tonumber(ARGV[1]) then return REFUSED end
redis.call('UNLINK', INDEX, CHECKPOINTS, VALUES, COUNTS, PENDING, WRITES, RUNS, UNDO)
if ARGV[2] ~= '' then redis.call('SET', FENCE, ARGV[2], 'PX', ARGV[3]) end
return 1
