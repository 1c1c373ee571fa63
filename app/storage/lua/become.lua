-- Makes a thread that of the graph and assistant whose run has its turn.
-- KEYS  1 thread hash
-- ARGV  1 prefix of all keys, 2 thread id, 3 the graph's and assistant's ids, 4 the thread's metadata
--       with them laid over, 5 its index terms, 6 the metadata as read before
-- Returns false when done; the metadata, if it changed since.
return become(ARGV[1], ARGV[2], clock(), ARGV[3], ARGV[4], ARGV[5], ARGV[6])
