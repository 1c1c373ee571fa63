-- Counts a request. A repeated call counts it again: that lets in one less, for a while.
-- KEYS  1 the counter
-- ARGV  ttl (in ms, from its first request on)
-- Returns {how many there were, ms until they are forgotten}.
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], named(ARGV).ttl) end
return {count, redis.call('PTTL', KEYS[1])}
