-- Gives up runs that this process cannot end, for others to take.
-- KEYS  1 ready
-- ARGV  prefix, runs (of each its id and token, as JSON), pause (ms until they may be taken)
--       counts        this is a loss, as if their process had died
-- Returns how many were given up now.
local a = named(ARGV)
local runs = cjson.decode(a.runs)
local now = clock()
local given = 0
for i = 1, #runs, 2 do
  local found = redis.call('HMGET', a.prefix .. ':run:' .. runs[i], 'token', 'ended_by', 'owner')
  if found[1] == runs[i + 1] and found[3] and not found[2] then
    hand_back(a.prefix, runs[i], now + a.pause)
    if not a.counts then
      redis.call('HINCRBY', a.prefix .. ':run:' .. runs[i], 'handed_back', 1)
      redis.call('HINCRBY', a.prefix .. ':run:' .. runs[i], 'stopped', 1)
    end
    given = given + 1
  end
end
return given
