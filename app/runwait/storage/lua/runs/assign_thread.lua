-- Assigns a thread to the graph and assistant whose run has its turn.
-- KEYS  1 thread hash
-- ARGV  prefix, thread, id (of the run), graph (the graph's and assistant's ids), metadata (the thread's
--       with them laid over), terms (its index terms), seen (the metadata as read before)
-- Returns false when done; the metadata, if it changed since.
local a = named(ARGV)
-- A thread that was made anew under this id is none of the run's.
if redis.call('HGET', KEYS[1], 'active') ~= a.id then return false end
return assign_thread(a.prefix, a.thread, clock(), a.graph, a.metadata, a.terms, a.seen)
