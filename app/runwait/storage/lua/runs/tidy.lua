-- Finds what would wait for ever, since Redis dropped a key that it waits for.
-- KEYS  1 leases, 2 ready, 3 queued
-- ARGV  prefix, ids (of runs that are followed in this process, as JSON)
-- Returns those of the ids whose run ended or is gone: whoever follows them was not told.
local a = named(ARGV)
local p, now, told = a.prefix, clock(), {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, 999)) do
  local run = redis.call('HMGET', p .. ':run:' .. id, 'record', 'thread_id')
  if not run[1] then
    redis.call('ZREM', KEYS[3], id)
  else
    pass_on_from_gone(p, run[2], now)
    if redis.call('HEXISTS', p .. ':thread:' .. run[2], 'active') == 0 then
      redis.call('ZREM', KEYS[3], id)
      make_ready(p, id, now)
    end
  end
end
for _, id in ipairs(cjson.decode(a.ids)) do
  local run = redis.call('HMGET', p .. ':run:' .. id, 'record', 'ended_by', 'owner')
  if not run[1] or run[2] then
    table.insert(told, id)
  elseif not run[3] and not redis.call('ZSCORE', KEYS[2], id) and not redis.call('ZSCORE', KEYS[3], id) then
    -- When it was due is not known any more.
    request_cancel(p, id, 'interrupt')
  end
end
return told
