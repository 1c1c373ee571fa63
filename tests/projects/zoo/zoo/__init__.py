"""Small, deterministic graphs: one for each thing that a server must get right."""
