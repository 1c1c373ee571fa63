-- Adds a version to an assistant and makes it the current one, if nobody changed the assistant since
-- it was read.
-- KEYS  1 the assistant's hash
-- ARGV  1 tag, 2 assistant's id, 3 id of this change, 4 version and 5 last version as they were
--       read, 6 entry
-- Returns the assistant as assistant_read gives it (also when repeated); 0 if it was changed, false
-- if it is gone.
local p, id = ARGV[1], ARGV[2]
local record = assistant_read(p, id)
if not record then return false end
local version = string.format('%d', ARGV[5] + 1)
if redis.call('HGET', KEYS[1], 'by:' .. version) == ARGV[3] then return record end
if record[4] ~= ARGV[4] or record[5] ~= ARGV[5] then return 0 end
local now = assistant_now()
redis.call('HSET', KEYS[1], 'last', version, 'v:' .. version, ARGV[6], 't:' .. version, now,
  'by:' .. version, ARGV[3])
assistant_turn(p, id, version, now)
return assistant_read(p, id)
