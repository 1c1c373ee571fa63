-- Records a new assistant, with its first version.
-- KEYS  1 the assistant's hash
-- ARGV  1 tag, 2 assistant's id, 3 id of this change, 4 entry
-- Returns {1, assistant} if this made it (also when repeated), {0, assistant as it stands} if it was
-- there already; the assistant as assistant_read gives it.
local p, id = ARGV[1], ARGV[2]
if redis.call('EXISTS', KEYS[1]) == 0 then
  local now = assistant_now()
  redis.call('HSET', KEYS[1], 'created', now, 'updated', now, 'version', 1, 'last', 1,
    'name', cjson.decode(ARGV[4]).name, 'v:1', ARGV[4], 't:1', now, 'by:1', ARGV[3])
  assistant_index('ZADD', p, id, cjson.decode(ARGV[4]), now, now)
end
local made = redis.call('HGET', KEYS[1], 'by:1') == ARGV[3] and 1 or 0
return {made, assistant_read(p, id)}
