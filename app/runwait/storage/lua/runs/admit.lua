-- Admits a run: starts it here, or lets it wait for its time, its turn, or a free process.
-- KEYS  1 run hash, 2 idempotency hash, or the run hash again where there is no key
-- ARGV  prefix, id, thread, owner (a process id), lease (ms), record, updated_at, strategy
--       may_start     this process has a place for it
--       followed      somebody in this process follows it
--       streamed      and is to be told of its events
--       delay         ms until it is due
--       losses        how often it was lost, if it is recorded again
--       metadata      the thread's
--   with an idempotency key:
--       fingerprint   of the request
--       key_ttl       the key's life in ms
--       answer        to the request, where that does not wait for the run's end
--   for a thread that outlives the run:
--       missing       where there is no such thread: 'create', 'reject', or 'again' for a run that Redis
--                     lost, which does not bring back a thread that was removed
--       terms         the metadata's index terms
--       thread_ttl    its idle life in ms
--       prunes        ms without use after which it loses all but its latest state
--       graph         the graph's and assistant's ids
--       seen          the thread's metadata as read before: they are replaced only if they still stand
-- Returns {verdict, ...}: 'running', the token and 1 if its thread is followed; 'pending'; and where nothing was recorded: 'ended'
-- (before), 'missing' (no thread), 'busy' (to be rejected), 'left over' and a token (the old thread of
-- this id has to be cleaned away first), 'metadata' and what the thread has (it must be given with
-- the graph's and assistant's ids laid over), 'replayed', run id, thread id and document (the key's
-- run ended), 'in flight', run id and thread id (it has not), 'other' (the key had another request).
-- A repeated call returns the same.
local a = named(ARGV)
local p, id, thread, owner = a.prefix, a.id, a.thread, a.owner
local kept, losses = a.missing, tonumber(a.losses)
local key = p .. ':thread:' .. thread
local found = redis.call('HMGET', KEYS[1], 'owner', 'token', 'record', 'ended_by')
if found[4] then return {'ended'} end
if found[3] then
  if found[1] == owner then
    return {'running', found[2], redis.call('EXISTS', p .. ':listening:' .. thread)}
  end
  return {'pending'}
end
-- It was another process's, ended there, and was removed since.
if has_lapsed(p, id) then return {'missing'} end
local now = clock()
if a.fingerprint and redis.call('HGET', KEYS[2], 'run_id') ~= id then
  local before = answer_to_key(p, KEYS[2], a.fingerprint)
  if before then return before end
end
local delay = tonumber(a.delay or '0')
-- It has its turn already where only its record was lost.
local active, has_turn
if kept then
  thread_expire(p, thread, now)
  -- A run that is recorded again has its own turn still.
  if redis.call('HGET', key, 'active') ~= id then pass_on_from_gone(p, thread, now) end
  local there = redis.call('HMGET', key, 'status', 'temporary', 'active', 'metadata', 'graph')
  if not there[1] or there[2] then
    if there[2] or a.missing == 'reject' then return {'missing'} end
    if a.missing == 'again' and redis.call('EXISTS', p .. ':gone:' .. thread) == 1 then return {'missing'} end
    local left_over = thread_left_over(p, thread)
    if left_over then return {'left over', left_over} end
    thread_create(p, thread, now, a.metadata, a.terms, a.thread_ttl or '', a.prunes or '', '{}')
    redis.call('HSET', KEYS[1], 'made_thread', '1')
    redis.call('HSET', key, 'graph', a.graph)
  end
  has_turn = there[3] == id
  active = not has_turn and there[3]
  if there[1] == 'busy' and not has_turn and a.strategy == 'reject' then return {'busy'} end
  -- The thread is this graph's from now on, if it is the run's turn; else once it is.
  if there[1] and not active and delay <= 0 then
    local seen = assign_thread(p, thread, now, a.graph, a.metadata, a.terms, a.seen)
    if seen then return {'metadata', seen} end
  end
  redis.call('HSET', KEYS[1], 'kept', '1', 'strategy', a.strategy)
  redis.call('ZADD', key .. ':runs', now, id)
else
  redis.call('HSET', key, 'temporary', id, 'status', 'busy', 'metadata', a.metadata, 'created', now,
    'updated', now)
end
redis.call('HSET', KEYS[1], 'record', a.record, 'updated_at', a.updated_at, 'thread_id', thread, 'attempts', losses)
if a.fingerprint then
  -- It lives for as long as the run does; its time is counted from the end.
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], 'request', a.fingerprint, 'run_id', id, 'thread_id', thread)
  if a.answer then
    redis.call('HSET', KEYS[2], 'document', a.answer)
    redis.call('PEXPIRE', KEYS[2], a.key_ttl)
    redis.call('HSET', KEYS[1], 'answered', KEYS[2])
  else
    redis.call('HSET', KEYS[1], 'idempotency', KEYS[2], 'idempotency_ttl', a.key_ttl)
  end
end
if delay > 0 then
  if kept then schedule(p, thread, id, now) end
else
  if kept and not has_turn then take_turn(p, thread, id, active, a.strategy, now) end
  if not active and a.may_start then
    redis.call('HSET', KEYS[1], 'attempts', losses + 1)
    return {'running', lease_to(p, id, owner, a.lease, now), announce(p, id)}
  end
end
redis.call('HSET', KEYS[1], 'status', 'pending')
if a.followed then redis.call('SADD', p .. ':waiting:' .. id, owner) end
if a.streamed then listen(p, id, owner) end
if delay > 0 or not active then make_ready(p, id, now + math.max(delay, 0)) end
return {'pending'}
