-- Takes back the admission of a run of which nobody was told.
-- What is left is a mark, for the case that the admission itself arrives late.
-- KEYS  1 run hash, 2 waiting processes
-- ARGV  prefix, id, thread, owner (the process id that admitted it)
-- Returns 1; 0 where another process has it: one without an idempotency key is then stopped and leaves
-- nothing on its thread; one with a key goes on, since who sends the request again is to get its answer.
local a = named(ARGV)
local p, id, thread = a.prefix, a.id, a.thread
local key = p .. ':thread:' .. thread
local found = redis.call('HMGET', KEYS[1], 'idempotency', 'owner', 'ended_by', 'made_thread')
if found[3] or found[2] and found[2] ~= a.owner then
  if not found[1] then request_cancel(p, id, 'rollback') end
  return 0
end
if found[1] and redis.call('HGET', found[1], 'run_id') == id then redis.call('DEL', found[1]) end
redis.call('DEL', KEYS[1], KEYS[2], p .. ':listening:' .. id)
redis.call('HSET', KEYS[1], 'ended_by', 'withdrawn')
redis.call('PEXPIRE', KEYS[1], 60000)
redis.call('ZREM', p .. ':leases', id)
redis.call('ZREM', p .. ':ready', id)
redis.call('ZREM', p .. ':queued', id)
redis.call('ZREM', key .. ':runs', id)
redis.call('LREM', key .. ':queue', 0, id)
if redis.call('HGET', key, 'temporary') == id then redis.call('DEL', key) end
pass_on(p, thread, id, clock(), {}, true)
if found[4] and redis.call('ZCARD', key .. ':runs') == 0 then thread_remove(p, thread, clock()) end
return 1
