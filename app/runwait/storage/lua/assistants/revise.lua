-- Adds a version to an assistant and makes it the current one, if nobody changed the assistant since
-- it was read.
-- KEYS  1 the assistant's hash
-- ARGV  prefix, id (the assistant's), change (its id), entry
--       version, last  as they were read
-- Returns the assistant as assistant_read gives it (also when repeated); 0 if it was changed, false
-- if it is gone.
local a = named(ARGV)
local p, id = a.prefix, a.id
local record = assistant_read(p, id)
if not record then return false end
local version = string.format('%d', a.last + 1)
if redis.call('HGET', KEYS[1], 'by:' .. version) == a.change then return record end
if record[4] ~= a.version or record[5] ~= a.last then return 0 end
local now = assistant_now()
redis.call('HSET', KEYS[1], 'last', version, 'v:' .. version, a.entry, 't:' .. version, now,
  'by:' .. version, a.change)
assistant_turn(p, id, version, now)
return assistant_read(p, id)
