-- Reads a run, for one who only looks or for a process in which someone waits for it.
-- KEYS  1 run hash, 2 result, 3 waiting processes
-- ARGV  1 id of the process to be told of the run's end, or '' to only look
-- Returns {record, status, updated_at, result}, each false where it is not there.
local run = redis.call('HMGET', KEYS[1], 'record', 'status', 'updated_at', 'ended_by', 'once')
if not run[1] then return {false, false, false, false} end
local result = redis.call('GET', KEYS[2])
if ARGV[1] ~= '' then
  if not run[4] then
    redis.call('SADD', KEYS[3], ARGV[1])
  elseif run[5] and redis.call('SREM', KEYS[3], ARGV[1]) == 1
      and redis.call('SCARD', KEYS[3]) == 0 then
    redis.call('DEL', KEYS[1], KEYS[2])
  end
end
return {run[1], run[2], run[3], result}
