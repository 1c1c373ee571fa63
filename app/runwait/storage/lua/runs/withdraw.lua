-- Takes back the admission of a run of which nobody was told: of one that was answered before it ended, a
-- request may have been told that came again with the key. Then another process executes it.
-- What is left is a mark, for the case that the admission itself arrives late.
-- KEYS  1 run hash, 2 waiting processes
-- ARGV  prefix, id, thread, owner (the process id that admitted it)
-- Returns 1; 0 where another process has it: one without an idempotency key is then stopped and leaves
-- nothing on its thread; one with a key goes on, since who sends the request again is to get its answer.
local a = named(ARGV)
local p, id, thread = a.prefix, a.id, a.thread
local key = p .. ':thread:' .. thread
local found = redis.call('HMGET', KEYS[1], 'idempotency', 'owner', 'ended_by', 'made_thread', 'answered')
local used = found[1] or found[5]
if found[3] or found[2] and found[2] ~= a.owner then
  if not used then request_cancel(p, id, 'rollback') end
  return 0
end
if used and redis.call('HGET', used, 'run_id') == id then
  if found[5] and redis.call('HEXISTS', used, 'told') == 1 then
    if found[2] then hand_back(p, id, clock()) end
    return 0
  end
  redis.call('DEL', used)
end
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
