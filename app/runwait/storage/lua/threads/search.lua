-- Finds the records (of threads, or of crons) that are in all of some index zsets, in the order of their
-- scores.
-- KEYS  the zsets. In a call that goes on with a search, the first is the rarest.
-- ARGV  records       what the records' keys begin with
--       order         'asc' or 'desc'
--       rank          to go on at, in the rarest, 0 in a first call
--       skip, wanted  how many matches to leave out, and to find
--       fields        of the records
-- Returns {all matches there are, or -1 if not known, rank to go on at, or -1 at the end, place of the
-- rarest among KEYS, matches still to be left out, {id, values of the fields...} of each match}.
-- One zset costs its page. Several cost at most a run through the rarest: first a short walk in order,
-- which fills a page wherever matches are frequent, then Redis's own intersection, which is quickest
-- where they are not. Where that would be long, or find many, the walk goes on from call to call.
local WALK, CALL, SMALL, LARGE, STEP = 2000, 10000, 5000, 100000, 500
local a = named(ARGV)
local descending, from = a.order == 'desc', tonumber(a.rank)
local skip, wanted = tonumber(a.skip), tonumber(a.wanted)
local ids, total, following, rarest = {}, -1, -1, 1

local function slice(key, first, last)
  return redis.call(descending and 'ZREVRANGE' or 'ZRANGE', key, first, last)
end

local function walk(length, most)
  while from < length and most > 0 do
    local members = slice(KEYS[rarest], from, from + STEP - 1)
    local others = {}
    for i, key in ipairs(KEYS) do
      if i ~= rarest and #members > 0 then
        table.insert(others, redis.call('ZMSCORE', key, unpack(members)))
      end
    end
    for i, id in ipairs(members) do
      local match = true
      for _, scores in ipairs(others) do
        if not scores[i] then match = false break end
      end
      if match then
        if skip > 0 then
          skip = skip - 1
        else
          table.insert(ids, id)
          if #ids == wanted then
            from = from + i
            return true
          end
        end
      end
    end
    from, most = from + STEP, most - STEP
  end
  return false
end

if #KEYS == 1 then
  total = redis.call('ZCARD', KEYS[1])
  if wanted > 0 then ids = slice(KEYS[1], skip, skip + wanted - 1) end
else
  local length = redis.call('ZCARD', KEYS[1])
  if from == 0 then
    for i = 2, #KEYS do
      local card = redis.call('ZCARD', KEYS[i])
      if card < length then rarest, length = i, card end
    end
  end
  local skipped = skip
  local on = from > 0
  local full = (on or length > SMALL) and walk(length, on and CALL or WALK)
  local frequent = (#ids + skipped - skip) * length > SMALL * WALK
  if full or on or length > LARGE or frequent then
    following = from < length and from or -1
  elseif length > 0 then
    ids, skip = {}, skipped
    local command = {'ZINTER', #KEYS}
    for _, key in ipairs(KEYS) do table.insert(command, key) end
    table.insert(command, 'WEIGHTS')
    for i = 1, #KEYS do table.insert(command, i == 1 and 1 or 0) end
    local all = redis.call(unpack(command))
    total = #all
    for i = skip + 1, math.min(skip + wanted, total) do
      table.insert(ids, all[descending and total + 1 - i or i])
    end
  else
    total = 0
  end
end
local rows = {}
for i, id in ipairs(ids) do
  rows[i] = {id}
  if #a.fields > 0 then
    for _, value in ipairs(redis.call('HMGET', a.records .. id, unpack(a.fields))) do
      table.insert(rows[i], value)
    end
  end
end
return {total, following, rarest, skip, rows}
