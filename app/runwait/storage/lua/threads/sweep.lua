-- Removes threads that were not used for as long as they live, unless a run is scheduled on them, and gives
-- up those that somebody began to build an hour ago.
-- KEYS  1 expiry, 2 what removed threads left, 3 building
-- ARGV  1 tag of all keys, 2 most to remove
-- Returns {1 if there may be more to do, else 0, ids and fencing tokens of threads whose checkpoints are
-- to be deleted, in turn}.
local p, now = ARGV[1], clock()

-- Whether a run is still to come: its thread is in use. The thread of a run that has its turn is busy,
-- and does not expire.
local function scheduled(id)
  for _, run in ipairs(redis.call('ZREVRANGE', thread_key(p, id) .. ':runs', 0, -1)) do
    local found = redis.call('HMGET', p .. ':run:' .. run, 'record', 'ended_by')
    if found[1] and not found[2] then return true end
  end
  return false
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  if scheduled(id) then
    thread_touch(p, id, now)
  else
    thread_remove(p, id, now)
  end
end
-- The token that a thread is built with tells since when, in microseconds.
local hour_ago = string.format('%.0f', (now - 3600000) * 1000)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', hour_ago, 'LIMIT', 0, ARGV[2])) do
  thread_left_over(p, id)
end
local left_over = redis.call('ZRANGE', KEYS[2], 0, ARGV[2] - 1, 'WITHSCORES')
for i = 2, #left_over, 2 do left_over[i] = string.format('%.0f', left_over[i]) end
local more = redis.call('ZCOUNT', KEYS[1], '-inf', now) > 0 or redis.call('ZCARD', KEYS[2]) > #left_over / 2
return {more and 1 or 0, left_over}
