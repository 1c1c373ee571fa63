-- Changes a thread's metadata and life.
-- KEYS  1 thread hash
-- ARGV  prefix, id
--       metadata   the new one, with its terms, and seen: the metadata as read before
--       ttl        ms to live without use
-- Returns 1 if changed (also when repeated), 0 if there is no such thread, -1 if its metadata is
-- not as read before.
local a = named(ARGV)
thread_expire(a.prefix, a.id, clock())
local metadata = redis.call('HGET', KEYS[1], 'metadata')
if not metadata then return 0 end
local fields = {}
if a.metadata then
  if metadata ~= a.seen and metadata ~= a.metadata then return -1 end
  fields.metadata, fields.terms = a.metadata, a.terms
  -- The next run lays its graph's and assistant's ids over the metadata again.
  fields.graph = false
end
if a.ttl then fields.ttl, fields.prunes = a.ttl, false end
thread_set(a.prefix, a.id, clock(), fields)
return 1
