-- The outbox, for the scripts that begin with this file. app/storage/outbox.py says what its keys hold.
-- Every function takes
--   p    the tag that all keys begin with, such as {runwait}
--   id   the id of the run whose end a webhook tells of
--   now  Redis's time in ms

-- How long it is known that a webhook was delivered, so that an end recorded again adds none.
local OUTBOX_DONE = 3600000

local function outbox_key(p, id) return p .. ':webhook:' .. id end

-- Whom a URL names, as text; '' for a path that is to be resolved. Webhooks of one receiver wait in
-- one line, so that a long one holds up no other.
local function outbox_receiver(url)
  local authority = url:match('^%a[%w+.-]*://([^/?#]*)') or url:match('^//([^/?#]*)') or ''
  return authority:lower()
end

-- Puts a receiver where its next webhook is due.
local function outbox_place(p, receiver)
  local first = redis.call('ZRANGE', p .. ':outbox:' .. receiver, 0, 0, 'WITHSCORES')
  if first[1] then
    redis.call('ZADD', p .. ':outbox', first[2], receiver)
  else
    redis.call('ZREM', p .. ':outbox', receiver)
  end
end

-- Has a webhook be due at a time.
local function outbox_due(p, id, receiver, due)
  redis.call('ZADD', p .. ':outbox:' .. receiver, due, id)
  outbox_place(p, receiver)
end

-- Takes a webhook out of its line.
local function outbox_leave(p, id, receiver)
  redis.call('ZREM', p .. ':outbox:' .. receiver, id)
  outbox_place(p, receiver)
end

-- Adds a webhook, due at once, and tells all processes; does nothing if the run's is known.
--   url   where to, an absolute URL or a reference
--   body  what is sent: the text of a JSON object
--   trace the trace context of the run, as JSON, if there is one
local function outbox_add(p, id, now, url, body, trace)
  local key = outbox_key(p, id)
  if redis.call('EXISTS', key) == 1 then return end
  local receiver = outbox_receiver(url)
  redis.call('HSET', key, 'url', url, 'body', body, 'receiver', receiver, 'created', now,
    'since', now, 'attempts', 0)
  if trace then redis.call('HSET', key, 'trace', trace) end
  outbox_due(p, id, receiver, now)
  redis.pcall('PUBLISH', p .. ':told:all', 'webhook')
end
