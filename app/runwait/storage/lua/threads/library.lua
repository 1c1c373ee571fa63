-- Thread records and their indexes, for the scripts that begin with this file after the libraries of runs
-- and crons. Every function takes
--   p    the tag that all keys begin with, such as {runwait}
--   id   the thread's id
--   now  Redis's time in ms
-- A thread is in an index zset for each of its terms and for its status, twice: by the time of its
-- creation and by that of its last change. A thread with the field `temporary` is in none.

local function thread_key(p, id) return p .. ':thread:' .. id end

-- The suffixes of the index keys that a thread is in.
local function thread_marks(terms, status)
  local marks = {'', ':status=' .. status}
  for _, term in ipairs(cjson.decode(terms)) do table.insert(marks, ':' .. term) end
  return marks
end

-- Puts the thread's expiry, or when it is to be pruned, where its life and status say.
local function thread_touch(p, id, now)
  local record = redis.call('HMGET', thread_key(p, id), 'ttl', 'prunes', 'status', 'temporary')
  for i, name in ipairs({':threads:expiry', ':threads:pruning'}) do
    if record[i] and record[3] ~= 'busy' and not record[4] then
      redis.call('ZADD', p .. name, now + record[i], id)
    else
      redis.call('ZREM', p .. name, id)
    end
  end
end

-- The fencing token as text, with which the checkpoints of an earlier thread of this id are to be deleted
-- before there is another one; false for none. What is being built under this id is given up.
local function thread_left_over(p, id)
  -- No write where there is none to give up: after the first, a Redis that is full takes all others too.
  if redis.call('ZSCORE', p .. ':threads:building', id) then
    redis.call('ZADD', p .. ':doomed', next_token(p), id)
    redis.call('ZREM', p .. ':threads:building', id)
  end
  local token = redis.call('ZSCORE', p .. ':doomed', id)
  return token and string.format('%.0f', token)
end

-- Whether a thread is being built with this token.
local function thread_is_built_with(p, id, token)
  local found = redis.call('ZSCORE', p .. ':threads:building', id)
  return found and string.format('%.0f', found) == token
end

-- Makes an idle thread. The caller has seen that there is none.
--   ttl     ms that it lives without use, or '' for ever
--   prunes  ms without use after which it loses all but its latest state, or '' for never
--   others  further fields of the record, or nil
local function thread_create(p, id, now, metadata, terms, ttl, prunes, config, others)
  local key = thread_key(p, id)
  redis.call('HSET', key, 'metadata', metadata, 'terms', terms, 'config', config, 'status', 'idle',
    'created', now, 'updated', now)
  if ttl ~= '' then redis.call('HSET', key, 'ttl', ttl) end
  if prunes ~= '' then redis.call('HSET', key, 'prunes', prunes) end
  for field, value in pairs(others or {}) do redis.call('HSET', key, field, value) end
  if others and others.temporary then return end
  for _, mark in ipairs(thread_marks(terms, 'idle')) do
    redis.call('ZADD', p .. ':threads:created' .. mark, now, id)
    redis.call('ZADD', p .. ':threads:updated' .. mark, now, id)
  end
  thread_touch(p, id, now)
end

-- Changes fields of the record: a table of values, false to remove a field. Returns whether there
-- is such a thread.
local function thread_set(p, id, now, fields)
  local key = thread_key(p, id)
  local old = redis.call('HMGET', key, 'created', 'terms', 'status', 'temporary')
  if not old[1] then return false end
  local marks = old[4] and {} or thread_marks(old[2], old[3])
  redis.call('HSET', key, 'updated', now)
  for field, value in pairs(fields) do
    if value then
      redis.call('HSET', key, field, value)
    else
      redis.call('HDEL', key, field)
    end
  end
  local new = redis.call('HMGET', key, 'terms', 'status', 'temporary')
  local kept = {}
  if not new[3] then
    for _, mark in ipairs(thread_marks(new[1], new[2])) do
      kept[mark] = true
      redis.call('ZADD', p .. ':threads:created' .. mark, old[1], id)
      redis.call('ZADD', p .. ':threads:updated' .. mark, now, id)
    end
  end
  for _, mark in ipairs(marks) do
    if not kept[mark] then
      redis.call('ZREM', p .. ':threads:created' .. mark, id)
      redis.call('ZREM', p .. ':threads:updated' .. mark, id)
    end
  end
  thread_touch(p, id, now)
  return true
end

-- Removes the thread's record and runs; its checkpoints are to be deleted. The mark has a fencing token: what
-- a thread made anew under the same id writes, carries a higher one. Its crons go with it. Returns whether
-- there was one.
local function thread_remove(p, id, now)
  local key = thread_key(p, id)
  local old = redis.call('HMGET', key, 'terms', 'status', 'temporary')
  if not old[2] then return false end
  for _, cron in ipairs(crons_with(p, 'thread=' .. id)) do cron_remove(p, cron) end
  local runs = redis.call('ZRANGE', key .. ':runs', 0, -1)
  if old[3] then table.insert(runs, old[3]) end
  for _, run in ipairs(runs) do
    local name = p .. ':run:' .. run
    local found = redis.call('HMGET', name, 'record', 'ended_by')
    if found[1] and not found[2] then
      -- Its end is still to come: its clients, its key and its webhook are told as of any other.
      redis.call('HDEL', name, 'kept')
      redis.call('HSET', name, 'undone', '1')
      request_cancel(p, run, 'interrupt')
    else
      forget(p, run)
    end
  end
  if not old[3] then
    for _, mark in ipairs(thread_marks(old[1], old[2])) do
      redis.call('ZREM', p .. ':threads:created' .. mark, id)
      redis.call('ZREM', p .. ':threads:updated' .. mark, id)
    end
  end
  redis.call('ZREM', p .. ':threads:expiry', id)
  redis.call('ZREM', p .. ':threads:pruning', id)
  redis.call('DEL', key, key .. ':queue', key .. ':scheduled', key .. ':runs')
  redis.call('ZADD', p .. ':doomed', next_token(p), id)
  -- For a process that has not heard of it: what it records again must not bring the thread back.
  redis.call('SET', p .. ':gone:' .. id, '1', 'EX', 3600)
  tell_of_thread(p, id, 'removed')
  return true
end

-- Whether a run is still to come, of a cron too: its thread is in use. The thread of a run that has its turn
-- is busy, and does not expire.
local function thread_awaits_run(p, id)
  for _, cron in ipairs(crons_with(p, 'thread=' .. id)) do
    if redis.call('HEXISTS', cron_key(p, cron), 'next') == 1 then return true end
  end
  for _, run in ipairs(redis.call('ZREVRANGE', thread_key(p, id) .. ':runs', 0, -1)) do
    local found = redis.call('HMGET', p .. ':run:' .. run, 'record', 'ended_by')
    if found[1] and not found[2] then return true end
  end
  return false
end

-- Removes the thread if it was not used for as long as it lives. Begins whatever asks for a thread.
-- Returns whether it did.
local function thread_expire(p, id, now)
  local due = redis.call('ZSCORE', p .. ':threads:expiry', id)
  if not due or tonumber(due) > now then return false end
  if not thread_awaits_run(p, id) and thread_remove(p, id, now) then return true end
  -- Also of a thread whose record Redis dropped: whoever removes what is due would go on for ever.
  thread_touch(p, id, now)
  return false
end

-- Removes threads that were not used for as long as they live, so many at most. Returns whether there may
-- be more.
local function threads_expire(p, now, most)
  local due = redis.call('ZRANGEBYSCORE', p .. ':threads:expiry', '-inf', now, 'LIMIT', 0, most)
  for _, id in ipairs(due) do thread_expire(p, id, now) end
  return redis.call('ZCOUNT', p .. ':threads:expiry', '-inf', now) > 0
end
