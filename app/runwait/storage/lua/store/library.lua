-- Items of the store and their indexes, for the scripts that begin with this file. Throughout:
--   p          the tag that all keys begin with, such as {runwait}
--   namespace  its labels with NUL between them; no label is empty or has a NUL
--   item       namespace, two NULs, key
--   place      where the item stands in every search: number of its namespace, its own number
--   now        Redis's time in ms

local STORE_DUE = 200 -- items that a call removes at most, since others wait meanwhile

-- Redis's time in ms, and in microseconds as text.
local function store_clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000), time[1] .. string.format('%06d', time[2])
end

local function store_item(namespace, key) return namespace .. '\0\0' .. key end

-- Place, created, updated and time to live in ms ('0': for ever) of what is stored, as text.
local function store_header(stored)
  return string.match(stored, '^(%x+) (%d+) (%d+) (%d+) ')
end

-- The index keys of a namespace: its own and those of all that it is beneath.
local function store_indexes(p, namespace)
  local under = p .. ':store:under:'
  local found = {under .. namespace}
  if namespace ~= '' then table.insert(found, under) end
  local at = string.find(namespace, '\0', 1, true)
  while at do
    table.insert(found, under .. string.sub(namespace, 1, at - 1))
    at = string.find(namespace, '\0', at + 1, true)
  end
  return found
end

-- The place of a new item; its namespace is made if there is none.
local function store_place(p, namespace)
  local sequence = p .. ':store:sequence'
  local number = redis.call('HGET', p .. ':store:numbers', namespace)
  if not number then
    number = string.format('%013x', redis.call('INCR', sequence))
    redis.call('HSET', p .. ':store:numbers', namespace, number)
    redis.call('ZADD', p .. ':store:namespaces', 0, namespace)
  end
  return number .. string.format('%013x', redis.call('INCR', sequence))
end

-- Takes away an item, and its namespace if that was all of it.
local function store_remove(p, item, stored)
  local namespace = string.sub(item, 1, string.find(item, '\0\0', 1, true) - 1)
  local place = store_header(stored)
  local indexes = store_indexes(p, namespace)
  for _, index in ipairs(indexes) do redis.call('ZREM', index, place .. item) end
  redis.call('DEL', p .. ':store:item:' .. item, p .. ':store:vector:' .. item)
  redis.call('ZREM', p .. ':store:expiry', item)
  local number = string.sub(place, 1, 13)
  if redis.call('ZLEXCOUNT', indexes[1], '[' .. number, '(' .. number .. 'g') == 0 then
    redis.call('HDEL', p .. ':store:numbers', namespace)
    redis.call('ZREM', p .. ':store:namespaces', namespace)
  end
end

-- Removes items that have expired. Returns how many: STORE_DUE if there may be more.
local function store_expire(p, now)
  local due = redis.call('ZRANGEBYSCORE', p .. ':store:expiry', '-inf', now, 'LIMIT', 0, STORE_DUE)
  for _, item in ipairs(due) do
    local stored = redis.call('GET', p .. ':store:item:' .. item)
    if stored then
      store_remove(p, item, stored)
    else -- evicted
      redis.call('ZREM', p .. ':store:expiry', item)
    end
  end
  return #due
end

-- What is stored of an item, or false. One that has expired is removed.
local function store_get(p, item, now)
  local stored = redis.call('GET', p .. ':store:item:' .. item)
  if not stored then return false end
  local expiry = redis.call('ZSCORE', p .. ':store:expiry', item)
  if expiry and tonumber(expiry) <= now then
    store_remove(p, item, stored)
    return false
  end
  return stored
end

-- Lets an item that is there live anew.
local function store_touch(p, item, stored, now)
  local _, _, _, ttl = store_header(stored)
  if ttl ~= '0' then redis.call('ZADD', p .. ':store:expiry', now + ttl, item) end
end
