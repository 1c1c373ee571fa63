-- Asks for runs to be cancelled: noted in each record, and the process that executes it is told.
-- KEYS  run hashes
-- ARGV  prefix, action ('interrupt' or 'rollback'), ids (of the runs, as JSON)
-- Returns how many had not ended.
local a = named(ARGV)
local asked = 0
for _, id in ipairs(cjson.decode(a.ids)) do asked = asked + request_cancel(a.prefix, id, a.action) end
return asked
