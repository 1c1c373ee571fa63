-- Stores a checkpoint with the values of its new versions.
-- ARGV  1 token or '', 2 namespace, 3 checkpoint id, 4 run id or '', 5 record, then channel, value for
--       each new version that has a value
-- Returns 1, -1 if the thread is claimed by someone else, or -2 if Redis has lost the parent, and with it
-- what the checkpoint is to be read with: values of older versions, changes. What is not stored with the
-- parent need not have been stored at all: a channel may just have become one that has a value. That is
-- looked for only where there is a token.
local token, ns, id, run, record = unpack(ARGV, 1, 5)
if is_fenced(token) then return REFUSED end
local parent = read_head(record)[2]
if token ~= '' and parent ~= '' then
  if redis.call('HEXISTS', CHECKPOINTS, ns .. SEP .. parent) == 0 then return LOST end
end
local values = {}
for i = 6, #ARGV do values[i - 5] = ARGV[i] end
own_undo(run)
store(ns, id, record, values)
return 1
