-- Deletes an assistant with all its versions and crons.
-- KEYS  1 the assistant's hash, 2 the mark that a deletion leaves for a while
-- ARGV  prefix, id (the assistant's), change (its id), mark_ttl (in ms)
-- Returns 1 if this deleted it (also when repeated), 0 if it was not there.
local a = named(ARGV)
local p, id = a.prefix, a.id
if redis.call('GET', KEYS[2]) == a.change then return 1 end
local record = assistant_read(p, id)
if not record then return 0 end
assistant_index('ZREM', p, id, cjson.decode(record[6]), record[2], record[3])
for _, cron in ipairs(crons_with(p, 'assistant=' .. id)) do cron_remove(p, cron) end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], a.change, 'PX', a.mark_ttl)
return 1
