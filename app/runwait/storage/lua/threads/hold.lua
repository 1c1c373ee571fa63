-- A fencing token for one who changes a thread that no run has.
-- KEYS  1 thread hash
-- ARGV  1 prefix of all keys
-- Returns the token; '' if a run has the thread, 0 if there is no such thread.
local found = redis.call('HMGET', KEYS[1], 'status', 'temporary', 'active')
if not found[1] then return 0 end
if found[2] or found[3] then return '' end
return next_token(ARGV[1])
