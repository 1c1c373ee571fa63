-- Asks for runs to be stopped: noted in each record, and the process that runs it is told.
-- KEYS  run hashes
-- ARGV  1 prefix of all keys, 2 action: 'interrupt' or 'rollback', 3.. the runs' ids
-- Returns how many had not ended.
local asked = 0
for i = 3, #ARGV do asked = asked + ask_to_stop(ARGV[1], ARGV[i], ARGV[2]) end
return asked
