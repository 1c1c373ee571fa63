-- Makes a dead letter due again, with all attempts before it.
-- KEYS  1 webhook, 2 dead letters
-- ARGV  prefix, run
-- Returns 1 if the webhook is one to be delivered now, 0 if there is no such one.
local a = named(ARGV)
local p, id = a.prefix, a.run
local receiver = redis.call('HGET', KEYS[1], 'receiver')
if not receiver then return 0 end
if redis.call('ZREM', KEYS[2], id) == 1 then
  redis.call('PERSIST', KEYS[1])
  redis.call('HSET', KEYS[1], 'attempts', 0, 'since', clock())
  outbox_due(p, id, receiver, clock())
  redis.pcall('PUBLISH', p .. ':told:all', 'webhook')
end
return 1
