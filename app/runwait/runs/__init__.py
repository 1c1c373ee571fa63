"""The heart: runs, from admission to outcome."""
