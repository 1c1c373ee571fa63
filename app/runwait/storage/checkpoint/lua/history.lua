-- Walks from a checkpoint to its ancestors, for what some channels are made of: the writes on each
-- ancestor, and the value where there is one, behind which nothing is needed for that channel.
-- ARGV  1 namespace, 2 checkpoint id, '' is the latest, 3 '1' if it is an ancestor itself,
--       4 how many checkpoints to visit, 5 bytes after which to stop, then channels
-- Returns {next id to visit or '', ancestors}, each {id, {channel, value, ...}, writes} with the
-- writes to channels whose value was not found before.
local ns, id, is_own, most, budget = unpack(ARGV, 1, 5)
local size = 0
if id == '' then id = latest_of(ns) or '' end
local wanted, count = {}, 0
for i = 6, #ARGV do
  wanted[ARGV[i]] = true
  count = count + 1
end
local ancestors = {}
for visit = 1, tonumber(most) do
  local record = id ~= '' and count > 0 and read_record(ns .. SEP .. id)
  if not record then return {'', ancestors} end
  if visit > 1 or is_own == '1' then
    local writes = {}
    for _, task in ipairs(read_writes(ns .. SEP .. id)) do
      local some = {}
      for _, write in ipairs(task[2]) do
        if wanted[write[2]] then
          some[#some + 1] = write
          size = size + #write[3]
        end
      end
      if #some > 0 then writes[#writes + 1] = {task[1], some} end
    end
    local seeds, versions = {}, record[4]
    for i = 1, #versions, 2 do
      if wanted[versions[i]] then
        local value = redis.call('HGET', VALUES, value_name(ns, versions[i], versions[i + 1]))
        if value then
          seeds[#seeds + 1] = versions[i]
          seeds[#seeds + 1] = value
          size = size + #value
          wanted[versions[i]] = nil
          count = count - 1
        end
      end
    end
    ancestors[#ancestors + 1] = {id, seeds, writes}
  end
  id = record[2]
  if size > tonumber(budget) then break end
end
return {id, ancestors}
