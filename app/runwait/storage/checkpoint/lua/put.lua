-- Stores a checkpoint with the values of its new versions.
-- ARGV  1 token or '', 2 namespace, 3 checkpoint id, 4 run id or '', 5 record, 6 number of channels
--       whose values were stored with checkpoints before, then their names, then channel, value for
--       each new version that has a value
-- Returns 1, -1 if the thread is claimed by someone else, or -2 if Redis has lost one of the values
-- that must have been stored before: the checkpoint would be read without it. That is looked for only
-- where there is a token.
if is_fenced(ARGV[1]) then return REFUSED end
local first = 7 + ARGV[6]
if ARGV[1] ~= '' and first > 7 then
  local expected, names, versions = {}, {}, read_head(ARGV[5])[4]
  for i = 7, first - 1 do expected[ARGV[i]] = true end
  for i = 1, #versions, 2 do
    if expected[versions[i]] then
      names[#names + 1] = value_name(ARGV[2], versions[i], versions[i + 1])
    end
  end
  local counts = read_fields(COUNTS, names)
  for i = 1, #names do
    if not counts[i] then return LOST end
  end
end
local values = {}
for i = first, #ARGV do values[i - first + 1] = ARGV[i] end
own_undo(ARGV[4])
store(ARGV[2], ARGV[3], ARGV[5], values)
return 1
