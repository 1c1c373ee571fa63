-- What the scripts of the checkpointer share. All of them take the same keys, those of one thread:
-- KEYS  1 fence, 2 index, 3 checkpoints, 4 values, 5 counts, 6 pending, 7 writes, 8 runs, 9 undo
-- What is in each: see plans.py.
local FENCE, INDEX, CHECKPOINTS, VALUES, COUNTS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local PENDING, WRITES, RUNS, UNDO = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local SEP = '\0'
local OWNER = ''
local REFUSED = -1
local LOST = -2

-- Lua's unpack takes no more than some thousand items.
local CHUNK = 1000

-- Calls a Redis command with a key and any number of items.
local function each_chunk(command, key, items)
  for first = 1, #items, CHUNK do
    redis.call(command, key, unpack(items, first, math.min(first + CHUNK - 1, #items)))
  end
end

local function read_fields(key, fields)
  local found = {}
  for first = 1, #fields, CHUNK do
    local last = math.min(first + CHUNK - 1, #fields)
    local some = redis.call('HMGET', key, unpack(fields, first, last))
    for i = 1, #some do found[first + i - 1] = some[i] end
  end
  return found
end

-- Whether someone with a higher token has claimed the thread, or nobody has.
local function is_fenced(token)
  if token == '' then return false end
  local fence = redis.call('GET', FENCE)
  return not fence or tonumber(fence) > tonumber(token)
end

-- All members that start with what is given and a separator.
local function within(key, start, limit)
  local from, to = '[' .. start .. SEP, '(' .. start .. SEP .. '\255'
  return redis.call('ZRANGEBYLEX', key, from, to, 'LIMIT', 0, limit or -1)
end

-- The id of a namespace's latest checkpoint, if it has one.
local function latest_of(ns)
  local from, to = '(' .. ns .. SEP .. '\255', '[' .. ns .. SEP
  local latest = redis.call('ZREVRANGEBYLEX', INDEX, from, to, 'LIMIT', 0, 1)[1]
  return latest and string.sub(latest, #ns + 2)
end

-- What a checkpoint's record starts with: {layout, parent or '', run or '', versions}, where versions
-- is {channel, version, channel, version, ...}.
local function read_head(packed)
  return cmsgpack.unpack(string.sub(packed, 5, 4 + struct.unpack('>I4', packed)))
end

local function read_record(member)
  local packed = redis.call('HGET', CHECKPOINTS, member)
  return packed and read_head(packed), packed
end

local function value_name(ns, channel, version)
  if type(version) == 'number' then version = string.format('%.17g', version) end
  return ns .. SEP .. channel .. SEP .. version
end

local function value_names(ns, versions)
  local names = {}
  for i = 1, #versions, 2 do names[#names + 1] = value_name(ns, versions[i], versions[i + 1]) end
  return names
end

-- Counts a checkpoint more that names these values, of those that are stored or among the new.
local function hold(names, new)
  local counts, changed = read_fields(COUNTS, names), {}
  for i, name in ipairs(names) do
    local count = counts[i] or (new[name] and 0)
    if count then
      changed[#changed + 1] = name
      changed[#changed + 1] = count + 1
    end
  end
  each_chunk('HSET', COUNTS, changed)
end

-- Counts a checkpoint less, and deletes the values that nobody names any more.
local function release(names)
  local counts, changed, gone = read_fields(COUNTS, names), {}, {}
  for i, name in ipairs(names) do
    local count = counts[i] and tonumber(counts[i])
    if count == 1 then
      gone[#gone + 1] = name
    elseif count then
      changed[#changed + 1] = name
      changed[#changed + 1] = count - 1
    end
  end
  each_chunk('HSET', COUNTS, changed)
  each_chunk('HDEL', COUNTS, gone)
  each_chunk('HDEL', VALUES, gone)
end

-- Stores a checkpoint. `values` is {channel, value, ...}: those of new versions.
local function store(ns, id, packed, values)
  local member = ns .. SEP .. id
  local record = read_head(packed)
  local run, versions = record[3], record[4]
  local version_of = {}
  for i = 1, #versions, 2 do version_of[versions[i]] = versions[i + 1] end
  local new, fields = {}, {}
  for i = 1, #values, 2 do
    local name = value_name(ns, values[i], version_of[values[i]])
    new[name] = true
    fields[#fields + 1] = name
    fields[#fields + 1] = values[i + 1]
  end
  local before = read_record(member)
  each_chunk('HSET', VALUES, fields)
  hold(value_names(ns, versions), new)
  redis.call('HSET', CHECKPOINTS, member, packed)
  redis.call('ZADD', INDEX, 0, member)
  if before then
    if before[3] ~= run then redis.call('ZREM', RUNS, before[3] .. SEP .. member) end
    release(value_names(ns, before[4]))
  end
  if run ~= '' then redis.call('ZADD', RUNS, 0, run .. SEP .. member) end
end

local function drop_writes(member)
  local writes = within(PENDING, member)
  each_chunk('HDEL', WRITES, writes)
  each_chunk('ZREM', PENDING, writes)
end

-- Deletes a checkpoint with its writes; nothing if it is not there.
local function drop(ns, id)
  local member = ns .. SEP .. id
  local record = read_record(member)
  if not record then return end
  redis.call('HDEL', CHECKPOINTS, member)
  redis.call('ZREM', INDEX, member)
  if record[3] ~= '' then redis.call('ZREM', RUNS, record[3] .. SEP .. member) end
  release(value_names(ns, record[4]))
  drop_writes(member)
end

-- The writes on a checkpoint: {{task, {{index, channel, value, path}, ...}}, ...}, and their size.
local function read_writes(member)
  local names = within(PENDING, member)
  local packed, tasks, size = read_fields(WRITES, names), {}, 0
  for i, name in ipairs(names) do
    if packed[i] then
      size = size + #packed[i]
      tasks[#tasks + 1] = {string.sub(name, #member + 2), cmsgpack.unpack(packed[i])}
    end
  end
  return tasks, size
end

-- What a run changed on other runs' checkpoints is forgotten once anybody else writes.
local function own_undo(run)
  local owner = redis.call('HGET', UNDO, OWNER)
  if owner and owner ~= run then redis.call('UNLINK', UNDO) end
end

