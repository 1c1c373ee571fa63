-- A page of the namespaces that have items, in lexical order.
-- KEYS  1 namespaces
-- ARGV  prefix, lower, upper (bounds as of ZRANGEBYLEX), most (namespaces)
-- Returns them. Returns nil, to be called again, while more items have expired than one call removes.
local a = named(ARGV)
if store_expire(a.prefix, (store_clock())) == STORE_DUE then return false end
return redis.call('ZRANGEBYLEX', KEYS[1], a.lower, a.upper, 'LIMIT', 0, a.most)
