-- Lists dead letters, the newest first.
-- KEYS  1 dead letters
-- ARGV  prefix, ttl (ms that they are kept), skip, most (how many to pass over, and to list)
-- Returns a list of {run id, url, attempts, error, created, died}, times in ms.
local a = named(ARGV)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', clock() - a.ttl)
local found = {}
local ids = redis.call('ZREVRANGE', KEYS[1], a.skip, a.skip + a.most - 1, 'WITHSCORES')
for i = 1, #ids, 2 do
  local fields = redis.call('HMGET', outbox_key(a.prefix, ids[i]), 'url', 'attempts', 'error', 'created')
  if fields[1] then
    table.insert(found, {ids[i], fields[1], fields[2], fields[3], fields[4], ids[i + 1]})
  end
end
return found
