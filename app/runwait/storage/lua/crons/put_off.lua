-- Has a cron that could not be started looked at later; the time that it is due stays.
-- KEYS  1 crons by the ms when they are due
-- ARGV  prefix, id, pause (ms)
-- Returns 1.
local a = named(ARGV)
redis.call('ZADD', KEYS[1], 'XX', clock() + a.pause, a.id)
return 1
