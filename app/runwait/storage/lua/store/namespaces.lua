-- A page of the namespaces that have items, in lexical order.
-- KEYS  1 namespaces
-- ARGV  1 prefix of all keys, 2 and 3 bounds as of ZRANGEBYLEX, 4 namespaces at most
-- Returns them. Returns nil, to be called again, while more items have expired than one call removes.
if store_expire(ARGV[1], (store_clock())) == STORE_DUE then return false end
return redis.call('ZRANGEBYLEX', KEYS[1], ARGV[2], ARGV[3], 'LIMIT', 0, ARGV[4])
