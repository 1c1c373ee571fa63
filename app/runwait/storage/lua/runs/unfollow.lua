-- Tells a process no more of the events of a run, or of a thread's runs.
-- KEYS  1 the processes that are told
-- ARGV  follower (the process's id)
return redis.call('SREM', KEYS[1], named(ARGV).follower)
