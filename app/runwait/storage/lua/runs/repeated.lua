-- Looks whether an idempotency key was used before.
-- KEYS  1 idempotency hash
-- ARGV  prefix, fingerprint (of the request)
-- Returns what admit.lua does for it; false for a new key.
local a = named(ARGV)
return answer_to_key(a.prefix, KEYS[1], a.fingerprint)
