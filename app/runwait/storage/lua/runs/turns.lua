-- Whose turn it is on a thread, for the scripts that begin with this file after library.lua and
-- threads/library.lua.

-- Assigns a thread to a graph and assistant: their ids are laid over its metadata, which has to come
-- with them laid over already. Returns the metadata if `seen` is not what there is, to try again.
local function assign_thread(p, thread, now, graph, metadata, terms, seen)
  local key = p .. ':thread:' .. thread
  local before = redis.call('HMGET', key, 'metadata', 'terms', 'graph')
  if not before[1] or before[3] == graph then return false end
  if before[1] ~= seen then return before[1] end
  -- What it was is kept for a rollback.
  thread_set(p, thread, now, {metadata = metadata, terms = terms, graph = graph,
    before_metadata = before[1], before_terms = before[2], before_graph = before[3] or ''})
  return false
end

-- Makes a thread busy with a run that has it, or is to come.
local function occupy(p, thread, now, fields)
  local status = redis.call('HGET', p .. ':thread:' .. thread, 'status')
  if status ~= 'busy' then fields.status, fields.before = 'busy', status end
  thread_set(p, thread, now, fields)
end

-- Notes a run that is to come on a thread: until then others may have it that would wait for it.
local function schedule(p, thread, run, now)
  redis.call('SADD', p .. ':thread:' .. thread .. ':scheduled', run)
  occupy(p, thread, now, {})
end

-- Whether a run is to come on a thread.
local function is_scheduled(p, thread)
  local key = p .. ':thread:' .. thread .. ':scheduled'
  for _, run in ipairs(redis.call('SMEMBERS', key)) do
    local found = redis.call('HMGET', p .. ':run:' .. run, 'record', 'ended_by')
    if found[1] and not found[2] then return true end
    redis.call('SREM', key, run)
  end
  return false
end

-- Gives a thread to a run that is due, or lets it wait for the run that has the thread, after it did to the
-- others what its strategy says. Returns whether it has the thread now.
local function take_turn(p, thread, run, active, strategy, now)
  local key = p .. ':thread:' .. thread
  redis.call('SREM', key .. ':scheduled', run)
  if strategy == 'interrupt' or strategy == 'rollback' then
    local others = redis.call('LRANGE', key .. ':queue', 0, -1)
    for _, other in ipairs(redis.call('SMEMBERS', key .. ':scheduled')) do table.insert(others, other) end
    if active then table.insert(others, active) end
    for _, other in ipairs(others) do request_cancel(p, other, strategy) end
  end
  if not active then
    occupy(p, thread, now, {active = run})
    return true
  end
  redis.call('RPUSH', key .. ':queue', run)
  redis.call('ZADD', p .. ':queued', now, run)
  thread_set(p, thread, now, {})
  return false
end

-- Passes a thread on from a run that ended: to the run that has waited longest, or to nobody. Where it was
-- not its turn, others have the thread or come yet, or it is as it was before them.
--   fields  what its record says once nobody has it; without a status, that from before the run
--   undone  it is the graph's again that it was before the run
local function pass_on(p, thread, run, now, fields, undone)
  local key = p .. ':thread:' .. thread
  local there = redis.call('HMGET', key, 'active', 'before', 'before_metadata', 'before_terms',
    'before_graph')
  local unstarted = redis.call('SREM', key .. ':scheduled', run) == 1
  if there[1] ~= run then
    if unstarted and not there[1] and not is_scheduled(p, thread) then
      thread_set(p, thread, now, {status = there[2] or 'idle'})
    end
    return
  end
  fields.status = fields.status or there[2] or 'idle'
  if there[3] then
    if undone then fields.metadata, fields.terms, fields.graph = there[3], there[4], there[5] end
    fields.before_metadata, fields.before_terms, fields.before_graph = false, false, false
  end
  local following
  repeat
    following = redis.call('LPOP', key .. ':queue')
    if following then redis.call('ZREM', p .. ':queued', following) end
    -- One whose record Redis dropped has no turn.
  until not following or redis.call('HEXISTS', p .. ':run:' .. following, 'record') == 1
  if following then
    -- It stays busy; what it would be now is what the next run may have to leave it as.
    fields.active, fields.before, fields.status = following, fields.status, nil
  else
    fields.active = false
    if is_scheduled(p, thread) then fields.before, fields.status = fields.status, nil end
  end
  thread_set(p, thread, now, fields)
  if following then make_ready(p, following, now) end
end

-- Passes a thread on from a run that Redis dropped, and that no process has.
local function pass_on_from_gone(p, thread, now)
  local active = redis.call('HGET', p .. ':thread:' .. thread, 'active')
  if active and redis.call('HEXISTS', p .. ':run:' .. active, 'record') == 0
    and not redis.call('ZSCORE', p .. ':leases', active) then
    pass_on(p, thread, active, now, {}, false)
  end
end
