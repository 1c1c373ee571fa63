-- Ends a run: record, result, lease and waiters in one step. The first end stands.
-- KEYS  1 run hash, 2 result, 3 leases, 4 waiting processes
-- ARGV  1 run id, 2 ender (who ends it: a process id), 3 result's time to live in ms (0: only for
--       those who wait now), 4 its bound in ms where that is 0, 5 prefix of the processes' channels,
--       6 '1' to end it only if its lease has lapsed, 7 document, 8 status, 9 updated_at,
--       10 record, or '' to leave it as it was created
-- Returns 1 if this end stands (also when repeated), 0 if another one does or the lease still holds,
-- -1 if the record has to be given, since it is not there.
local standing = redis.call('HMGET', KEYS[1], 'ended_by', 'record')
if standing[1] then
  if standing[1] == ARGV[2] then return 1 end
  return 0
end
if ARGV[6] == '1' then
  local time = redis.call('TIME')
  local expiry = redis.call('ZSCORE', KEYS[3], ARGV[1])
  if not expiry or tonumber(expiry) > time[1] * 1000 + math.floor(time[2] / 1000) then return 0 end
end
local waiting = redis.call('SMEMBERS', KEYS[4])
local ttl = tonumber(ARGV[3])
if ttl == 0 and #waiting == 0 then
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('DEL', KEYS[1], KEYS[2])
  return 1
end
if ARGV[10] ~= '' then
  redis.call('HSET', KEYS[1], 'record', ARGV[10])
elseif not standing[2] then
  return -1
end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[1], 'ended_by', ARGV[2], 'status', ARGV[8], 'updated_at', ARGV[9])
if ttl == 0 then
  ttl = tonumber(ARGV[4])
  redis.call('HSET', KEYS[1], 'once', '1')
  redis.call('PEXPIRE', KEYS[4], ttl)
elseif #waiting > 0 then
  redis.call('DEL', KEYS[4])
end
redis.call('SET', KEYS[2], ARGV[7], 'PX', ttl)
redis.call('PEXPIRE', KEYS[1], ttl)
for _, process in ipairs(waiting) do redis.call('PUBLISH', ARGV[5] .. process, 'ended ' .. ARGV[1]) end
return 1
