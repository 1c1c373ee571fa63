-- A page of a namespace's checkpoints, newest first, without values and writes.
-- ARGV  1 namespace, 2 id that all are older than, or '', 3 how many
-- Returns {id, record, id, record, ...}.
local ns, before, most = unpack(ARGV)
local from = before == '' and ns .. SEP .. '\255' or ns .. SEP .. before
local members =
  redis.call('ZREVRANGEBYLEX', INDEX, '(' .. from, '[' .. ns .. SEP, 'LIMIT', 0, most)
local records, page = read_fields(CHECKPOINTS, members), {}
for i, member in ipairs(members) do
  page[#page + 1] = string.sub(member, #ns + 2)
  page[#page + 1] = records[i]
end
return page
