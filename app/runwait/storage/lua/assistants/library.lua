-- Assistants and their indexes, for the scripts that begin with this file. `p` is the tag that all
-- keys begin with, such as {runwait}; `id` an assistant's id; an entry is a version as Python wrote
-- it: JSON with body (text), name (folded), graph and terms.

local function assistant_key(p, id) return p .. ':assistant:' .. id end

-- Redis's time in µs, as text: Lua would round it on the way to a string.
local function assistant_now()
  local time = redis.call('TIME')
  return string.format('%.0f', time[1] * 1000000 + time[2])
end

-- What a zset of each order has for an assistant: score and member, which ends in the id.
local function assistant_places(id, entry, created, updated)
  return {
    created = {created, id},
    updated = {updated, id},
    name = {0, entry.name .. '\0' .. id},
    graph = {0, entry.graph .. '\0' .. id},
    id = {0, id},
  }
end

-- Puts an assistant into all its zsets ('ZADD'), or takes it out of them ('ZREM').
local function assistant_index(command, p, id, entry, created, updated)
  for order, place in pairs(assistant_places(id, entry, created, updated)) do
    local key = p .. ':assistants:' .. order
    for i = 0, #entry.terms do
      local each = i == 0 and key or key .. ':' .. entry.terms[i]
      if command == 'ZADD' then
        redis.call('ZADD', each, place[1], place[2])
      else
        redis.call('ZREM', each, place[2])
      end
    end
  end
end

-- {id, created, updated, version, last, entry} of an assistant as it stands; false if there is none.
local function assistant_read(p, id)
  local key = assistant_key(p, id)
  local found = redis.call('HMGET', key, 'created', 'updated', 'version', 'last')
  if not found[3] then return false end
  return {id, found[1], found[2], found[3], found[4], redis.call('HGET', key, 'v:' .. found[3])}
end

-- Makes a version the current one, changed now; the indexes follow.
local function assistant_turn(p, id, version, now)
  local key = assistant_key(p, id)
  local record = assistant_read(p, id)
  local entry = cjson.decode(redis.call('HGET', key, 'v:' .. version))
  assistant_index('ZREM', p, id, cjson.decode(record[6]), record[2], record[3])
  assistant_index('ZADD', p, id, entry, record[2], now)
  redis.call('HSET', key, 'version', version, 'updated', now, 'name', entry.name)
end
