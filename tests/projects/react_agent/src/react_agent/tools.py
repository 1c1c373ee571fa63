"""Tools that can only be awaited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langgraph.runtime import get_runtime

from react_agent.context import Context

SHELF = ["an atlas of {}", "a history of {}", "letters about {}", "a dictionary of {}"]


async def search(query: str) -> list[str]:
    """Search the library for books about a subject."""
    runtime = get_runtime(Context)
    return [title.format(query) for title in SHELF[: runtime.context.max_search_results]]


async def name_model() -> str:
    """Tell which model answers."""
    return get_runtime(Context).context.model


TOOLS: list[Callable[..., Any]] = [search, name_model]
