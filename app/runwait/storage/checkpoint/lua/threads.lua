-- A part of the keys that match a pattern, for the few questions that name no thread.
-- ARGV  1 cursor, '0' at first, 2 pattern
-- Returns {next cursor or '0', keys}, among which one may come twice.
local cursor, pattern = unpack(ARGV)
return redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', 1000)
