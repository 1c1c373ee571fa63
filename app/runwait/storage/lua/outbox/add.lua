-- Adds a webhook; finish.lua does the same for a run that ends.
-- KEYS  1 outbox
-- ARGV  1 tag of all keys, 2 run id, 3 URL, 4 body
-- Returns 1.
outbox_add(ARGV[1], ARGV[2], clock(), ARGV[3], ARGV[4])
return 1
