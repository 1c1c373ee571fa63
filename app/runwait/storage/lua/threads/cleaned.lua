-- Notes that the checkpoints of a removed thread are deleted.
-- KEYS  1 what removed threads left
-- ARGV  id, token (the fencing token with which they were deleted)
-- Returns 1.
local a = named(ARGV)
local token = redis.call('ZSCORE', KEYS[1], a.id)
if token and string.format('%.0f', token) == a.token then redis.call('ZREM', KEYS[1], a.id) end
return 1
