-- Begins every script that must not be done once who asked for it has been told that it was not: a
-- command can lie in the socket of a server that is silent, and be read long after.
-- The last of ARGV, which the script itself does not see, is until when, in ms of Redis's clock, or ''.
do
  local latest = table.remove(ARGV)
  if latest ~= '' then
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    if now > tonumber(latest) then return redis.error_reply(string.format('LATE %.0f', now)) end
  end
end
