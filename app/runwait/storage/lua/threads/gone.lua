-- Whether a thread was removed, within the last hour.
-- KEYS  1 what marks it as gone
-- Returns 1 or 0.
return redis.call('EXISTS', KEYS[1])
