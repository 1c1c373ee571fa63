-- Lets runs whose document was delivered go sooner.
-- KEYS  the runs' hashes and results
-- ARGV  1 time left to them, in ms, at most
-- Returns 1.
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) > tonumber(ARGV[1]) then redis.call('PEXPIRE', key, ARGV[1]) end
end
return 1
