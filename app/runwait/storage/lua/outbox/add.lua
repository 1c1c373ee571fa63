-- Adds a webhook; finish.lua does the same for a run that ends.
-- KEYS  1 outbox
-- ARGV  prefix, run, url, body
-- Returns 1.
local a = named(ARGV)
outbox_add(a.prefix, a.run, clock(), a.url, a.body)
return 1
