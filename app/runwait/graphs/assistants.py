"""Assistants: graphs under an id of their own, with settings of their own (contract section 2)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import UUID, uuid5

# LangGraph clients have ids made with this namespace stored, so it must never change.
_NAMESPACE = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class AssistantNotFound(Exception):
    """No assistant has this UUID."""


class UnknownGraph(Exception):
    """There is no graph to run; the message lists the graphs there are."""


@dataclass(frozen=True)
class Assistant:
    """A graph, and what its runs get unless they say otherwise. Must not be changed.

    Attributes:
        assistant_id: a UUID, in lower case.
        graph_id: the graph's name.
        config: LangGraph's config; where there is a context, its `configurable` equals that.
        context: the static context.
        metadata: of the assistant; its runs have it too.
        name: for people; need not be unique.
        description: for people.
        version: counts from 1; each change of a user's assistant makes a new one.
        created_at: ISO 8601, in UTC.
        updated_at: likewise.
    """

    assistant_id: str
    graph_id: str
    config: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=lambda: {"created_by": "system"})
    name: str = ""
    description: str | None = None
    version: int = 1
    created_at: str = ""
    updated_at: str = ""

    @classmethod
    def of_graph(
        cls, graph_id: str, description: str | None = None, created_at: str = ""
    ) -> Assistant:
        """The assistant that a graph has from the start."""
        return cls(
            assistant_id=str(uuid5(_NAMESPACE, graph_id)),
            graph_id=graph_id,
            name=graph_id,
            description=description,
            created_at=created_at,
            updated_at=created_at,
        )

    @property
    def is_of_system(self) -> bool:
        """Whether it is the one that its graph has from the start."""
        return self.assistant_id == str(uuid5(_NAMESPACE, self.graph_id))

    def public(self) -> dict[str, Any]:
        """The assistant as the API shows it."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def uuid_of(assistant_id: str) -> UUID:
    """The UUID of an assistant, also where its graph is named."""
    return UUID(assistant_id) if is_uuid(assistant_id) else uuid5(_NAMESPACE, assistant_id)


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID in its usual form, 8-4-4-4-12."""
    return _UUID.fullmatch(text) is not None
