-- Lets items live anew, those that are still there.
-- KEYS  1 expiry
-- ARGV  prefix, items (of each its namespace and key)
local a = named(ARGV)
local p, now = a.prefix, (store_clock())
for i = 1, #a.items, 2 do
  local item = store_item(a.items[i], a.items[i + 1])
  local stored = store_get(p, item, now)
  if stored then store_touch(p, item, stored, now) end
end
return 1
