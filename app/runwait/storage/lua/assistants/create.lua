-- Records a new assistant, with its first version.
-- KEYS  1 the assistant's hash
-- ARGV  prefix, id (the assistant's), change (its id), entry
-- Returns {1, assistant} if this made it (also when repeated), {0, assistant as it stands} if it was
-- there already; the assistant as assistant_read gives it.
local a = named(ARGV)
local p, id, entry = a.prefix, a.id, cjson.decode(a.entry)
if redis.call('EXISTS', KEYS[1]) == 0 then
  local now = assistant_now()
  redis.call('HSET', KEYS[1], 'created', now, 'updated', now, 'version', 1, 'last', 1,
    'name', entry.name, 'v:1', a.entry, 't:1', now, 'by:1', a.change)
  assistant_index('ZADD', p, id, entry, now, now)
end
local made = redis.call('HGET', KEYS[1], 'by:1') == a.change and 1 or 0
return {made, assistant_read(p, id)}
