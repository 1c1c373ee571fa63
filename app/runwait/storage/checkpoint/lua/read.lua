-- Reads checkpoints with their values and writes; a value that several of them name comes once.
-- ARGV  1 token or '', 2 '1' to claim the thread for this token, 3 namespace,
--       4 bytes after which no further checkpoint is read, then ids; '' is the latest
-- Returns -1 if the thread is claimed by someone else, -2 if Redis dropped the checkpoints or the
-- values and not the rest, or {checkpoints, values}: for each id that was read, in order, {id, record,
-- positions, writes}, or {} if there is none. A position counts from 1 and is 0 where a channel has no
-- value; they are in the order of the record's versions.
local token, claims, ns, budget = unpack(ARGV, 1, 4)
if token ~= '' then
  local fence = redis.call('GET', FENCE)
  if fence and tonumber(fence) > tonumber(token) then return REFUSED end
  if claims == '1' and (not fence or tonumber(fence) < tonumber(token)) then
    redis.call('SET', FENCE, token)
  end
end
local checkpoints, values, known, size = {}, {}, {}, 0
for i = 5, #ARGV do
  local id = ARGV[i]
  if id == '' then id = latest_of(ns) end
  local record, packed
  if id then record, packed = read_record(ns .. SEP .. id) end
  if record then
    local names, missing = value_names(ns, record[4]), {}
    for _, name in ipairs(names) do
      if not known[name] then missing[#missing + 1] = name end
    end
    local found = read_fields(VALUES, missing)
    for at, name in ipairs(missing) do
      known[name] = 0
      if found[at] then
        values[#values + 1] = found[at]
        known[name] = #values
        size = size + #found[at]
      end
    end
    local positions = {}
    for at, name in ipairs(names) do positions[at] = known[name] end
    local writes, more = read_writes(ns .. SEP .. id)
    checkpoints[#checkpoints + 1] = {id, packed, positions, writes}
    size = size + #packed + more
  elseif id and redis.call('ZSCORE', INDEX, ns .. SEP .. id) then
    return LOST
  else
    checkpoints[#checkpoints + 1] = {}
  end
  if size > tonumber(budget) then break end
end
if #values == 0 and redis.call('EXISTS', COUNTS) > redis.call('EXISTS', VALUES) then return LOST end
return {checkpoints, values}
