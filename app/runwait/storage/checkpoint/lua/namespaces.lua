-- The namespaces of a thread's checkpoints, in order.
-- ARGV  1 how many, at most, 2 namespace that they come after, absent for the first ones
-- Returns them.
local most, after = unpack(ARGV)
local namespaces = {}
local from = after and '(' .. after .. SEP .. '\255' or '-'
for _ = 1, tonumber(most) do
  local member = redis.call('ZRANGEBYLEX', INDEX, from, '+', 'LIMIT', 0, 1)[1]
  if not member then break end
  local ns = string.match(member, '^(.*)%z')
  namespaces[#namespaces + 1] = ns
  from = '(' .. ns .. SEP .. '\255'
end
return namespaces
