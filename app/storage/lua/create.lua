-- Records a run that starts now, and takes its lease.
-- KEYS  1 run hash, 2 leases
-- ARGV  1 run id, 2 lease in ms, 3 owner (a process id), 4 record, 5 status, 6 updated_at
-- Returns 1 if recorded, 0 if a record stood there already (a repeated call, or one that
-- comes after the run's end), which is left as it is.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'owner', ARGV[3], 'record', ARGV[4], 'status', ARGV[5], 'updated_at', ARGV[6])
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
return 1
