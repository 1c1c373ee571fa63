-- Starts the runs of crons that are due, and sets when they are next, each in one step: a time starts one
-- run, whoever else tries. A run is admitted as runs/admit.lua does it, whose body is the function `admit`.
-- ARGV  prefix
--       starts  of each what follows, as a JSON list of names and values: what admit.lua is given, and
--         cron    the cron's id
--         run     the key of the run's hash
--         due     the time for which this is, in ms since 1970
--         next    the time after it; absent if there is none
--         missed  how many times before it were missed
--         none    no run is to be started for it either
-- Returns for each what became of it, in a list as admit.lua does: 'pending', its run was started (also
-- when repeated); 'over', another process did that, or the cron was changed or deleted meanwhile;
-- 'missing', its thread is gone, and so is the cron now; 'missed', 'busy' and 'waiting': no run was
-- started, since that was asked for, or another run has the thread, or the cron's last run has yet to start
-- there; 'metadata' and 'left over' as there, and nothing was changed; 'fault' and a text.
local function start(given)
  local a = named(given)
  local p, key = a.prefix, cron_key(a.prefix, a.cron)
  local found = redis.call('HMGET', key, 'next', 'last_run', 'last_by')
  if found[2] == a.id and found[3] == a.owner then return {'pending'} end
  if found[1] ~= a.due or clock() < tonumber(a.due) then return {'over'} end
  local verdict
  if a.none then
    verdict = {'missed'}
  elseif a.missing and a.strategy == 'enqueue' and found[2] then
    local last = redis.call('HMGET', p .. ':run:' .. found[2], 'status', 'ended_by')
    if last[1] == 'pending' and not last[2] then verdict = {'waiting'} end
  end
  verdict = verdict or admit({a.run, a.run}, given)
  local kind = verdict[1]
  if kind == 'metadata' or kind == 'left over' then return verdict end
  if kind == 'missing' and a.missing == 'reject' and redis.call('EXISTS', p .. ':thread:' .. a.thread) == 0 then
    cron_remove(p, a.cron)
    return verdict
  end
  local missed = tonumber(a.missed)
  if kind == 'missed' or kind == 'busy' or kind == 'waiting' then
    missed = missed + 1
  else
    -- Whatever became of the run since: it was started.
    verdict = {'pending'}
    redis.call('HSET', key, 'last_run', a.id, 'last_by', a.owner)
  end
  if missed > 0 then redis.call('HINCRBY', key, 'missed', string.format('%.0f', missed)) end
  if a.next then
    redis.call('HSET', key, 'next', a.next)
    redis.call('ZADD', p .. ':crons:due', a.next, a.cron)
  else
    redis.call('HDEL', key, 'next')
    redis.call('ZREM', p .. ':crons:due', a.cron)
  end
  return verdict
end

local became = {}
for i, given in ipairs(cjson.decode(named(ARGV).starts)) do
  -- Whatever is wrong with one must not hold up the others.
  local done, verdict = pcall(start, given)
  became[i] = done and verdict or {'fault', type(verdict) == 'table' and verdict.err or tostring(verdict)}
end
return became
