-- Makes a version of an assistant the current one. If it is that already, nothing changes.
-- KEYS  1 the assistant's hash
-- ARGV  prefix, id (the assistant's), version
-- Returns the assistant as assistant_read gives it; 0 if it has no such version, false if there is no
-- such assistant.
local a = named(ARGV)
local p, id = a.prefix, a.id
local record = assistant_read(p, id)
if not record then return false end
if redis.call('HEXISTS', KEYS[1], 'v:' .. a.version) == 0 then return 0 end
if record[4] ~= a.version then assistant_turn(p, id, a.version, assistant_now()) end
return assistant_read(p, id)
