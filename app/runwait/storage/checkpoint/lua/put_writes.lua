-- Stores what a task wrote on a checkpoint, which need not be there yet. A write with a negative
-- index takes the place of the one before; of others, the first stands.
-- ARGV  1 token or '', 2 namespace, 3 checkpoint id, 4 run id or '', 5 task, 6 task path,
--       then index, channel, value for each write
-- Returns 1, or -1 if the thread is claimed by someone else.
local token, ns, id, run, task, path = unpack(ARGV, 1, 6)
if is_fenced(token) then return REFUSED end
local member = ns .. SEP .. id
local name = member .. SEP .. task
own_undo(run)
local before = redis.call('HGET', WRITES, name)
local writes = before and cmsgpack.unpack(before) or {}
local position = {}
for i, write in ipairs(writes) do position[write[1]] = i end
local changed = false
for i = 7, #ARGV, 3 do
  local index, channel, value = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
  local at = position[index]
  if not at or index < 0 then
    at = at or #writes + 1
    writes[at] = {index, channel, value, path}
    position[index] = at
    changed = true
  end
end
if not changed then return 1 end
-- The run's own checkpoints go with it, and their writes with them.
if run ~= '' and not redis.call('ZSCORE', RUNS, run .. SEP .. member) then
  redis.call('HSET', UNDO, OWNER, run)
  redis.call('HSETNX', UNDO, name, before or '')
end
redis.call('HSET', WRITES, name, cmsgpack.pack(writes))
redis.call('ZADD', PENDING, 0, name)
return 1
