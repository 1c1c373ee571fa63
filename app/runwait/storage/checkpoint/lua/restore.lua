-- Stores checkpoints of another thread with their writes, as they were there.
-- ARGV  1 token or '', 2 namespace, then for each checkpoint: id, record, number of values, channel and
--       value of each, number of tasks that wrote, and of each the task, the number of its writes, and
--       index, channel, value and path of each
-- Returns 1, or -1 if the thread is claimed by someone else.
local token, ns, at = ARGV[1], ARGV[2], 3
if is_fenced(token) then return REFUSED end
local function take()
  at = at + 1
  return ARGV[at - 1]
end
local function take_list(width)
  local list = {}
  for i = 1, tonumber(take()) * width do list[i] = take() end
  return list
end
while at <= #ARGV do
  local id, record = take(), take()
  store(ns, id, record, take_list(2))
  for _ = 1, tonumber(take()) do
    local name = ns .. SEP .. id .. SEP .. take()
    local flat, writes = take_list(4), {}
    for i = 1, #flat, 4 do
      writes[#writes + 1] = {tonumber(flat[i]), flat[i + 1], flat[i + 2], flat[i + 3]}
    end
    redis.call('HSET', WRITES, name, cmsgpack.pack(writes))
    redis.call('ZADD', PENDING, 0, name)
  end
end
return 1
