-- Lets runs whose document was delivered go sooner.
-- KEYS  the runs' hashes and results
-- ARGV  ttl (time left to them, in ms, at most)
-- Returns 1.
local ttl = named(ARGV).ttl
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) > tonumber(ttl) then redis.call('PEXPIRE', key, ttl) end
end
return 1
