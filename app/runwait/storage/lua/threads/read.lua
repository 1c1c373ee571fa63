-- Reads threads.
-- KEYS  hashes of the threads
-- ARGV  1 tag of all keys, 2 '1' where reading is a use, which puts off the expiry,
--       3.. ids of the threads, in the order of their hashes, then fields of the records
-- Returns for each {ms when it expires or false, values of the fields...}, or false if there is none.
local p, rows = ARGV[1], {}
for i, key in ipairs(KEYS) do
  local id = ARGV[i + 2]
  rows[i] = false
  if redis.call('EXISTS', key) == 1 then
    -- What lives for ever is only read: that works on a Redis that takes no writes, too.
    if ARGV[2] == '1' and redis.call('HEXISTS', key, 'ttl') == 1 then thread_touch(p, id, clock()) end
    rows[i] = {redis.call('ZSCORE', p .. ':threads:expiry', id)}
    for _, value in ipairs(redis.call('HMGET', key, unpack(ARGV, #KEYS + 3))) do
      table.insert(rows[i], value)
    end
  end
end
return rows
