"""An agent that reasons and acts, in the shape of the ReAct template."""

from react_agent.graph import graph

__all__ = ["graph"]
