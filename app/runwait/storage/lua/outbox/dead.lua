-- Lists dead letters, the newest first.
-- KEYS  1 dead letters
-- ARGV  1 tag of all keys, 2 ms that they are kept, 3 most to list, 4 how many to pass over
-- Returns a list of {run id, url, attempts, error, created, died}, times in ms.
local p = ARGV[1]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', clock() - ARGV[2])
local found = {}
local ids = redis.call('ZREVRANGE', KEYS[1], ARGV[4], ARGV[4] + ARGV[3] - 1, 'WITHSCORES')
for i = 1, #ids, 2 do
  local fields = redis.call('HMGET', outbox_key(p, ids[i]), 'url', 'attempts', 'error', 'created')
  if fields[1] then
    table.insert(found, {ids[i], fields[1], fields[2], fields[3], fields[4], ids[i + 1]})
  end
end
return found
