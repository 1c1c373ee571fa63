-- Has a run that this process cannot execute taken again a little later, by whoever is first then.
-- KEYS  1 run hash
-- ARGV  prefix, id, token, pause (ms), longest (for how many ms this is done at the most)
-- Returns 1 if it was; 0 if it has been done for too long, or the run is another process's by now.
local a = named(ARGV)
local p, id = a.prefix, a.id
local now = clock()
local found = redis.call('HMGET', KEYS[1], 'token', 'attempts', 'postponed', 'postponed_since', 'ended_by',
  'owner')
if found[1] ~= a.token or found[5] then return 0 end
if not found[6] then return 1 end
-- From the first of those in a row: a process that could execute it may have had it in between.
local since = now
if found[3] and found[3] + 1 == tonumber(found[2]) then since = tonumber(found[4]) end
if now - since >= tonumber(a.longest) then return 0 end
-- It was not started, which the claim took for granted.
local attempts = redis.call('HINCRBY', KEYS[1], 'attempts', -1)
redis.call('HSET', KEYS[1], 'postponed', attempts, 'postponed_since', since)
hand_back(p, id, now + a.pause)
return 1
