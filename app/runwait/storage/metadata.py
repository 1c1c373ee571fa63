"""What metadata can be searched by: index terms, and which metadata contains which."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import islice
from typing import Any

# Of metadata with more terms only so many can be searched for: each costs two index entries.
TERMS_MAX = 1000
# Terms beyond this many bytes are hashed.
_TERM_BYTES = 64


def index_terms(metadata: Mapping[str, Any]) -> list[str]:
    """What metadata can be found by: the path and value of each scalar in its objects.

    Metadata that contains a query's has all the terms of the query, and may have others.
    Lists and empty objects have no terms. At most `TERMS_MAX`; the first ones.
    """
    return [_term(each) for each in islice(_paths(metadata, []), TERMS_MAX)]


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
        return isinstance(stored, list) and all(
            any(contains(mine, each) for mine in stored) for each in wanted
        )
    if isinstance(wanted, bool) or isinstance(stored, bool):
        return wanted is stored
    return not isinstance(stored, Mapping | list) and bool(stored == wanted)


def says_all(metadata: Mapping[str, Any]) -> bool:
    """Whether the terms of such a metadata say all that it says."""
    return all(
        bool(member) and says_all(member)
        if isinstance(member, Mapping)
        else not isinstance(member, list)
        for member in metadata.values()
    )


def _paths(value: Any, path: list[str]) -> Iterator[list[Any]]:
    if isinstance(value, Mapping):
        for name, member in value.items():
            yield from _paths(member, [*path, name])
    elif isinstance(value, float) and value.is_integer():
        yield [*path, int(value)]
    elif not isinstance(value, list):
        yield [*path, value]


def _term(path: list[Any]) -> str:
    term = json.dumps(path, ensure_ascii=False, separators=(",", ":"))
    encoded = term.encode()
    return term if len(encoded) <= _TERM_BYTES else f"#{sha256(encoded).hexdigest()}"
