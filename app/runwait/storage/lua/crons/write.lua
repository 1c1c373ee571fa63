-- Records a new cron, or a change of one.
-- KEYS  1 the cron's hash
-- ARGV  prefix, id, record, terms
--       revision   what tells this change from all others
--       seen       the revision that is changed; absent for a new cron
--       thread, assistant  their ids, to sort by; for a new cron they must be there, but for an
--       system     assistant that is the system's
--       end        ms since 1970, to sort by; absent without
--       timed      whether the next time is to be set, too
--       next       that, in ms since 1970; absent if there is none
-- Returns 1 if it was done (also when repeated), 0 if there is no such cron, -1 if it was changed meanwhile,
-- -2 if there is no such thread, -3 if there is no such assistant.
local a = named(ARGV)
local p, key = a.prefix, KEYS[1]
local now = clock()
local before = redis.call('HMGET', key, 'revision', 'terms', 'created')
if before[1] == a.revision then return 1 end
if a.seen then
  if not before[1] then return 0 end
  if before[1] ~= a.seen then return -1 end
  for _, index in ipairs(cron_indexes(p, before[2])) do redis.call('ZREM', index, a.id) end
else
  if a.thread then
    thread_expire(p, a.thread, now)
    local there = redis.call('HMGET', p .. ':thread:' .. a.thread, 'status', 'temporary')
    if not there[1] or there[2] then return -2 end
  end
  if not a.system and redis.call('EXISTS', p .. ':assistant:' .. a.assistant) == 0 then return -3 end
  redis.call('HSET', key, 'created', now, 'missed', 0)
end
redis.call('HSET', key, 'record', a.record, 'terms', a.terms, 'revision', a.revision, 'updated', now,
  'thread', a.thread or '', 'assistant', a.assistant)
if a['end'] then redis.call('HSET', key, 'end', a['end']) else redis.call('HDEL', key, 'end') end
for _, index in ipairs(cron_indexes(p, a.terms)) do
  redis.call('ZADD', index, before[3] or now, a.id)
end
if a.timed then cron_set_next(p, a.id, a.next) end
return 1
