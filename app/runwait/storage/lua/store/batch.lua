-- Reads items, then writes and deletes others, in one step.
-- KEYS  1 mark of this batch, unlike that of any other
-- ARGV  prefix, mark_ttl (ms that the mark stays)
--       reads   of each item to read its namespace, its key, and '1' if that lets it live anew
--       writes  of each to write its namespace, its key, its value or '' to delete it, its time to live in
--               ms (0: for ever), and its vectors or ''
-- Returns what is stored of each item to read ('<place> <created> <updated> <ttl> <value>', times in
-- microseconds), or nil. A repeated call writes nothing and returns the same.
local a = named(ARGV)
local p, reads, writes = a.prefix, a.reads, a.writes
if #writes > 0 then
  local done = redis.call('GET', KEYS[1])
  if done then return cmsgpack.unpack(done) end
end
local now, time = store_clock()
local found = {}
for i = 1, #reads, 3 do
  local item = store_item(reads[i], reads[i + 1])
  local stored = store_get(p, item, now)
  table.insert(found, stored)
  if stored and reads[i + 2] == '1' then store_touch(p, item, stored, now) end
end
if #writes == 0 then return found end
redis.call('SET', KEYS[1], cmsgpack.pack(found), 'PX', a.mark_ttl)
for i = 1, #writes, 5 do
  local namespace, key, value, ttl, vectors = unpack(writes, i, i + 4)
  local item = store_item(namespace, key)
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
    if vectors == '' then
      redis.call('DEL', p .. ':store:vector:' .. item)
    else
      redis.call('SET', p .. ':store:vector:' .. item, vectors)
    end
    redis.call('ZREM', p .. ':store:expiry', item)
    store_touch(p, item, stored, now)
  end
end
return found
