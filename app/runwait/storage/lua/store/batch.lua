-- Reads items, then writes and deletes others, in one step.
-- KEYS  1 mark of this batch, unlike that of any other
-- ARGV  1 prefix of all keys, 2 ms that the mark stays, 3 number of items to read, then of each to read
--       its namespace, its key, and '1' if that lets it live anew; then of each to write its namespace,
--       its key, its value or '' to delete it, its time to live in ms (0: for ever), and its vectors or ''
-- Returns what is stored of each item to read ('<place> <created> <updated> <ttl> <value>', times in
-- microseconds), or nil. A repeated call writes nothing and returns the same.
local p, reads = ARGV[1], tonumber(ARGV[3])
local first_write = 4 + 3 * reads
local writes = #ARGV >= first_write
if writes then
  local done = redis.call('GET', KEYS[1])
  if done then return cmsgpack.unpack(done) end
end
local now, time = store_clock()
local found = {}
for i = 4, first_write - 1, 3 do
  local item = store_item(ARGV[i], ARGV[i + 1])
  local stored = store_get(p, item, now)
  table.insert(found, stored)
  if stored and ARGV[i + 2] == '1' then store_touch(p, item, stored, now) end
end
if not writes then return found end
redis.call('SET', KEYS[1], cmsgpack.pack(found), 'PX', ARGV[2])
for i = first_write, #ARGV, 5 do
  local namespace, value, ttl = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  local item = store_item(namespace, ARGV[i + 1])
  local stored = store_get(p, item, now)
  if value == '' then
    if stored then store_remove(p, item, stored) end
  else
    local place, created
    if stored then
      place, created = store_header(stored)
    else
      place, created = store_place(p, namespace), time
      for _, index in ipairs(store_indexes(p, namespace)) do
        redis.call('ZADD', index, 0, place .. item)
      end
    end
    stored = table.concat({place, created, time, ttl, value}, ' ')
    redis.call('SET', p .. ':store:item:' .. item, stored)
    if ARGV[i + 4] == '' then
      redis.call('DEL', p .. ':store:vector:' .. item)
    else
      redis.call('SET', p .. ':store:vector:' .. item, ARGV[i + 4])
    end
    redis.call('ZREM', p .. ':store:expiry', item)
    store_touch(p, item, stored, now)
  end
end
return found
