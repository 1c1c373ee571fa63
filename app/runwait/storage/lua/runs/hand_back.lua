-- Gives up runs that this process cannot end, for others to take at once.
-- KEYS  1 ready
-- ARGV  1 prefix of all keys, 2.. of each run its id and token
-- Returns how many were given up now.
local p = ARGV[1]
local now = clock()
local given = 0
for i = 2, #ARGV, 2 do
  local found = redis.call('HMGET', p .. ':run:' .. ARGV[i], 'token', 'ended_by', 'owner')
  if found[1] == ARGV[i + 1] and found[3] and not found[2] then
    give_up(p, ARGV[i], now)
    given = given + 1
  end
end
return given
