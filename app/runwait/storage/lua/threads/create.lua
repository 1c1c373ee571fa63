-- Makes a thread, unless there is one.
-- KEYS  1 thread hash
-- ARGV  prefix, id, nonce (what tells this call from others), metadata, terms, config
--       ttl      ms to live without use
--       prunes   ms without use after which it loses all but its latest state
--       token    of a thread that was built: that with which it was
--       status   of a thread that has a state
-- Returns 1 if made (also when repeated), 0 if there is one, -1 if what was built has been given up; the
-- fencing token as text, where checkpoints of this id are to be deleted first.
local a = named(ARGV)
local p, id = a.prefix, a.id
thread_expire(p, id, clock())
local found = redis.call('HMGET', KEYS[1], 'created', 'nonce')
if found[1] then return found[2] == a.nonce and 1 or 0 end
if not a.token then
  local left_over = thread_left_over(p, id)
  if left_over then return left_over end
elseif not thread_is_built_with(p, id, a.token) then
  return -1
end
local now = clock()
thread_create(p, id, now, a.metadata, a.terms, a.ttl or '', a.prunes or '', a.config, {nonce = a.nonce})
if a.token then redis.call('ZREM', p .. ':threads:building', id) end
if a.status then thread_set(p, id, now, {status = a.status, state_updated = now}) end
return 1
