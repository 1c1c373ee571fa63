-- Gives a claimed webhook back, as if it had not been claimed, for another process to take at once.
-- KEYS  1 webhook
-- ARGV  1 tag of all keys, 2 run id, 3 the claim
-- Returns 1.
local found = redis.call('HMGET', KEYS[1], 'claim', 'receiver')
if found[1] == ARGV[3] then
  redis.call('HDEL', KEYS[1], 'claim')
  redis.call('HINCRBY', KEYS[1], 'attempts', -1)
  outbox_due(ARGV[1], ARGV[2], found[2], clock())
  redis.pcall('PUBLISH', ARGV[1] .. ':told:all', 'webhook')
end
return 1
