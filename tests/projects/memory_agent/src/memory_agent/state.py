"""The agent's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from langchain_core.messages import AnyMessage
from langgraph.graph import add_messages


@dataclass(kw_only=True)
class State:
    """The conversation."""

    messages: Annotated[list[AnyMessage], add_messages]


__all__ = ["State"]
