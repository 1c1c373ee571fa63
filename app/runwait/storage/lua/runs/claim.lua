-- Claims the run that has been ready longest.
-- KEYS  1 ready, 2 what this process claimed last in this way
-- ARGV  prefix, owner (a process id), lease (ms), call (what tells this call from others), cancelled (to
--       claim it only if it was cancelled: then it takes no place to execute)
-- Returns {id, token, attempts, record, cancel, kept, graph, ms until the next is due, how often it was
-- handed back, thread id, 1 if a process listens to its events, how often its process was stopped}: record
-- is '' if it is large, to be read by itself; id is false if none is ready now, the eighth -1 if none is
-- to come; graph is
-- whose the run's thread is ('' for nobody's), false if it is not the run's turn on it. A repeated call
-- takes no second run.
local a = named(ARGV)
local p = a.prefix
local now = clock()
local function listened(id, thread)
  return redis.call('EXISTS', p .. ':listening:' .. id, p .. ':listening:' .. (thread or ''))
end
local function answer(id)
  local run = p .. ':run:' .. id
  local found = redis.call('HMGET', run, 'token', 'attempts', 'record', 'cancel', 'kept', 'thread_id',
    'handed_back', 'stopped')
  local there = found[5] and redis.call('HMGET', p .. ':thread:' .. found[6], 'active', 'graph') or {}
  local graph = there[1] == id and (there[2] or '')
  if #(found[3] or '') > 65536 then found[3] = '' end
  return {id, found[1], tonumber(found[2]), found[3], found[4], found[5], graph, 0,
    tonumber(found[7] or '0'), found[6] or '', listened(id, found[6]),
    tonumber(found[8] or '0')}
end
local last = redis.call('HMGET', KEYS[2], 'call', 'id')
if last[1] == a.call and redis.call('HGET', p .. ':run:' .. last[2], 'owner') == a.owner then
  return answer(last[2])
end
while true do
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  if #first == 0 then return {false, '', 0, '', false, false, false, -1, 0, '', 0, 0} end
  local id, due = first[1], tonumber(first[2])
  if due > now then return {false, '', 0, '', false, false, false, due - now, 0, '', 0, 0} end
  if a.cancelled and redis.call('HEXISTS', p .. ':run:' .. id, 'cancel') == 0 then
    return {false, '', 0, '', false, false, false, -1, 0, '', 0, 0}
  end
  redis.call('ZREM', KEYS[1], id)
  local run = p .. ':run:' .. id
  local found = redis.call('HMGET', run, 'record', 'ended_by', 'kept', 'cancel', 'thread_id', 'strategy')
  local turn = found[1] and not found[2]
  if turn and found[3] and not found[4] then
    -- It was scheduled, unless it has its thread already.
    pass_on_from_gone(p, found[5], now)
    local there = redis.call('HMGET', p .. ':thread:' .. found[5], 'status', 'active')
    if not there[1] then
      -- Redis dropped the thread; the run can only be ended.
      redis.call('HDEL', run, 'kept')
    else
      turn = there[2] == id or take_turn(p, found[5], id, there[2], found[6], now)
    end
  end
  if turn then
    lease_to(p, id, a.owner, a.lease, now)
    announce(p, id)
    -- Those who wait for it in this process need not be told.
    redis.call('SREM', p .. ':waiting:' .. id, a.owner)
    redis.call('SREM', p .. ':listening:' .. id, a.owner)
    redis.call('HINCRBY', run, 'attempts', 1)
    redis.call('HSET', KEYS[2], 'call', a.call, 'id', id)
    redis.call('PEXPIRE', KEYS[2], a.lease)
    return answer(id)
  end
end
