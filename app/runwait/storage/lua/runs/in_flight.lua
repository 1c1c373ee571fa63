-- The ids of runs that have not ended: those of a thread, or all.
-- KEYS  1 leases, 2 ready, 3 queued, 4 thread hash, 5 its runs
-- ARGV  prefix, of_thread (to name those of the thread alone), status ('pending', 'running' or 'all')
-- Returns the ids.
local a = named(ARGV)
local sources
if a.of_thread then
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
  local status = redis.call('HGET', a.prefix .. ':run:' .. id, 'status')
  if status == 'pending' or status == 'running' then
    if a.status == 'all' or a.status == status then table.insert(ids, id) end
  end
end
return ids
