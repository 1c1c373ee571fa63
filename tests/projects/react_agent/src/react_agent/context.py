"""What can be set for a run."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import Annotated

from . import prompts


@dataclass(kw_only=True)
class Context:
    """A field left at its default takes the environment variable of its name, if there is one."""

    system_prompt: str = field(
        default=prompts.SYSTEM_PROMPT,
        metadata={"description": "What the model is told before the conversation."},
    )
    model: Annotated[str, {"__template_metadata__": {"kind": "llm"}}] = field(
        default="scripted/librarian",
        metadata={"description": "The chat model, as provider/name."},
    )
    max_search_results: int = field(
        default=10,
        metadata={"description": "How many results a search may give."},
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            variable = os.environ.get(each.name.upper())
            if variable is not None and getattr(self, each.name) == each.default:
                setattr(self, each.name, type(each.default)(variable))
