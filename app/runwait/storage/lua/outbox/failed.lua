-- Ends an attempt that did not deliver: the next one is due later, or there is none.
-- KEYS  1 webhook, 2 dead letters
-- ARGV  prefix, run, claim, error
--       pause  ms until the next attempt, if there is to be one
--       ttl    ms that dead letters are kept
-- Returns 1, or 0 if the claim is not in force any more, which changes nothing.
local a = named(ARGV)
local p, id = a.prefix, a.run
local found = redis.call('HMGET', KEYS[1], 'claim', 'receiver', 'settled')
if found[3] == a.claim then return 1 end
if found[1] ~= a.claim then return 0 end
local now = clock()
redis.call('HDEL', KEYS[1], 'claim')
redis.call('HSET', KEYS[1], 'settled', a.claim, 'error', a.error)
if a.pause then
  outbox_due(p, id, found[2], now + a.pause)
  return 1
end
outbox_leave(p, id, found[2])
redis.call('PEXPIRE', KEYS[1], a.ttl)
redis.call('ZADD', KEYS[2], now, id)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - a.ttl)
return 1
