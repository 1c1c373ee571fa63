-- Ends each script whose answer may be large, which stands before this in a function `answer`. A large
-- one is not sent, but asked for again on the connection for large values: a script may be run twice.
local function size_of(value)
  if type(value) == 'string' then return #value end
  if type(value) ~= 'table' then return 8 end
  local size = 8
  for _, each in ipairs(value) do size = size + size_of(each) end
  return size
end
local found = answer()
if size_of(found) > %d then return redis.error_reply('LARGE') end
return found
