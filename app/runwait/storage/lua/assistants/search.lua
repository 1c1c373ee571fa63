-- Searches the assistants that users made. One term, or none, costs its page; several cost the rarest,
-- and a part of the name all that the terms leave: these are walked through, a stretch in each call.
-- KEYS  1 the zset of all assistants in the order that is asked for
-- ARGV  prefix, order ('asc' or 'desc'), terms
--       start, stop  the first place wanted, from 0, and the place after the last one
--       part         of the folded name, if it is asked for
--       rank         where in the walk to go on
--       walked       the term whose zset is walked through, counted from 1; 0 to choose the rarest
--       stretch      the longest stretch of the walk
-- Returns {how many there are on this stretch, those of them at the places wanted as assistant_read
-- gives them, where to go on or -1, the term}.
local a = named(ARGV)
local p, part, terms = a.prefix, a.part, a.terms
local range = a.order == 'asc' and 'ZRANGE' or 'ZREVRANGE'
local from, to = tonumber(a.start), tonumber(a.stop)
local rank, walked, stretch = tonumber(a.rank), tonumber(a.walked), tonumber(a.stretch)
if walked == 0 then
  local least
  for i, term in ipairs(terms) do
    local size = redis.call('ZCARD', p .. ':assistants:id:' .. term)
    if not least or size < least then least, walked = size, i end
  end
end
local key = walked == 0 and KEYS[1] or KEYS[1] .. ':' .. terms[walked]
local total, page, following = 0, {}, -1
if #terms <= 1 and not part then
  total = redis.call('ZCARD', key)
  if to > from then page = redis.call(range, key, from, to - 1) end
else
  local members = redis.call(range, key, rank, rank + stretch - 1)
  if #members == stretch then following = rank + stretch end
  for _, member in ipairs(members) do
    local id = member:sub(-36)
    local fits = not part
      or string.find(redis.call('HGET', p .. ':assistant:' .. id, 'name') or '', part, 1, true)
    for i, term in ipairs(terms) do
      fits = fits and (i == walked or redis.call('ZSCORE', p .. ':assistants:id:' .. term, id))
    end
    if fits then
      if total >= from and total < to then table.insert(page, member) end
      total = total + 1
    end
  end
end
local found = {}
for _, member in ipairs(page) do
  local record = assistant_read(p, member:sub(-36))
  if record then table.insert(found, record) end -- else evicted
end
return {total, found, following, walked}
