-- Takes back a run, a part in each call: what it wrote on other runs' checkpoints, then its own.
-- ARGV  1 token or '', 2 run id, 3 how many checkpoints to delete, at most
-- Returns how many were deleted, or -1 if the thread is claimed by someone else.
local token, run, most = unpack(ARGV)
if is_fenced(token) then return REFUSED end
if redis.call('HGET', UNDO, OWNER) == run then
  local fields = redis.call('HGETALL', UNDO)
  for i = 1, #fields, 2 do
    local name, before = fields[i], fields[i + 1]
    if name ~= OWNER then
      local member = string.match(name, '^(.*)%z')
      if before ~= '' and redis.call('HEXISTS', CHECKPOINTS, member) == 1 then
        redis.call('HSET', WRITES, name, before)
        redis.call('ZADD', PENDING, 0, name)
      else
        redis.call('HDEL', WRITES, name)
        redis.call('ZREM', PENDING, name)
      end
    end
  end
  redis.call('UNLINK', UNDO)
end
local members = within(RUNS, run, most)
for _, name in ipairs(members) do
  local ns, id = string.match(string.sub(name, #run + 2), '^(.*)%z(.*)$')
  drop(ns, id)
end
return #members
