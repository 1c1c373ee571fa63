-- Searches the assistants that users made. One term, or none, costs its page; several cost the rarest,
-- and a part of the name all that the terms leave: these are walked through, a stretch in each call.
-- KEYS  1 the zset of all assistants in the order that is asked for
-- ARGV  1 tag, 2 asc or desc, 3 first place wanted, from 0, 4 the place after the last one, 5 a part
--       of the folded name or '', 6 where in the walk to go on, 7 the term whose zset is walked
--       through (counted from 1, 0 to choose the rarest), 8 longest stretch, 9.. terms
-- Returns {how many there are on this stretch, those of them at the places wanted as assistant_read
-- gives them, where to go on or -1, the term}.
local p = ARGV[1]
local range = ARGV[2] == 'asc' and 'ZRANGE' or 'ZREVRANGE'
local from, to, part = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local rank, walked, stretch = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local terms = {unpack(ARGV, 9)}
if walked == 0 then
  local least
  for i, term in ipairs(terms) do
    local size = redis.call('ZCARD', p .. ':assistants:id:' .. term)
    if not least or size < least then least, walked = size, i end
  end
end
local key = walked == 0 and KEYS[1] or KEYS[1] .. ':' .. terms[walked]
local total, page, following = 0, {}, -1
if #terms <= 1 and part == '' then
  total = redis.call('ZCARD', key)
  if to > from then page = redis.call(range, key, from, to - 1) end
else
  local members = redis.call(range, key, rank, rank + stretch - 1)
  if #members == stretch then following = rank + stretch end
  for _, member in ipairs(members) do
    local id = member:sub(-36)
    local fits = part == ''
      or string.find(redis.call('HGET', p .. ':assistant:' .. id, 'name'), part, 1, true)
    for i, term in ipairs(terms) do
      fits = fits and (i == walked or redis.call('ZSCORE', p .. ':assistants:id:' .. term, id))
    end
    if fits then
      if total >= from and total < to then table.insert(page, member) end
      total = total + 1
    end
  end
end
for i, member in ipairs(page) do page[i] = assistant_read(p, member:sub(-36)) end
return {total, page, following, walked}
