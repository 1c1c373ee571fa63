-- A process's beat: renews the leases of its runs, and looks for runs whose process is gone.
-- KEYS  1 leases, 2 beat hash, 3.. hashes of the process's runs
-- ARGV  1 lease in ms, 2.. ids of the process's runs, in the order of their hashes
-- Returns {ids without a record, ids to be cancelled, ids whose lease lapsed}.
-- A beat that finds the last one by anyone older than half a lease forbids the third list for one
-- lease: it was Redis that was away, not the processes.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(ARGV[1])
local last = redis.call('HGET', KEYS[2], 'at')
if not last or now - last > lease / 2 then redis.call('HSET', KEYS[2], 'quiet_until', now + lease) end
redis.call('HSET', KEYS[2], 'at', now)
local missing, cancelled = {}, {}
for i = 2, #ARGV do
  local run = KEYS[i + 1]
  if redis.call('EXISTS', run) == 0 then
    table.insert(missing, ARGV[i])
  else
    if redis.call('ZSCORE', KEYS[1], ARGV[i]) then redis.call('ZADD', KEYS[1], now + lease, ARGV[i]) end
    if redis.call('HEXISTS', run, 'cancel') == 1 then table.insert(cancelled, ARGV[i]) end
  end
end
local lapsed = {}
if now >= tonumber(redis.call('HGET', KEYS[2], 'quiet_until')) then
  lapsed = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)
end
return {missing, cancelled, lapsed}
