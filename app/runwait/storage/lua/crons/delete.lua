-- Deletes a cron; its runs stay.
-- KEYS  1 the mark that a deletion leaves for a while
-- ARGV  prefix, id
--       call  what tells this call from others
--       stays how long the mark stays, in ms
-- Returns 1 if this deleted it (also when repeated), 0 if it was not there.
local a = named(ARGV)
if redis.call('GET', KEYS[1]) == a.call then return 1 end
if not cron_remove(a.prefix, a.id) then return 0 end
redis.call('SET', KEYS[1], a.call, 'PX', a.stays)
return 1
