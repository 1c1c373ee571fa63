-- Gives a claimed webhook back, as if it had not been claimed, for another process to take at once.
-- KEYS  1 webhook
-- ARGV  prefix, run, claim
-- Returns 1.
local a = named(ARGV)
local found = redis.call('HMGET', KEYS[1], 'claim', 'receiver')
if found[1] == a.claim then
  redis.call('HDEL', KEYS[1], 'claim')
  redis.call('HINCRBY', KEYS[1], 'attempts', -1)
  outbox_due(a.prefix, a.run, found[2], clock())
  redis.pcall('PUBLISH', a.prefix .. ':told:all', 'webhook')
end
return 1
