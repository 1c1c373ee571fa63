-- Begins every script. Arguments are fields, each a name and then its value; what is absent is not sent.
-- A list is an empty name, its name, how many it has, and each.
local function named(list)
  local fields, i, last = {}, 1, #list
  while i < last do
    local name, value = list[i], list[i + 1]
    i = i + 2
    if name == '' then
      name, value = value, {}
      for j = 1, tonumber(list[i]) do value[j] = list[i + j] end
      i = i + 1 + #value
    end
    fields[name] = value
  end
  return fields
end
