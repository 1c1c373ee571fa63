"""A graph of one node, in the shape of the starter template."""

from agent.graph import graph

__all__ = ["graph"]
