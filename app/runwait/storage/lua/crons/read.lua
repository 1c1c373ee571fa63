-- Reads crons.
-- KEYS  the crons' hashes
-- ARGV  fields  of the records
-- Returns {Redis's time in ms, the values of each, ...}.
local rows, fields = {clock()}, named(ARGV).fields
for _, key in ipairs(KEYS) do table.insert(rows, redis.call('HMGET', key, unpack(fields))) end
return rows
