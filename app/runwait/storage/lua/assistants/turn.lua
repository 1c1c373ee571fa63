-- Makes a version of an assistant the current one. If it is that already, nothing changes.
-- KEYS  1 the assistant's hash
-- ARGV  1 tag, 2 assistant's id, 3 version
-- Returns the assistant as assistant_read gives it; 0 if it has no such version, false if there is no
-- such assistant.
local p, id = ARGV[1], ARGV[2]
local record = assistant_read(p, id)
if not record then return false end
if redis.call('HEXISTS', KEYS[1], 'v:' .. ARGV[3]) == 0 then return 0 end
if record[4] ~= ARGV[3] then assistant_turn(p, id, ARGV[3], assistant_now()) end
return assistant_read(p, id)
