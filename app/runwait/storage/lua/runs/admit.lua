-- Takes in a run: starts it here, or lets it wait for its time, its turn, or a free process.
-- KEYS  1 run hash, 2 idempotency hash, or the run hash again where there is no key
-- ARGV  1 prefix of all keys, 2 run id, 3 thread id, 4 lease in ms, 5 owner (a process id), 6 record,
--       7 updated_at, 8 multitask strategy, 9 '1' if this process has a place for it, 10 ms until it is
--       due, 11 the request's fingerprint, 12 the idempotency key's life in ms, 13 the thread's
--       metadata, and for a thread that outlives the run (else ''): 14 'create' or 'reject' where there
--       is none, 'again' for a run that Redis lost, 15 the index terms, 16 its idle life in ms or '',
--       17 the graph's and assistant's ids, 18 the thread's metadata as read before, or '': they are
--       replaced only if they still stand
-- Returns {verdict, ...}: 'running' and the token; 'pending'; and where nothing was recorded: 'ended'
-- (before), 'missing' (no thread), 'busy' (to be rejected), 'doomed' and a token (the old thread of
-- this id has to be cleaned away first), 'metadata' and what the thread has (it must be given with
-- the graph's and assistant's ids laid over), 'replayed', run id, thread id and document (the key's
-- run ended), 'in flight', run id and thread id (it has not), 'other' (the key had another request).
-- A repeated call returns the same.
local p, id, thread, owner = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local kept, keyed = ARGV[14] ~= '', ARGV[11] ~= ''
local key = p .. ':thread:' .. thread
local found = redis.call('HMGET', KEYS[1], 'owner', 'token', 'record', 'ended_by')
if found[4] then return {'ended'} end
if found[3] then
  if found[1] == owner then return {'running', found[2]} end
  return {'pending'}
end
-- It was another process's, ended there, and was removed since.
if has_lapsed(p, id) then return {'missing'} end
local now = clock()
if keyed and redis.call('HGET', KEYS[2], 'run_id') ~= id then
  local before = answer_to_key(p, KEYS[2], ARGV[11])
  if before then return before end
end
local active
if kept then
  local there = redis.call('HMGET', key, 'status', 'temporary', 'active', 'metadata', 'graph')
  if not there[1] or there[2] then
    if there[2] or ARGV[14] == 'reject' then return {'missing'} end
    if ARGV[14] == 'again' and redis.call('EXISTS', p .. ':gone:' .. thread) == 1 then return {'missing'} end
    local doomed = thread_doomed(p, thread)
    if doomed then return {'doomed', doomed} end
    thread_create(p, thread, now, ARGV[13], ARGV[15], ARGV[16], '{}')
    redis.call('HSET', KEYS[1], 'made_thread', '1')
    redis.call('HSET', key, 'graph', ARGV[17])
  end
  active = there[3]
  if active and ARGV[8] == 'reject' then return {'busy'} end
  -- The thread is this graph's from now on, if it is the run's turn; else once it is.
  if there[1] and not active and tonumber(ARGV[10]) <= 0 then
    local seen = become(p, thread, now, ARGV[17], ARGV[13], ARGV[15], ARGV[18])
    if seen then return {'metadata', seen} end
  end
  redis.call('HSET', KEYS[1], 'kept', '1', 'strategy', ARGV[8])
  redis.call('ZADD', key .. ':runs', now, id)
else
  redis.call('HSET', key, 'temporary', id, 'status', 'busy', 'metadata', ARGV[13], 'created', now,
    'updated', now)
end
redis.call('HSET', KEYS[1], 'record', ARGV[6], 'updated_at', ARGV[7], 'thread_id', thread, 'attempts', 0)
if keyed then
  -- It lives for as long as the run does; its time is counted from the end.
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], 'request', ARGV[11], 'run_id', id, 'thread_id', thread)
  redis.call('HSET', KEYS[1], 'idempotency', KEYS[2], 'idempotency_ttl', ARGV[12])
end
local delay = tonumber(ARGV[10])
if delay <= 0 then
  if active then
    take_turn(p, thread, id, active, ARGV[8], now)
  elseif kept then
    begin_turn(p, thread, id, now)
  end
  if not active and ARGV[9] == '1' then
    redis.call('HSET', KEYS[1], 'attempts', 1)
    return {'running', own(p, id, owner, ARGV[4], now)}
  end
end
redis.call('HSET', KEYS[1], 'status', 'pending')
redis.call('SADD', p .. ':waiting:' .. id, owner)
if delay > 0 or not active then make_ready(p, id, now + math.max(delay, 0)) end
return {'pending'}
