-- Removes a webhook that was delivered, whoever has claimed it meanwhile.
-- KEYS  1 webhook, 2 dead letters
-- ARGV  1 tag of all keys, 2 run id
-- Returns 1.
local receiver = redis.call('HGET', KEYS[1], 'receiver')
if receiver then
  outbox_leave(ARGV[1], ARGV[2], receiver)
  redis.call('ZREM', KEYS[2], ARGV[2])
  redis.call('UNLINK', KEYS[1])
  redis.call('HSET', KEYS[1], 'done', 1)
  redis.call('PEXPIRE', KEYS[1], OUTBOX_DONE)
end
return 1
