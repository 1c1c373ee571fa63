"""The tool that the model is offered."""

import uuid
from typing import Annotated

from langchain_core.tools import InjectedToolArg
from langgraph.store.base import BaseStore


async def upsert_memory(
    content: str,
    context: str,
    *,
    memory_id: uuid.UUID | None = None,
    user_id: Annotated[str, InjectedToolArg],
    store: Annotated[BaseStore, InjectedToolArg],
) -> str:
    """Keep something about the user, or replace what was kept under a memory_id.

    Args:
        content: What to remember.
        context: How it came up.
        memory_id: The memory to replace; leave it out for a new one.
    """
    key = str(memory_id or uuid.uuid5(uuid.NAMESPACE_OID, content))
    await store.aput(("memories", user_id), key=key, value={"content": content, "context": context})
    return f"Stored memory {key}"
