-- Functions that scripts of runs and threads share. A script that needs them is loaded with this file
-- before it. `p` is the tag that all keys begin with, such as {runwait}.

-- Redis's clock, in ms.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A fencing token: higher than any before, also after Redis lost its last writes, as long as its
-- clock goes on.
local function next_token(p)
  local time = redis.call('TIME')
  local last = tonumber(redis.call('GET', p .. ':tokens') or '0')
  local token = string.format('%.0f', math.max(last + 1, time[1] * 1000000 + time[2]))
  redis.call('SET', p .. ':tokens', token)
  return token
end

-- Has all later tokens be higher than this one.
local function raise_tokens(p, least)
  if least > tonumber(redis.call('GET', p .. ':tokens') or '0') then
    redis.call('SET', p .. ':tokens', string.format('%.0f', least))
  end
end

-- Leases a run to a process; returns the fencing token.
local function lease_to(p, id, owner, lease, now)
  local token = next_token(p)
  redis.call('HSET', p .. ':run:' .. id, 'owner', owner, 'token', token, 'status', 'running')
  redis.call('ZADD', p .. ':leases', now + lease, id)
  return token
end

-- Has a process told of a run's events. Whoever executes the run is told to log them, for it alone.
local function listen(p, id, process, owner)
  if owner == process then return end
  redis.call('SADD', p .. ':listening:' .. id, process)
  redis.call('PEXPIRE', p .. ':listening:' .. id, 604800000)
  if owner then redis.pcall('PUBLISH', p .. ':told:' .. owner, 'listen ' .. id) end
end

-- Tells the processes in which somebody follows a thread what is to be known of it.
local function tell_of_thread(p, thread, what)
  for _, process in ipairs(redis.call('SMEMBERS', p .. ':listening:' .. thread)) do
    redis.pcall('PUBLISH', p .. ':told:' .. process, what .. ' ' .. thread)
  end
end

-- Tells those who follow a run's thread that it begins. Its events are logged for them from the first.
-- Returns 1 if there are any.
local function announce(p, id)
  local thread = redis.call('HGET', p .. ':run:' .. id, 'thread_id')
  local listening = thread and redis.call('SMEMBERS', p .. ':listening:' .. thread) or {}
  for _, process in ipairs(listening) do
    redis.call('SADD', p .. ':listening:' .. id, process)
    redis.call('SADD', p .. ':waiting:' .. id, process)
    redis.pcall('PUBLISH', p .. ':told:' .. process, 'run ' .. thread .. ' ' .. id)
  end
  if not listening[1] then return 0 end
  redis.call('HSETNX', p .. ':run:' .. id, 'watcher', 'there before')
  return 1
end

-- Makes a run ready for whichever process is free once it is due. All are told, if it is the next. One
-- that is only to be ended goes before all others: it does not have to wait for a place.
local function make_ready(p, id, due)
  if redis.call('HEXISTS', p .. ':run:' .. id, 'cancel') == 1 then due = 0 end
  redis.call('ZADD', p .. ':ready', due, id)
  if redis.call('ZRANGE', p .. ':ready', 0, 0)[1] == id then
    redis.pcall('PUBLISH', p .. ':told:all', 'ready')
  end
end

-- Whether a process was lost with a run: if there is no record of it any more, another process ended it.
local function has_lapsed(p, id) return redis.call('EXISTS', p .. ':lapsed:' .. id) == 1 end

-- Has a run taken by another process, once it is due.
local function hand_back(p, id, due)
  local run = p .. ':run:' .. id
  redis.call('HDEL', run, 'owner')
  redis.call('HSET', run, 'status', 'pending')
  redis.call('ZREM', p .. ':leases', id)
  make_ready(p, id, due)
end

-- Asks for a run to be cancelled. One that executes is stopped by its process, which is told; any other
-- is made ready at once: whoever takes it then only ends it.
local function request_cancel(p, id, action)
  local run = p .. ':run:' .. id
  local found = redis.call('HMGET', run, 'owner', 'ended_by', 'cancel', 'thread_id', 'record')
  if not found[5] or found[2] then return 0 end
  if not found[3] then redis.call('HSET', run, 'cancel', action) end
  if found[1] then
    redis.pcall('PUBLISH', p .. ':told:' .. found[1], 'cancel ' .. id .. ' ' .. (found[3] or action))
  else
    redis.call('ZREM', p .. ':queued', id)
    if found[4] then redis.call('LREM', p .. ':thread:' .. found[4] .. ':queue', 0, id) end
    make_ready(p, id, 0)
  end
  return 1
end

-- Removes a run that ended. Processes that were told of the end, and have yet to look, still find it.
local function forget(p, id)
  local run, waiting = p .. ':run:' .. id, p .. ':waiting:' .. id
  local left = redis.call('PTTL', waiting)
  if left > 0 then
    redis.call('HSET', run, 'undone', '1', 'once', '1')
    redis.call('PEXPIRE', run, left)
  else
    redis.call('DEL', run, p .. ':result:' .. id, p .. ':events:' .. id)
  end
end

-- What is said of an idempotency key that a request comes with: false for a new one, or where Redis
-- lost the run that had it.
local function answer_to_key(p, key, request)
  local before = redis.call('HMGET', key, 'request', 'run_id', 'thread_id', 'document')
  if not before[1] then return false end
  if not before[4] and redis.call('EXISTS', p .. ':run:' .. before[2]) == 0 then return false end
  if before[1] ~= request then return {'other'} end
  if before[4] then
    -- Whoever was told of a run counts on it: see withdraw.lua.
    redis.call('HSET', key, 'told', '1')
    return {'replayed', before[2], before[3], before[4]}
  end
  return {'in flight', before[2], before[3]}
end
