"""Assistants: graphs with a config, a context and metadata of their own."""
