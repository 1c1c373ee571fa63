-- Has a run that this process cannot execute taken again a little later, by whoever is first then.
-- KEYS  1 run hash
-- ARGV  1 prefix of all keys, 2 id, 3 token, 4 pause in ms, 5 for how many ms this is done at the most
-- Returns 1 if it was; 0 if it has been done for too long, or the run is another process's by now.
local p, id = ARGV[1], ARGV[2]
local now = clock()
local found = redis.call('HMGET', KEYS[1], 'token', 'attempts', 'postponed', 'postponed_since', 'ended_by',
  'owner')
if found[1] ~= ARGV[3] or found[5] then return 0 end
if not found[6] then return 1 end
-- From the first of those in a row: a process that could execute it may have had it in between.
local since = now
if found[3] and found[3] + 1 == tonumber(found[2]) then since = tonumber(found[4]) end
if now - since >= tonumber(ARGV[5]) then return 0 end
redis.call('HSET', KEYS[1], 'postponed', found[2], 'postponed_since', since)
give_up(p, id, now + ARGV[4])
return 1
