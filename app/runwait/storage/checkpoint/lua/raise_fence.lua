-- Claims a thread for a token, and for none that is lower.
-- ARGV  1 token
-- Returns 1, or -1 if someone with a higher token has claimed it.
local fence = redis.call('GET', FENCE)
if fence and tonumber(fence) > tonumber(ARGV[1]) then return REFUSED end
redis.call('SET', FENCE, ARGV[1])
return 1
