-- Reads crons that are due. It changes nothing: they are due until somebody starts their runs.
-- KEYS  1 crons by the ms when they are due
-- ARGV  prefix
--       most   how many are wanted, at most
--       size   of how many bytes in all; at least one is given
--       place  where among those that are due to begin, from 0 to 1, so that processes which ask at the
--              same time are given others
--       fields the names of the fields that are read, as JSON
-- Returns {Redis's time in ms, ms until the next is due or -1 for none, {id, values of the fields...},
-- ...}; the second is 0 where some are due.
local a = named(ARGV)
local most, size, now = tonumber(a.most), tonumber(a.size), clock()
local due = redis.call('ZCOUNT', KEYS[1], '-inf', now)
if due == 0 then
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return {now, first[2] and math.max(1, first[2] - now) or -1}
end
local found, fields = {now, 0}, cjson.decode(a.fields)
local start = math.floor(a.place * (math.max(0, due - most) + 1))
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], start, math.min(start + most, due) - 1)) do
  local values = redis.call('HMGET', a.prefix .. ':cron:' .. id, unpack(fields))
  if not values[1] then
    redis.call('ZREM', KEYS[1], id) -- Redis dropped its record
  else
    size = size - #values[1]
    if size < 0 and found[3] then break end
    table.insert(found, {id, unpack(values)})
  end
end
return found
