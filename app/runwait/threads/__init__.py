"""Threads: their records, and the states that their checkpoints hold."""
