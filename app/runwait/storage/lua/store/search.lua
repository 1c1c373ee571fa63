-- A page of the items of a namespace and of all beneath it, in the order of their places.
-- KEYS  1 expiry
-- ARGV  prefix, namespace
--       after  last entry of the page before; '' for the first
--       skip   items to leave out (first page only)
--       most   items at most
--       bytes  after which no item follows
--       what   is wanted of each: 'items', 'vectors' or 'both'
-- Returns {1 if there may be more; entry, stored, entry, stored, ...}, an entry being place and item; or
-- with vectors {1 if there may be more; entry, stored or '', vectors or '', ...}.
-- Returns nil, to be called again, while more items have expired than one call removes.
local a = named(ARGV)
local p, index, after = a.prefix, a.prefix .. ':store:under:' .. a.namespace, a.after
local most, bytes, what = tonumber(a.most), tonumber(a.bytes), a.what
if store_expire(p, (store_clock())) == STORE_DUE then return false end
local entries
if after == '' then
  entries = redis.call('ZRANGE', index, a.skip, a.skip + most - 1)
else
  entries = redis.call('ZRANGEBYLEX', index, '(' .. after, '+', 'LIMIT', 0, most)
end
local found = {#entries == most and 1 or 0}
for i, entry in ipairs(entries) do
  local item = string.sub(entry, 27)
  local stored = what == 'vectors' and '' or redis.call('GET', p .. ':store:item:' .. item)
  if stored then -- else evicted
    local vectors = what ~= 'items' and (redis.call('GET', p .. ':store:vector:' .. item) or '')
    table.insert(found, entry)
    table.insert(found, stored)
    if vectors then table.insert(found, vectors) end
    bytes = bytes - #entry - #stored - #(vectors or '')
    if bytes < 0 and i < #entries then
      found[1] = 1
      break
    end
  end
end
return found
