-- Removes threads that were not used for as long as they live.
-- KEYS  1 expiry
-- ARGV  1 tag of all keys, 2 most to remove
-- Returns 1 if there may be more, else 0.
return threads_expire(ARGV[1], clock(), ARGV[2]) and 1 or 0
