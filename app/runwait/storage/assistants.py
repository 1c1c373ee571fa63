"""Assistants that users made, as Redis holds them.

    {prefix}:assistant:<id>           hash  created, updated   µs since 1970
                                            version    the number of the current version
                                            last       the highest number given so far
                                            name       the current name, folded
                                            v:<n>      version n, as `_entry` writes it
                                            t:<n>      when it was made, µs since 1970
                                            by:<n>     the change that made it, so that one that is
                                                       sent twice is known again
    {prefix}:assistant:<id>:deleted   string  the change that deleted it; stays a few seconds
    {prefix}:assistants:<order>           zset  all of them; order is created, updated (by time),
                                                name, graph or id (by text)
    {prefix}:assistants:<order>:<term>    zset  those that have an index term

An index term is `graph=<graph's name>` or one of the metadata's, as threads have them. As every
term has a zset in every order, a page of a search is read where it stands.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal
from uuid import uuid4

from runwait.graphs.assistants import Assistant
from runwait.storage.connection import InTime, Script, Scripts, Storage
from runwait.storage.metadata import MetadataQuery, contains, index_terms
from runwait.storage.times import shown

SortBy = Literal["assistant_id", "graph_id", "name", "created_at", "updated_at"]
SortOrder = Literal["asc", "desc"]

# How long it is known who deleted an assistant; a call is repeated at once or never.
_DELETED_MS = 10_000
# Assistants that one call looks at, at most.
_STRETCH = 5000
# More versions than there ever are.
_ALL = 1 << 48

_ORDERS: dict[SortBy, str] = {
    "assistant_id": "id",
    "graph_id": "graph",
    "name": "name",
    "created_at": "created",
    "updated_at": "updated",
}


class VersionNotFound(Exception):
    """The assistant has no such version."""


@dataclass(frozen=True, kw_only=True)
class AssistantQuery(MetadataQuery):
    """Which assistants are looked for. Those of the system are there for every caller.

    Attributes:
        graph_id: the graph's name.
        name: a part of the assistant's name, in whichever case.
    """

    graph_id: str | None = None
    name: str | None = None
    sort_by: SortBy = "created_at"
    sort_order: SortOrder = "desc"

    @cached_property
    def _name(self) -> str:
        return _fold(self.name or "")

    def fits(self, assistant: Assistant) -> bool:
        """Whether this assistant is one of those."""
        return (
            self.graph_id in (None, assistant.graph_id)
            and self._name in _fold(assistant.name)
            and contains(assistant.metadata, self.metadata)
            and (assistant.is_of_system or contains(assistant.metadata, self.permitted))
        )

    def place(self, assistant: Assistant) -> tuple[bytes, bytes]:
        """What assistants are sorted by, here as in Redis."""
        value: str = getattr(assistant, self.sort_by)
        if self.sort_by == "name":
            value = _fold(value)
        return value.encode(), assistant.assistant_id.encode()


class AssistantRecords:
    """The assistants in Redis. Every method may raise StorageUnavailable."""

    def __init__(self, storage: Storage, prefix: str) -> None:
        """Prepare; `storage` and `prefix` as `Scripts` has them."""
        self._scripts = Scripts(InTime(storage), prefix)
        self._tag = self._scripts.tag

    def create(self, assistant: Assistant) -> tuple[Assistant, bool]:
        """Record a new assistant. Its version and times are those it gets here.

        Returns:
            The assistant with this id, and whether it is this one, made now.
        """
        made, found = self._scripts.call(
            _CREATE,
            [self._key(assistant.assistant_id)],
            id=assistant.assistant_id,
            change=uuid4().hex,
            entry=_entry(assistant),
        )
        return _restored(found), bool(made)

    def read(self, assistant_id: str) -> Assistant | None:
        """An assistant, or None if there is none."""
        found = self._read(assistant_id)
        return None if found is None else _restored(found)

    def change(
        self, assistant_id: str, change: Callable[[Assistant], Assistant]
    ) -> Assistant | None:
        """Add a version to an assistant and make it the current one.

        Args:
            assistant_id: whose.
            change: makes the new version of the current one; called again if another change came
                between.

        Returns:
            The assistant as changed, or None if there is none.
        """
        by = uuid4().hex
        while (found := self._read(assistant_id)) is not None:
            _, _, _, version, last, _ = found
            entry = _entry(change(_restored(found)))
            changed = self._scripts.call(
                _REVISE,
                [self._key(assistant_id)],
                id=assistant_id,
                change=by,
                version=version,
                last=last,
                entry=entry,
            )
            if changed:
                return _restored(changed)
        return None

    def turn(self, assistant_id: str, version: int) -> Assistant | None:
        """Make a version the current one; if it is that already, nothing changes.

        Returns:
            The assistant, or None if there is none.

        Raises:
            VersionNotFound: it has no such version.
        """
        key = self._key(assistant_id)
        turned = self._scripts.call(_TURN, [key], id=assistant_id, version=version)
        if turned == 0:
            raise VersionNotFound(f"assistant {assistant_id} has no version {version}")
        return None if turned is None else _restored(turned)

    def versions(
        self, assistant_id: str, *, metadata: dict[str, Any], limit: int, offset: int
    ) -> list[Assistant] | None:
        """An assistant's versions, newest first; each was created when it was made.

        Returns:
            Those whose metadata has what is asked for; None if there is no such assistant.
        """
        skip, most = (0, _ALL) if metadata else (offset, limit)
        found = self._scripts.call(_VERSIONS, [self._key(assistant_id)], skip=skip, most=most)
        if found is None:
            return None
        versions = [
            _restored((assistant_id.encode(), made, made, version, None, entry))
            for version, made, entry in found
        ]
        if not metadata:
            return versions
        fitting = [each for each in versions if contains(each.metadata, metadata)]
        return fitting[offset : offset + limit]

    def delete(self, assistant_id: str) -> bool:
        """Delete an assistant with all its versions; whether it was there."""
        key = self._key(assistant_id)
        keys, change = [key, f"{key}:deleted"], uuid4().hex
        found = self._scripts.call(
            _DELETE, keys, id=assistant_id, change=change, mark_ttl=_DELETED_MS
        )
        return bool(found)

    def search(self, query: AssistantQuery, start: int, stop: int) -> tuple[int, list[Assistant]]:
        """Those that a query finds.

        Returns:
            How many there are, and those at the places from `start` to before `stop`.
        """
        if query.is_indexed:
            return self._search(query, start, stop)
        found: list[Assistant] = []
        place, total = 0, 1
        while place < total:
            total, candidates = self._search(query, place, place + _STRETCH)
            found += [each for each in candidates if query.fits(each)]
            place += _STRETCH
        return len(found), found[start:stop]

    def _search(self, query: AssistantQuery, start: int, stop: int) -> tuple[int, list[Assistant]]:
        """The same, as far as the index tells."""
        key = f"{self._tag}:assistants:{_ORDERS[query.sort_by]}"
        terms = [*_of_graph(query.graph_id), *query.metadata_terms]
        total, found, rank, walked = 0, list[Assistant](), 0, 0
        while rank >= 0:
            count, page, rank, walked = self._scripts.call(
                _SEARCH,
                [key],
                order=query.sort_order,
                terms=terms,
                start=start - total,
                stop=stop - total,
                part=_fold(query.name) if query.name else None,
                rank=rank,
                walked=walked,
                stretch=_STRETCH,
            )
            total += count
            found += map(_restored, page)
        return total, found

    def _read(self, assistant_id: str) -> list[Any] | None:
        key = self._key(assistant_id)
        found: list[Any] | None = self._scripts.call(_READ, [key], id=assistant_id)
        return found

    def _key(self, assistant_id: str) -> str:
        return f"{self._tag}:assistant:{assistant_id}"


def _of_graph(graph_id: str | None) -> list[str]:
    return [] if graph_id is None else [f"graph={graph_id}"]


def _fold(name: str) -> str:
    return name.casefold()


def _entry(assistant: Assistant) -> str:
    """A version as it is stored. Scripts look at all of it but the body: Lua would round numbers in
    there, and make lists of empty objects."""
    body = {name: getattr(assistant, name) for name in _BODY}
    return _json(
        {
            "body": _json(body),
            "name": _fold(assistant.name),
            "graph": assistant.graph_id,
            "terms": _of_graph(assistant.graph_id) + index_terms(assistant.metadata),
        }
    )


_BODY = ("graph_id", "config", "context", "metadata", "name", "description")


def _restored(found: Any) -> Assistant:
    assistant_id, created, updated, version, _, entry = found
    body = json.loads(json.loads(entry)["body"])
    return replace(
        Assistant(assistant_id.decode(), **{name: body[name] for name in _BODY}),
        version=int(version),
        created_at=shown(microseconds=int(created)),
        updated_at=shown(microseconds=int(updated)),
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_CREATE = Script.load("assistants/create", "assistants/library")
_READ = Script.load("assistants/read", "assistants/library", large=True)
_REVISE = Script.load("assistants/revise", "assistants/library")
_TURN = Script.load("assistants/turn", "assistants/library")
_VERSIONS = Script.load("assistants/versions", large=True)
_DELETE = Script.load("assistants/delete", "crons/library", "assistants/library")
_SEARCH = Script.load("assistants/search", "assistants/library", large=True)
