"""An agent that remembers what it is told, in the shape of the memory template."""

from memory_agent.graph import graph

__all__ = ["graph"]
