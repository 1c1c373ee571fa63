-- Reads an assistant.
-- KEYS  1 the assistant's hash
-- ARGV  1 tag, 2 assistant's id
-- Returns what assistant_read does.
return assistant_read(ARGV[1], ARGV[2])
