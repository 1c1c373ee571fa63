-- Deletes all of a thread but its fence.
-- ARGV  1 token or '', 2 what the fence is set to, or '' to leave it, 3 ms that it then lasts
-- Returns 1, or -1 if the thread is claimed by someone else.
local token, raised, lasts = unpack(ARGV)
local fence = redis.call('GET', FENCE)
if token ~= '' and fence and tonumber(fence) > tonumber(token) then return REFUSED end
redis.call('UNLINK', INDEX, CHECKPOINTS, VALUES, COUNTS, PENDING, WRITES, RUNS, UNDO)
if raised ~= '' then redis.call('SET', FENCE, raised, 'PX', lasts) end
return 1
