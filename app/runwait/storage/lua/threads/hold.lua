-- A fencing token for one who changes a thread that no run has.
-- KEYS  1 thread hash
-- ARGV  prefix, id
-- Returns the token; '' if a run has the thread or is to come, 0 if there is no such thread.
local a = named(ARGV)
thread_expire(a.prefix, a.id, clock())
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 0 end
if status == 'busy' then return '' end
return next_token(a.prefix)
