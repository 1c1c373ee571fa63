-- Changes a thread's metadata and life.
-- KEYS  1 thread hash
-- ARGV  1 tag of all keys, 2 thread id, 3 metadata as read before, 4 new metadata, or '' to leave it,
--       5 its terms, 6 ms to live without use, or '' to leave it
-- Returns 1 if changed (also when repeated), 0 if there is no such thread, -1 if its metadata is
-- not as read before.
local metadata = redis.call('HGET', KEYS[1], 'metadata')
if not metadata then return 0 end
local fields = {}
if ARGV[4] ~= '' then
  if metadata ~= ARGV[3] and metadata ~= ARGV[4] then return -1 end
  fields.metadata, fields.terms = ARGV[4], ARGV[5]
  -- The next run lays its graph's and assistant's ids over the metadata again.
  fields.graph = false
end
if ARGV[6] ~= '' then fields.ttl = ARGV[6] end
thread_set(ARGV[1], ARGV[2], clock(), fields)
return 1
