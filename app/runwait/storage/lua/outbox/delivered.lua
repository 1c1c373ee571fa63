-- Removes a webhook that was delivered, whoever has claimed it meanwhile.
-- KEYS  1 webhook, 2 dead letters
-- ARGV  prefix, run
-- Returns 1.
local a = named(ARGV)
local receiver = redis.call('HGET', KEYS[1], 'receiver')
if receiver then
  outbox_leave(a.prefix, a.run, receiver)
  redis.call('ZREM', KEYS[2], a.run)
  redis.call('UNLINK', KEYS[1])
  redis.call('HSET', KEYS[1], 'done', 1)
  redis.call('PEXPIRE', KEYS[1], OUTBOX_DONE)
end
return 1
