-- Reads a run whose events are to be followed. If it has not ended, the process is told of its events
-- from now on, which are logged for it, and of its end.
-- KEYS  1 run hash, 2 result, 3 waiting processes, 4 log
-- ARGV  prefix, id, follower (a process id)
--       after  the event after which it is followed: its id, '0-0' for all; absent for what comes now
-- Returns {'found', record, status, updated_at, result, kept, error, attempt at that event, name of the
-- first event in the log, id of that event, id of the last one}, each false where it is not there; {false} without such a
-- run; {'unknown'} if it has no such event; {'forgotten', id of the first one that is kept}.
local a = named(ARGV)
local run = redis.call('HMGET', KEYS[1], 'record', 'status', 'updated_at', 'ended_by', 'once', 'undone',
  'kept', 'error', 'attempts', 'owner')
if not run[1] or run[5] or run[6] then return {false} end
local first = redis.call('XRANGE', KEYS[4], '-', '+', 'COUNT', 1)[1]
local last = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)[1]
last = last and last[1]
local after, attempt = a.after or last, run[9]
if a.after and after ~= '0-0' then
  local event = redis.call('XRANGE', KEYS[4], after, after)[1]
  if event then
    attempt = event[2][6]
  else
    if not first then return {'forgotten', false} end
    -- A log that was never cut begins with the first attempt.
    if first[2][6] == '1' and first[2][2] == 'metadata' then return {'unknown'} end
    if #redis.call('XRANGE', KEYS[4], '-', after, 'COUNT', 1) > 0 then return {'unknown'} end
    return {'forgotten', first[1]}
  end
end
if not run[4] then
  redis.call('SADD', KEYS[3], a.follower)
  listen(a.prefix, a.id, a.follower, run[10])
end
return {'found', run[1], run[2], run[3], redis.call('GET', KEYS[2]), run[7], run[8], attempt,
  first and first[2][2] or false, after or false, last or false}
