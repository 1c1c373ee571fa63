-- Ends an attempt that did not deliver: the next one is due later, or there is none.
-- KEYS  1 webhook, 2 dead letters
-- ARGV  1 tag of all keys, 2 run id, 3 the claim, 4 ms until the next attempt, '' if there is to be
--       none, 5 what happened, 6 ms that dead letters are kept
-- Returns 1, or 0 if the claim is not in force any more, which changes nothing.
local p, id = ARGV[1], ARGV[2]
local found = redis.call('HMGET', KEYS[1], 'claim', 'receiver', 'settled')
if found[3] == ARGV[3] then return 1 end
if found[1] ~= ARGV[3] then return 0 end
local now = clock()
redis.call('HDEL', KEYS[1], 'claim')
redis.call('HSET', KEYS[1], 'settled', ARGV[3], 'error', ARGV[5])
if ARGV[4] ~= '' then
  outbox_due(p, id, found[2], now + ARGV[4])
  return 1
end
outbox_leave(p, id, found[2])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('ZADD', KEYS[2], now, id)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[6])
return 1
