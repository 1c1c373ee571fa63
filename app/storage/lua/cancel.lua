-- Asks for a run to be cancelled: noted in the record, and the process that runs it is told.
-- KEYS  1 run hash
-- ARGV  1 run id, 2 prefix of the processes' channels
-- Returns 1 if asked, 0 if there is no such run or it ended.
local owner = redis.call('HGET', KEYS[1], 'owner')
if not owner or redis.call('HEXISTS', KEYS[1], 'ended_by') == 1 then return 0 end
redis.call('HSET', KEYS[1], 'cancel', '1')
redis.call('PUBLISH', ARGV[2] .. owner, 'cancel ' .. ARGV[1])
return 1
