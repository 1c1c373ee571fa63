"""A request, as those who find out who calls are shown it: read-only, and of no framework."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import SplitResult


class Headers(Mapping[str, str]):
    """A request's headers; names are found in whichever case, and listed in lower case."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = [(name.lower(), value) for name, value in pairs]

    def __getitem__(self, name: str) -> str:
        if found := self.getlist(name):
            return found[0]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self._pairs))

    def __len__(self) -> int:
        return len({name for name, _ in self._pairs})

    def getlist(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for each, value in self._pairs if each == name.lower()]

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """As they came, in lower case."""
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._pairs]


class QueryParams(Mapping[str, str]):
    """A request's query; of several values of a name the last one counts."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = list(pairs)

    def __getitem__(self, name: str) -> str:
        return dict(self._pairs)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        return len(dict(self._pairs))

    def getlist(self, name: str) -> list[str]:
        """All values of a name."""
        return [value for each, value in self._pairs if each == name]

    def multi_items(self) -> list[tuple[str, str]]:
        """All names with all their values."""
        return list(self._pairs)


class URL(SplitResult):
    """A URL: its parts, and as text the whole of it."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.geturl()


class Address(NamedTuple):
    """Where a client connected from."""

    host: str
    port: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a request says before anybody reads its body, as Starlette's `Request` has it."""

    method: str
    url: URL
    headers: Headers
    query_params: QueryParams
    path_params: Mapping[str, str]
    client: Address | None
