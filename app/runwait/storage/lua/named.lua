-- Begins every script. Arguments are fields, each a name and then its value; what is absent is not sent.
local function named(list)
  local fields = {}
  for i = 1, #list, 2 do fields[list[i]] = list[i + 1] end
  return fields
end
