-- What waits, and for how long; changes nothing.
-- KEYS  1 leases, 2 ready, 3 queued
-- ARGV  prefix
-- Returns how many runs {execute, wait for a place, wait for their time, wait for their thread}, for how
-- many ms the first of those that wait for a place, and for their thread, has waited (0 for none); how
-- many webhooks are {to be delivered, given up}.
local p = named(ARGV).prefix
local now = clock()
local due = redis.call('ZCOUNT', KEYS[2], '-inf', now)
-- One that is only to be ended is due since 1970.
local function age(key)
  local first = redis.call('ZRANGEBYSCORE', key, '(0', now, 'WITHSCORES', 'LIMIT', 0, 1)
  return first[2] and now - first[2] or 0
end
local webhooks = 0
for _, receiver in ipairs(redis.call('ZRANGE', p .. ':outbox', 0, 1000)) do
  webhooks = webhooks + redis.call('ZCARD', p .. ':outbox:' .. receiver)
end
return {redis.call('ZCARD', KEYS[1]), due, redis.call('ZCARD', KEYS[2]) - due, redis.call('ZCARD', KEYS[3]),
  age(KEYS[2]), age(KEYS[3]), webhooks, redis.call('ZCARD', p .. ':webhooks:dead')}
