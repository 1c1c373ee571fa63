-- Claims a thread for a token, and for none that is lower.
-- ARGV  1 token
-- Returns 1, or -1 if someone with a higher token has claimed it.
local token, fence = ARGV[1], redis.call('GET', FENCE)
if fence and tonumber(fence) > tonumber(token) then return REFUSED end
redis.call('SET', FENCE, token)
return 1
