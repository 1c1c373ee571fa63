-- Ends a run: record, result, lease, waiters and thread in one step. The first end stands.
-- KEYS  1 run hash, 2 result, 3 waiting processes
-- ARGV  prefix, id, thread, owner (who ends it: a process id), document, status, updated_at
--       token         the run's fencing token, if it has one
--       result_ttl    the result's life in ms; 0: it is only for those who wait now
--       waiting_ttl   for how many ms those who wait now may have it, whatever becomes of it
--       record        to write it anew; else it stays as it is
--       kept          the run's thread outlives it
--       rolled_back   nobody but those who wait is to see it
--       thread_status the thread's, if not what it was before the run
--       error         the run's, which is the thread's too if that has a new status
--       events        the last of its log, each a name and its data, as JSON
--       event         the number of the first of them
--       attempt       how often it was started
--       webhook_url, webhook_body, webhook_trace  whom to notify, of what, and in which trace
-- Returns 1 if this end stands (also when repeated), 0 if another one does or the run is another
-- process's now, -1 if the record has to be given, since it is not there.
local a = named(ARGV)
local p, id, thread = a.prefix, a.id, a.thread
local token = a.token or ''
local standing = redis.call('HMGET', KEYS[1], 'ended_by', 'record', 'token', 'owner', 'idempotency',
  'idempotency_ttl', 'undone', 'kept')
local ender, unaware = a.owner .. ':' .. token, a.owner .. ':'
if standing[1] then
  -- Its owner may have recorded the same end when it was, or was not yet, told of its token.
  local same = standing[1] == ender or standing[1] == unaware
    or token == '' and standing[1]:sub(1, #unaware) == unaware
  return same and 1 or 0
end
-- Who was never told its token can still be the owner.
local owned = standing[3] == token or token == '' and standing[4] == a.owner
if standing[2] and not owned then return 0 end
if not standing[2] and (a.kept or has_lapsed(p, id)) then return 0 end
-- Its thread may have been removed since: then nobody but those who wait is to see it either.
local kept, undone = a.kept and standing[8], a.rolled_back or standing[7]
local ttl = tonumber(a.result_ttl)
local waiting = redis.call('SMEMBERS', KEYS[3])
local now = clock()
local last = not kept and ttl == 0 and #waiting == 0
if not last and not a.record and not standing[2] then return -1 end
if a.webhook_url then outbox_add(p, id, now, a.webhook_url, a.webhook_body, a.webhook_trace) end
if standing[5] and redis.call('HGET', standing[5], 'run_id') == id then
  redis.call('HSET', standing[5], 'document', a.document)
  redis.call('PEXPIRE', standing[5], standing[6])
end
if not kept then
  if redis.call('HGET', p .. ':thread:' .. thread, 'temporary') == id then
    redis.call('DEL', p .. ':thread:' .. thread)
  end
  if last then
    redis.call('ZREM', p .. ':leases', id)
    redis.call('DEL', KEYS[1], KEYS[2], p .. ':events:' .. id)
    return 1
  end
end
if a.record then redis.call('HSET', KEYS[1], 'record', a.record, 'thread_id', thread) end
redis.call('ZREM', p .. ':leases', id)
redis.call('HSET', KEYS[1], 'ended_by', ender, 'status', a.status, 'updated_at', a.updated_at)
if kept then
  local fields, error = {}, a.error or false
  if error then redis.call('HSET', KEYS[1], 'error', error) end
  if a.thread_status then fields = {status = a.thread_status, error = error, state_updated = now} end
  pass_on(p, thread, id, now, fields, undone)
end
local once = ttl == 0
if undone then
  once = true
  redis.call('HSET', KEYS[1], 'undone', '1')
  redis.call('ZREM', p .. ':thread:' .. thread .. ':runs', id)
end
if once then
  ttl = tonumber(a.waiting_ttl)
  redis.call('HSET', KEYS[1], 'once', '1')
end
redis.call('PEXPIRE', KEYS[3], a.waiting_ttl)
redis.call('SET', KEYS[2], a.document, 'PX', ttl)
if not kept or undone then redis.call('PEXPIRE', KEYS[1], ttl) end
local events = a.events and cjson.decode(a.events) or {}
for i, event in ipairs(events) do
  redis.call('XADD', p .. ':events:' .. id, token .. '-' .. (a.event + i - 1), 'n', event[1], 'd', event[2],
    'a', a.attempt)
end
-- The next run's ids are above this one's in their sums too, however clocks differ.
if events[1] then raise_tokens(p, token + a.event + #events) end
redis.call('PEXPIRE', p .. ':events:' .. id, ttl)
redis.call('DEL', p .. ':listening:' .. id)
for _, process in ipairs(waiting) do redis.pcall('PUBLISH', p .. ':told:' .. process, 'ended ' .. id) end
return 1
