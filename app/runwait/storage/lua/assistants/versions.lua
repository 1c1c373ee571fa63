-- Lists versions of an assistant, newest first.
-- KEYS  1 the assistant's hash
-- ARGV  skip, most  how many to leave out, and to list
-- Returns {version, time in µs, entry} of each; false if there is no such assistant.
local a = named(ARGV)
local last = redis.call('HGET', KEYS[1], 'last')
if not last then return false end
local found = {}
local version = last - a.skip
while version > 0 and #found < tonumber(a.most) do
  local stored = redis.call('HMGET', KEYS[1], 't:' .. version, 'v:' .. version)
  table.insert(found, {version, stored[1], stored[2]})
  version = version - 1
end
return found
