-- Stores a checkpoint with the values of its new versions.
-- ARGV  1 token or '', 2 namespace, 3 checkpoint id, 4 run id or '', 5 record, then channel, value for
--       each new version that has a value
-- Returns 1, -1 if the thread is claimed by someone else, or -2 if Redis has lost the parent, and with it
-- what the checkpoint is to be read with: values of older versions, changes. What is not stored with the
-- parent need not have been stored at all: a channel may just have become one that has a value. That is
-- looked for only where there is a token.
if is_fenced(ARGV[1]) then return REFUSED end
local parent = read_head(ARGV[5])[2]
if ARGV[1] ~= '' and parent ~= '' then
  if redis.call('HEXISTS', CHECKPOINTS, ARGV[2] .. SEP .. parent) == 0 then return LOST end
end
local values = {}
for i = 6, #ARGV do values[i - 5] = ARGV[i] end
own_undo(ARGV[4])
store(ARGV[2], ARGV[3], ARGV[5], values)
return 1
