-- Reads an assistant.
-- KEYS  1 the assistant's hash
-- ARGV  prefix, id (the assistant's)
-- Returns what assistant_read does.
local a = named(ARGV)
return assistant_read(a.prefix, a.id)
