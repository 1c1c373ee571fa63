"""What metadata can be searched by: index terms, and which metadata contains which."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import Any

# Of metadata with more terms only so many can be searched for: each costs two index entries.
TERMS_MAX = 1000
# Terms of one query that the index is asked for; what the others say is asked of each record.
_ASKED_MAX = 20
# Terms beyond this many bytes are hashed.
_TERM_BYTES = 64


def index_terms(metadata: Mapping[str, Any]) -> list[str]:
    """What metadata can be found by: the path and value of each scalar in its objects.

    Metadata that contains a query's has all the terms of the query, and may have others.
    Lists and empty objects have no terms. At most `TERMS_MAX`; the first ones.
    """
    return list(islice(_terms(metadata, _Path()), TERMS_MAX))


def contains(stored: Any, wanted: Any) -> bool:
    """Whether a JSON value contains another, as PostgreSQL's `@>` has it.

    An object contains one whose every member is contained in its own of that name; a list contains
    one whose every element is contained in one of its own; a scalar contains its equal. A boolean
    is no number; 1 and 1.0 are the same number.
    """
    if isinstance(wanted, Mapping):
        return isinstance(stored, Mapping) and all(
            name in stored and contains(stored[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        if not isinstance(stored, list):
            return False
        scalars = {_scalar(mine) for mine in stored if not isinstance(mine, Mapping | list)}
        return all(
            any(contains(mine, each) for mine in stored)
            if isinstance(each, Mapping | list)
            else _scalar(each) in scalars
            for each in wanted
        )
    if isinstance(wanted, bool) or isinstance(stored, bool):
        return wanted is stored
    return not isinstance(stored, Mapping | list) and bool(stored == wanted)


def _scalar(value: Any) -> tuple[bool, str]:
    """What two scalars have in common if they are equal.

    Texts, since numbers can be chosen so that their hashes are all the same.
    """
    whole = isinstance(value, float) and value.is_integer()
    return isinstance(value, str), str(int(value) if whole else value)


def says_all(metadata: Mapping[str, Any]) -> bool:
    """Whether the terms of such a metadata say all that it says."""
    return all(
        bool(member) and says_all(member)
        if isinstance(member, Mapping)
        else not isinstance(member, list)
        for member in metadata.values()
    )


@dataclass(frozen=True, kw_only=True)
class MetadataQuery:
    """What is searched for, as far as metadata say it.

    Attributes:
        metadata: what they contain.
        permitted: what they contain besides, to be there for the caller.
    """

    metadata: Mapping[str, Any] = field(default_factory=dict)
    permitted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metadata_terms(self) -> list[str]:
        """Terms that a match has, as many as the index is asked for."""
        return self._terms[:_ASKED_MAX]

    @property
    def is_indexed(self) -> bool:
        """Whether those say all that it says of metadata."""
        says = says_all(self.metadata) and says_all(self.permitted)
        return says and len(self._terms) <= _ASKED_MAX

    def finds(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a record with such metadata is a match."""
        return contains(metadata, self.metadata) and contains(metadata, self.permitted)

    @property
    def _terms(self) -> list[str]:
        return [*dict.fromkeys([*index_terms(self.permitted), *index_terms(self.metadata)])]


class _Path:
    """The JSON of a list that grows: its beginning, and the hash of all of it so far."""

    def __init__(self, text: bytes = b"[", hashed: Any = None) -> None:
        self.text = text
        self.hashed = sha256(text) if hashed is None else hashed

    def then(self, value: Any, end: bytes) -> _Path:
        """With a value more. What is long is hashed once, however much comes after it."""
        added = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + end
        hashed = self.hashed.copy()
        hashed.update(added)
        text = self.text if len(self.text) > _TERM_BYTES else self.text + added
        return _Path(text, hashed)

    def term(self, value: Any) -> str:
        """The list, ended by a value, as an index term."""
        whole = self.then(value, b"]")
        return (
            whole.text.decode()
            if len(whole.text) <= _TERM_BYTES
            else f"#{whole.hashed.hexdigest()}"
        )


def _terms(value: Any, path: _Path) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, member in value.items():
            if isinstance(member, Mapping):
                yield from _terms(member, path.then(name, b","))
            elif not isinstance(member, list):
                whole = isinstance(member, float) and member.is_integer()
                yield path.then(name, b",").term(int(member) if whole else member)
