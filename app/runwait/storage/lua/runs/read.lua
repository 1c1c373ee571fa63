-- Reads a run, for one who only looks or for a process in which someone waits for it.
-- KEYS  1 run hash, 2 result, 3 waiting processes, 4 log
-- ARGV  prefix, id
--       follower  the id of the process to be told of the run's end, if it is followed there
--       streams   it is to be told of the run's events too
-- Returns {record, status, updated_at, result, kept, error, waited, once, logged}, each false where it is
-- not there; waited: it ended, and this process waited for that; once: what it came to is only for those
-- who did; logged: there is a log of its events.
local a = named(ARGV)
local follower = a.follower
local run = redis.call('HMGET', KEYS[1], 'record', 'status', 'updated_at', 'ended_by', 'once', 'undone',
  'kept', 'error', 'owner')
if not run[1] then return {false} end
-- What was undone is there only for those who waited for it.
local waited = follower and redis.call('SISMEMBER', KEYS[3], follower) == 1
if run[6] and not waited then return {false} end
local result = redis.call('GET', KEYS[2])
if follower and not run[4] then
  redis.call('SADD', KEYS[3], follower)
  if a.streams then listen(a.prefix, a.id, follower, run[9]) end
end
return {run[1], run[2], run[3], result, run[7], run[8], run[4] and waited and 1 or false,
  run[5] and (run[6] or not run[7]) and 1 or false, redis.call('EXISTS', KEYS[4]) == 1 and 1 or false}
