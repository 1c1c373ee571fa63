-- A process's beat: renews the leases of its runs, and makes runs ready whose process is gone.
-- KEYS  1 leases, 2 beat hash
-- ARGV  prefix, lease (ms), runs (of each of the process's runs its id and token, as JSON)
-- Returns {ids without a record, ids to be cancelled and how, ids that are another process's now or
-- were ended by one, how many of others' were made ready, Redis's time in ms}.
-- A beat that finds the last one by anyone older than half a lease takes no run from anyone for one
-- lease: it was Redis that was away, not the processes.
local a = named(ARGV)
local p, lease, runs = a.prefix, tonumber(a.lease), cjson.decode(a.runs)
local now = clock()
local last = redis.call('HGET', KEYS[2], 'at')
local ahead = tonumber(last or '0') - now
if ahead > lease then
  -- Redis's clock was set back: what is due by it is as far away as before.
  local function move(key)
    local found = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 1, #found, 2 do redis.call('ZADD', key, found[i + 1] - ahead, found[i]) end
  end
  move(p .. ':ready')
  for _, receiver in ipairs(redis.call('ZRANGE', p .. ':outbox', 0, -1)) do
    move(p .. ':outbox:' .. receiver)
  end
  move(p .. ':outbox')
  redis.pcall('PUBLISH', p .. ':told:all', 'ready')
  redis.pcall('PUBLISH', p .. ':told:all', 'webhook')
end
-- No lease ends later than this one would, and none is quiet for longer, or the clock was set back.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now + lease, '+inf')) do
  redis.call('ZADD', KEYS[1], now + lease, id)
end
if tonumber(redis.call('HGET', KEYS[2], 'quiet_until') or '0') > now + lease then
  redis.call('HSET', KEYS[2], 'quiet_until', now + lease)
end
if not last or now - last > lease / 2 then redis.call('HSET', KEYS[2], 'quiet_until', now + lease) end
redis.call('HSET', KEYS[2], 'at', now)
local missing, cancelled, lost, recovered = {}, {}, {}, 0
for i = 1, #runs, 2 do
  local id, token = runs[i], runs[i + 1]
  local found = redis.call('HMGET', p .. ':run:' .. id, 'record', 'token', 'ended_by', 'cancel', 'owner')
  -- Who is taken for lost is the owner no longer. Else it is the leases that Redis dropped.
  local leased = found[5] and not found[3] or redis.call('ZSCORE', KEYS[1], id)
  if not found[1] then
    table.insert(has_lapsed(p, id) and lost or missing, id)
  elseif found[2] ~= token or not leased then
    if not found[3] or found[2] ~= token then table.insert(lost, id) end
  else
    redis.call('ZADD', KEYS[1], now + lease, id)
    if found[4] then
      table.insert(cancelled, id)
      table.insert(cancelled, found[4])
    end
  end
end
if now >= tonumber(redis.call('HGET', KEYS[2], 'quiet_until')) then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)) do
    redis.call('ZREM', KEYS[1], id)
    local run = p .. ':run:' .. id
    if redis.call('EXISTS', run) == 1 then
      -- If it only slept, clients still wait there, and it must not take the run for one that Redis lost.
      local owner = redis.call('HGET', run, 'owner')
      if owner then redis.call('SADD', p .. ':waiting:' .. id, owner) end
      redis.call('SET', p .. ':lapsed:' .. id, '1', 'EX', 86400)
      redis.call('HDEL', run, 'owner')
      redis.call('HSET', run, 'status', 'pending')
      make_ready(p, id, now)
      recovered = recovered + 1
    end
  end
end
return {missing, cancelled, lost, recovered, now}
