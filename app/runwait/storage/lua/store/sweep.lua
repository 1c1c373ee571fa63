-- Removes items that have expired, with all their index entries.
-- KEYS  1 expiry
-- ARGV  1 prefix of all keys
-- Returns how many: STORE_DUE if there may be more.
return store_expire(ARGV[1], (store_clock()))
