-- Ends a run: record, result, lease, waiters and thread in one step. The first end stands.
-- KEYS  1 run hash, 2 result, 3 waiting processes
-- ARGV  1 prefix of all keys, 2 run id, 3 thread id, 4 ender (who ends it: a process id), 5 the run's
--       fencing token, '' if it has none, 6 result's time to live in ms (0: only for those who wait
--       now), 7 for how many ms those who wait now may have it, whatever becomes of it, 8 document, 9 status,
--       10 updated_at, 11 record, or '' to leave it as it was created, 12 '1' if the run's thread
--       outlives it, 13 '1' if it was rolled back: nobody but those who wait is to see it, 14 the
--       thread's status, '' for what it was before the run, 15 the run's error, '' for none, which is
--       the thread's too if that has a new status, 16 the webhook's URL, '' for none, 17 what it is sent
-- Returns 1 if this end stands (also when repeated), 0 if another one does or the run is another
-- process's now, -1 if the record has to be given, since it is not there.
local p, id, thread = ARGV[1], ARGV[2], ARGV[3]
local standing = redis.call('HMGET', KEYS[1], 'ended_by', 'record', 'token', 'owner', 'idempotency',
  'idempotency_ttl', 'undone', 'kept')
local ender = ARGV[4] .. ':' .. ARGV[5]
if standing[1] then
  if standing[1] == ender then return 1 end
  return 0
end
-- Who was never told its token can still be the owner.
local owned = standing[3] == ARGV[5] or ARGV[5] == '' and standing[4] == ARGV[4]
if standing[2] and not owned then return 0 end
if not standing[2] and (ARGV[12] == '1' or has_lapsed(p, id)) then return 0 end
-- Its thread may have been removed since: then nobody but those who wait is to see it either.
local kept, undone = ARGV[12] == '1' and standing[8], ARGV[13] == '1' or standing[7]
local ttl = tonumber(ARGV[6])
local waiting = redis.call('SMEMBERS', KEYS[3])
local now = clock()
local last = not kept and ttl == 0 and #waiting == 0
if not last and ARGV[11] == '' and not standing[2] then return -1 end
if ARGV[16] ~= '' then outbox_add(p, id, now, ARGV[16], ARGV[17]) end
if standing[5] and redis.call('HGET', standing[5], 'run_id') == id then
  redis.call('HSET', standing[5], 'document', ARGV[8])
  redis.call('PEXPIRE', standing[5], standing[6])
end
if not kept then
  if redis.call('HGET', p .. ':thread:' .. thread, 'temporary') == id then
    redis.call('DEL', p .. ':thread:' .. thread)
  end
  if last then
    redis.call('ZREM', p .. ':leases', id)
    redis.call('DEL', KEYS[1], KEYS[2])
    return 1
  end
end
if ARGV[11] ~= '' then redis.call('HSET', KEYS[1], 'record', ARGV[11], 'thread_id', thread) end
redis.call('ZREM', p .. ':leases', id)
redis.call('HSET', KEYS[1], 'ended_by', ender, 'status', ARGV[9], 'updated_at', ARGV[10])
if kept then
  local fields, error = {}, ARGV[15] ~= '' and ARGV[15]
  if error then redis.call('HSET', KEYS[1], 'error', error) end
  if ARGV[14] ~= '' then fields = {status = ARGV[14], error = error, state_updated = now} end
  pass_on(p, thread, id, now, fields, undone)
end
local once = ttl == 0
if undone then
  once = true
  redis.call('HSET', KEYS[1], 'undone', '1')
  redis.call('ZREM', p .. ':thread:' .. thread .. ':runs', id)
end
if once then
  ttl = tonumber(ARGV[7])
  redis.call('HSET', KEYS[1], 'once', '1')
end
redis.call('PEXPIRE', KEYS[3], ARGV[7])
redis.call('SET', KEYS[2], ARGV[8], 'PX', ttl)
if not kept or undone then redis.call('PEXPIRE', KEYS[1], ttl) end
for _, process in ipairs(waiting) do redis.call('PUBLISH', p .. ':told:' .. process, 'ended ' .. id) end
return 1
