-- Removes items that have expired, with all their index entries.
-- KEYS  1 expiry
-- ARGV  prefix
-- Returns how many: STORE_DUE if there may be more.
return store_expire(named(ARGV).prefix, (store_clock()))
