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

-- Gives an idle thread to a run.
local function give_thread(p, thread, run, now)
  local status = redis.call('HGET', p .. ':thread:' .. thread, 'status')
  thread_set(p, thread, now, {status = 'busy', active = run, before = status})
end

-- Lets a run wait for a thread that another run has, after it did to the others what its strategy says.
local function enqueue(p, thread, run, active, strategy, now)
  local queue = p .. ':thread:' .. thread .. ':queue'
  if strategy == 'interrupt' or strategy == 'rollback' then
    for _, waiting in ipairs(redis.call('LRANGE', queue, 0, -1)) do request_cancel(p, waiting, strategy) end
    request_cancel(p, active, strategy)
  end
  redis.call('RPUSH', queue, run)
  redis.call('ZADD', p .. ':queued', now, run)
  thread_set(p, thread, now, {})
end

-- Passes a thread on from a run that ended: to the run that has waited longest, or to nobody.
--   fields  what its record says once nobody has it; without a status, that from before the run
--   undone  it is the graph's again that it was before the run
local function pass_on(p, thread, run, now, fields, undone)
  local key = p .. ':thread:' .. thread
  local there = redis.call('HMGET', key, 'active', 'before', 'before_metadata', 'before_terms',
    'before_graph')
  if there[1] ~= run then return end
  fields.status = fields.status or there[2] or 'idle'
  if there[3] then
    if undone then fields.metadata, fields.terms, fields.graph = there[3], there[4], there[5] end
    fields.before_metadata, fields.before_terms, fields.before_graph = false, false, false
  end
  local following = redis.call('LPOP', key .. ':queue')
  if following then
    redis.call('ZREM', p .. ':queued', following)
    -- It stays busy; what it would be now is what the next run may have to leave it as.
    fields.active, fields.before, fields.status = following, fields.status, nil
  else
    fields.active = false
  end
  thread_set(p, thread, now, fields)
  if following then make_ready(p, following, now) end
end
