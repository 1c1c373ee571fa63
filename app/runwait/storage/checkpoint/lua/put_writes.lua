-- Stores what a task wrote on a checkpoint, which need not be there yet. A write with a negative
-- index takes the place of the one before; of others, the first stands.
-- ARGV  1 token or '', 2 namespace, 3 checkpoint id, 4 run id or '', 5 task, 6 task path,
--       then index, channel, value for each write
-- Returns 1, or -1 if the thread is claimed by someone else.
if is_fenced(ARGV[1]) then return REFUSED end
local run, path = ARGV[4], ARGV[6]
local member = ARGV[2] .. SEP .. ARGV[3]
local name = member .. SEP .. ARGV[5]
own_undo(run)
local before = redis.call('HGET', WRITES, name)
local writes = before and cmsgpack.unpack(before) or {}
local position = {}
for i, write in ipairs(writes) do position[write[1]] = i end
local changed = false
for i = 7, #ARGV, 3 do
  local index = tonumber(ARGV[i])
  local at = position[index]
  if not at or index < 0 then
    at = at or #writes + 1
    writes[at] = {index, ARGV[i + 1], ARGV[i + 2], path}
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
