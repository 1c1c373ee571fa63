-- Crons and their indexes, for the scripts that begin with this file. `p` is the tag that all keys begin
-- with, such as {runwait}; `id` a cron's id.

local function cron_key(p, id) return p .. ':cron:' .. id end

-- The keys of the zsets that a cron is in, by its index terms.
local function cron_indexes(p, terms)
  local keys = {p .. ':crons'}
  for _, term in ipairs(cjson.decode(terms)) do table.insert(keys, p .. ':crons:' .. term) end
  return keys
end

-- Has a cron be due at a time, or not at all without one. All processes are told, if it is the next.
local function cron_set_next(p, id, due)
  if due then
    redis.call('HSET', cron_key(p, id), 'next', due)
    redis.call('ZADD', p .. ':crons:due', due, id)
    if redis.call('ZRANGE', p .. ':crons:due', 0, 0)[1] == id then
      redis.pcall('PUBLISH', p .. ':told:all', 'cron')
    end
  else
    redis.call('HDEL', cron_key(p, id), 'next')
    redis.call('ZREM', p .. ':crons:due', id)
  end
end

-- Removes a cron; returns whether there was one.
local function cron_remove(p, id)
  local terms = redis.call('HGET', cron_key(p, id), 'terms')
  redis.call('ZREM', p .. ':crons:due', id)
  if not terms then return false end
  for _, key in ipairs(cron_indexes(p, terms)) do redis.call('ZREM', key, id) end
  redis.call('DEL', cron_key(p, id))
  return true
end

-- The ids of all crons with an index term, such as thread=<id>.
local function crons_with(p, term) return redis.call('ZRANGE', p .. ':crons:' .. term, 0, -1) end
