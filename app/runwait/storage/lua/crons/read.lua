-- Reads crons.
-- KEYS  the crons' hashes
-- ARGV  names of fields
-- Returns {Redis's time in ms, the values of each, ...}.
local rows = {clock()}
for _, key in ipairs(KEYS) do table.insert(rows, redis.call('HMGET', key, unpack(ARGV))) end
return rows
