-- Counts the threads that are in all of some index zsets.
-- KEYS  the zsets. In a call that goes on with a count, the first is the rarest.
-- ARGV  rank (to go on at, in the rarest; 0 in a first call)
-- Returns {matches found by this call, rank to go on at, or -1 at the end, place of the rarest among
-- KEYS}.
local CALL, STEP = 10000, 500
local from, rarest, count = tonumber(named(ARGV).rank), 1, 0
local length = redis.call('ZCARD', KEYS[1])
if #KEYS == 1 then return {length, -1, 1} end
if from == 0 then
  for i = 2, #KEYS do
    local card = redis.call('ZCARD', KEYS[i])
    if card < length then rarest, length = i, card end
  end
end
local last = math.min(from + CALL, length)
while from < last do
  local members = redis.call('ZRANGE', KEYS[rarest], from, from + STEP - 1)
  for i, key in ipairs(KEYS) do
    if i ~= rarest and #members > 0 then
      local scores, left = redis.call('ZMSCORE', key, unpack(members)), {}
      for j, id in ipairs(members) do
        if scores[j] then table.insert(left, id) end
      end
      members = left
    end
  end
  count, from = count + #members, from + STEP
end
return {count, from < length and from or -1, rarest}
