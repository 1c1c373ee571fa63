-- Looks whether an idempotency key was used before.
-- KEYS  1 idempotency hash
-- ARGV  1 prefix of all keys, 2 the request's fingerprint
-- Returns what admit.lua does for it; false for a new key.
return answer_to_key(ARGV[1], KEYS[1], ARGV[2])
