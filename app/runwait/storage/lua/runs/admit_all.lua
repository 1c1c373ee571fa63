-- Admits runs of one request, each as admit.lua does, whose body is the function `admit`. A request for many
-- is admitted part by part; its idempotency key knows how far that came.
-- KEYS  1 idempotency hash of them all, if there is a key
-- ARGV  prefix
--       runs   of each the key and the arguments that admit.lua is given, as JSON
--   with an idempotency key:
--       fingerprint, key_ttl   as there
--       id, thread             of the request's first run, with which the key goes
--       answer                 to the request; with its first part alone
--       so_far                 how many of its runs are there with this part
--       more                   whether another part follows
-- Returns {'pending'}; or of the key, what admit.lua says where it was used before, and last how many of the
-- runs that the answer names are there, or '' for all.
local a = named(ARGV)
local mine = a.fingerprint and redis.call('HGET', KEYS[1], 'run_id') == a.id
if a.answer and not mine then
  local before = answer_to_key(a.prefix, KEYS[1], a.fingerprint)
  if before then
    table.insert(before, redis.call('HGET', KEYS[1], 'admitted') or '')
    return before
  end
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'request', a.fingerprint, 'run_id', a.id, 'thread_id', a.thread, 'document',
    a.answer, 'admitted', '0')
  redis.call('PEXPIRE', KEYS[1], a.key_ttl)
  mine = true
end
for _, run in ipairs(cjson.decode(a.runs)) do admit({run[1], run[1]}, run[2]) end
local before = mine and tonumber(redis.call('HGET', KEYS[1], 'admitted') or 'inf')
if mine and before < tonumber(a.so_far) then
  if a.more then
    redis.call('HSET', KEYS[1], 'admitted', a.so_far)
  else
    redis.call('HDEL', KEYS[1], 'admitted')
  end
end
return {'pending'}
