-- Makes a thread that of the graph and assistant whose run has its turn.
-- KEYS  1 thread hash
-- ARGV  1 prefix of all keys, 2 thread id, 3 the graph's and assistant's ids, 4 the thread's metadata
--       with them laid over, 5 its index terms, 6 the metadata as read before, 7 run id
-- Returns false when done; the metadata, if it changed since.
-- A thread that was made anew under this id is none of the run's.
if redis.call('HGET', KEYS[1], 'active') ~= ARGV[7] then return false end
return become(ARGV[1], ARGV[2], clock(), ARGV[3], ARGV[4], ARGV[5], ARGV[6])
