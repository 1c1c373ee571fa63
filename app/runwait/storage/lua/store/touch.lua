-- Lets items live anew, those that are still there.
-- KEYS  1 expiry
-- ARGV  1 prefix of all keys, then of each item its namespace and key
local p, now = ARGV[1], (store_clock())
for i = 2, #ARGV, 2 do
  local item = store_item(ARGV[i], ARGV[i + 1])
  local stored = store_get(p, item, now)
  if stored then store_touch(p, item, stored, now) end
end
return 1
