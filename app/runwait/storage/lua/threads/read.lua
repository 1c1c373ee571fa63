-- Reads threads.
-- KEYS  hashes of the threads
-- ARGV  prefix, use (where reading is a use, which puts off the expiry)
--       ids     of the threads, in the order of their hashes
--       fields  of the records
-- Returns for each {ms when it expires or false, values of the fields...}, or false if there is none.
local a = named(ARGV)
local p, rows, now = a.prefix, {}, clock()
for i, key in ipairs(KEYS) do
  local id = a.ids[i]
  rows[i] = false
  thread_expire(p, id, now)
  if redis.call('EXISTS', key) == 1 then
    -- What lives for ever is only read: that works on a Redis that takes no writes, too.
    local life = redis.call('HMGET', key, 'ttl', 'prunes')
    if a.use and (life[1] or life[2]) then thread_touch(p, id, now) end
    rows[i] = {redis.call('ZSCORE', p .. (life[1] and ':threads:expiry' or ':threads:pruning'), id)}
    for _, value in ipairs(redis.call('HMGET', key, unpack(a.fields))) do
      table.insert(rows[i], value)
    end
  end
end
return rows
