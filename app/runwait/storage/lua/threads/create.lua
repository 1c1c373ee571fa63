-- Makes a thread, unless there is one.
-- KEYS  1 thread hash
-- ARGV  1 tag of all keys, 2 thread id, 3 what tells this call from others, 4 metadata, 5 its terms,
--       6 ms to live without use, or '', 7 config; of a thread that was built, else '': 8 the token that
--       it was built with, 9 its status, where it has a state
-- Returns 1 if made (also when repeated), 0 if there is one, -1 if what was built has been given up; the
-- fencing token as text, where checkpoints of this id are to be deleted first.
local p, id = ARGV[1], ARGV[2]
local found = redis.call('HMGET', KEYS[1], 'created', 'nonce')
if found[1] then return found[2] == ARGV[3] and 1 or 0 end
if ARGV[8] == '' then
  local doomed = thread_doomed(p, id)
  if doomed then return doomed end
elseif not thread_is_built_with(p, id, ARGV[8]) then
  return -1
end
local now = clock()
thread_create(p, id, now, ARGV[4], ARGV[5], ARGV[6], ARGV[7], {nonce = ARGV[3]})
if ARGV[8] ~= '' then redis.call('ZREM', p .. ':threads:building', id) end
if ARGV[9] ~= '' then thread_set(p, id, now, {status = ARGV[9], state_updated = now}) end
return 1
