-- Reads a counter.
-- KEYS  1 the counter
-- Returns {how many requests there were, ms until they are forgotten}.
return {tonumber(redis.call('GET', KEYS[1]) or '0'), redis.call('PTTL', KEYS[1])}
