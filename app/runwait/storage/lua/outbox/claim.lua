-- Takes the webhook that is due longest among those of receivers that can be given one more.
-- KEYS  1 outbox, 2 what this process claimed last
-- ARGV  prefix, lease (in ms)
--       claim  what tells this call from all others
--       full   the receivers that this process is to give no more now
-- Returns {id, url, body, receiver, attempts with this one, ms since the first, ms until the next is
-- due, trace context}: id is false if none is due now, the time -1 if none is to come. A repeated call
-- takes no second webhook.
local a = named(ARGV)
local p = a.prefix
local now = clock()
local function answer(id)
  local found = redis.call('HMGET', outbox_key(p, id), 'url', 'body', 'receiver', 'attempts', 'since',
    'trace')
  return {id, found[1], found[2], found[3], tonumber(found[4]), now - found[5], 0, found[6] or ''}
end
local last = redis.call('HMGET', KEYS[2], 'call', 'id')
if last[1] == a.claim and redis.call('HGET', outbox_key(p, last[2]), 'claim') == a.claim then
  return answer(last[2])
end
local full = {}
for _, receiver in ipairs(a.full) do full[receiver] = true end
while true do
  local receiver, due
  -- Of so many, one is not full.
  local first = redis.call('ZRANGE', KEYS[1], 0, #a.full, 'WITHSCORES')
  for i = 1, #first, 2 do
    if not full[first[i]] then
      receiver, due = first[i], tonumber(first[i + 1])
      break
    end
  end
  if not receiver then return {false, '', '', '', 0, 0, -1, ''} end
  if due > now then return {false, '', '', '', 0, 0, due - now, ''} end
  local id = redis.call('ZRANGE', p .. ':outbox:' .. receiver, 0, 0)[1]
  if id and redis.call('HEXISTS', outbox_key(p, id), 'url') == 1 then
    -- A full Redis refuses a script that begins by adding; but only what is taken out makes room.
    redis.call('HDEL', KEYS[2], 'call')
    outbox_due(p, id, receiver, now + a.lease)
    redis.call('HINCRBY', outbox_key(p, id), 'attempts', 1)
    redis.call('HSET', outbox_key(p, id), 'claim', a.claim)
    redis.call('HSET', KEYS[2], 'call', a.claim, 'id', id)
    redis.call('PEXPIRE', KEYS[2], a.lease)
    return answer(id)
  end
  -- Its record is gone: nobody can deliver it.
  if id then redis.call('ZREM', p .. ':outbox:' .. receiver, id) end
  outbox_place(p, receiver)
end
