-- Lets runs whose document was delivered go sooner, unless their events are logged.
-- KEYS  of each run its log, its hash and its result
-- ARGV  ttl (time left to them, in ms, at most)
-- Returns 1.
local ttl = named(ARGV).ttl
for i = 1, #KEYS, 3 do
  if redis.call('EXISTS', KEYS[i]) == 0 then
    for _, key in ipairs({KEYS[i + 1], KEYS[i + 2]}) do
      if redis.call('PTTL', key) > tonumber(ttl) then redis.call('PEXPIRE', key, ttl) end
    end
  end
end
return 1
