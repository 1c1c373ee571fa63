"""Assistants: graphs under an id of their own (contract section 2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID, uuid5

# LangGraph clients have ids made with this namespace stored, so it must never change.
_NAMESPACE = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class AssistantNotFound(Exception):
    """No assistant has this UUID."""


class UnknownGraph(Exception):
    """The text is neither a UUID nor the name of a graph; the message lists the graphs."""


@dataclass(frozen=True)
class Assistant:
    """A graph and the id it is run under."""

    assistant_id: str
    graph_id: str


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID in its usual form, 8-4-4-4-12."""
    return _UUID.fullmatch(text) is not None


class Assistants:
    """The assistants that every graph has from the start, one each."""

    def __init__(self, graph_ids: Iterable[str]) -> None:
        """Make the assistants of these graphs."""
        self._by_graph = {each: Assistant(str(uuid5(_NAMESPACE, each)), each) for each in graph_ids}
        self._by_id = {each.assistant_id: each for each in self._by_graph.values()}

    def resolve(self, assistant_id: str) -> Assistant:
        """The assistant of that UUID or, by a graph's name, the first made from that graph.

        Raises:
            AssistantNotFound: a UUID of no assistant.
            UnknownGraph: neither a UUID nor a graph's name.
        """
        if named := self._by_graph.get(assistant_id):
            return named
        if not is_uuid(assistant_id):
            known = ", ".join(self._by_graph)
            raise UnknownGraph(
                f"assistant_id: must be an assistant's UUID or one of the graphs: {known}"
            )
        if found := self._by_id.get(assistant_id.lower()):
            return found
        raise AssistantNotFound(f"assistant {assistant_id} not found")
