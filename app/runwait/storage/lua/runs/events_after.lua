-- Reads a run's events.
-- KEYS  1 log
-- ARGV  after (an event's id), page (how many at most)
-- Returns of each its id, name and data.
local a = named(ARGV)
local found = redis.call('XRANGE', KEYS[1], '(' .. a.after, '+', 'COUNT', a.page)
for i, event in ipairs(found) do found[i] = {event[1], event[2][2], event[2][4]} end
return found
