-- The ids of runs that have not ended: those of a thread, or all.
-- KEYS  1 leases, 2 ready, 3 queued, 4 thread hash, 5 its runs
-- ARGV  1 prefix of all keys, 2 '1' for those of the thread alone, 3 'pending', 'running' or 'all'
-- Returns the ids.
local sources
if ARGV[2] == '1' then
  sources = redis.call('ZRANGE', KEYS[5], 0, -1)
  local alone = redis.call('HGET', KEYS[4], 'temporary')
  if alone then table.insert(sources, alone) end
else
  sources = {}
  for i = 1, 3 do
    for _, id in ipairs(redis.call('ZRANGE', KEYS[i], 0, -1)) do table.insert(sources, id) end
  end
end
local ids = {}
for _, id in ipairs(sources) do
  local status = redis.call('HGET', ARGV[1] .. ':run:' .. id, 'status')
  if status == 'pending' or status == 'running' then
    if ARGV[3] == 'all' or ARGV[3] == status then table.insert(ids, id) end
  end
end
return ids
