-- Admits runs, each as admit.lua does, whose body is the function `admit`.
-- KEYS  1 idempotency hash of them all, if there is a key
-- ARGV  prefix
--       runs   of each the key and the arguments that admit.lua is given, as JSON
--   with an idempotency key:
--       fingerprint, key_ttl, answer   as there; they go with the first run's ids
--       id, thread                     those
-- Returns {'pending'}; or of the key, what admit.lua says where it was used before.
local a = named(ARGV)
local runs = cjson.decode(a.runs)
if a.fingerprint then
  local before = answer_to_key(a.prefix, KEYS[1], a.fingerprint)
  if before then return before end
end
for _, run in ipairs(runs) do admit({run[1], run[1]}, run[2]) end
if a.fingerprint then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'request', a.fingerprint, 'run_id', a.id, 'thread_id', a.thread, 'document',
    a.answer)
  redis.call('PEXPIRE', KEYS[1], a.key_ttl)
  for _, run in ipairs(runs) do
    redis.call('HSET', run[1], 'answered', KEYS[1], 'answered_as', a.id)
  end
end
return {'pending'}
