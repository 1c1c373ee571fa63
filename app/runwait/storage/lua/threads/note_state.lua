-- Notes that a thread's state was changed from outside of a run.
-- KEYS  1 thread hash
-- ARGV  prefix, id, status
-- Returns 1 if noted, 0 if there is no such thread or a run has it, which will note its own.
local a = named(ARGV)
thread_expire(a.prefix, a.id, clock())
local found = redis.call('HMGET', KEYS[1], 'created', 'status')
if not found[1] or found[2] == 'busy' then return 0 end
local now = clock()
thread_set(a.prefix, a.id, now, {status = a.status, error = false, state_updated = now})
tell_of_thread(a.prefix, a.id, 'state')
return 1
