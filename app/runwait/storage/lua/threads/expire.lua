-- Removes threads that were not used for as long as they live.
-- KEYS  1 expiry
-- ARGV  prefix, most (to remove)
-- Returns 1 if there may be more, else 0.
local a = named(ARGV)
return threads_expire(a.prefix, clock(), a.most) and 1 or 0
