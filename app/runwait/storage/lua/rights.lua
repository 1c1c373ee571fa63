-- Tries whether Redis lets this user do what the scripts do, on keys and a channel that nothing else uses.
-- ARGV  a channel, its pattern, then names of keys and the patterns of each
-- Returns the rights that are lacking, as rules of an ACL.
local lacking = {}
local function try(pattern, ...)
  local answer = redis.pcall(...)
  local error = type(answer) == 'table' and answer.err or ''
  -- Each version has its own words.
  if not (error:find('NOPERM') or error:find('ACL failure') or error:find('user executing')) then return end
  local rule = '+' .. (...):lower()
  if error:find(' key') or error:find(' channel') then rule = pattern end
  lacking[rule] = true
end
-- The first leaves a text, which most of the others leave alone: it is of no type of theirs.
local commands = [[
SET 1 PX 60000
GET
EXISTS
INCR
PERSIST
PEXPIRE 60000
PTTL
HDEL f
HEXISTS f
HGET f
HGETALL
HINCRBY f 0
HMGET f
HSET f 1
HSETNX f 1
LPOP
LRANGE 0 0
LREM 0 f
RPUSH f
SADD f
SCARD
SISMEMBER f
SMEMBERS
SREM f
ZADD 0 f
ZCARD
ZCOUNT 0 0
ZLEXCOUNT - +
ZMSCORE f
ZRANGE 0 0
ZRANGEBYLEX - +
ZRANGEBYSCORE 0 0
ZREM f
ZREMRANGEBYSCORE 0 0
ZREVRANGE 0 0
ZREVRANGEBYLEX + -
ZSCORE f
XADD NOMKSTREAM 1-1 f v
XRANGE - +
XREVRANGE + -
UNLINK
DEL
]]
for i = 3, #ARGV, 2 do
  for line in commands:gmatch('[^\n]+') do
    local words = {}
    for word in line:gmatch('%S+') do table.insert(words, word) end
    table.insert(words, 2, ARGV[i])
    try('~' .. ARGV[i + 1], unpack(words))
  end
end
if ARGV[3] then try('~' .. ARGV[4], 'ZINTER', 1, ARGV[3]) end
try('', 'TIME')
try('&' .. ARGV[2], 'PUBLISH', ARGV[1], '')
local rules = {}
for rule in pairs(lacking) do table.insert(rules, rule) end
table.sort(rules)
return rules
