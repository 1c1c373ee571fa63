-- Notes that the checkpoints of a removed thread are deleted.
-- KEYS  1 what removed threads left
-- ARGV  1 thread id, 2 fencing token with which they were deleted
-- Returns 1.
local token = redis.call('ZSCORE', KEYS[1], ARGV[1])
if token and string.format('%.0f', token) == ARGV[2] then redis.call('ZREM', KEYS[1], ARGV[1]) end
return 1
