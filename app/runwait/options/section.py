"""Objects of langgraph.json, taken apart: what is wrong is told by its key, at the start."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from runwait.graphs.config import KNOWN, GraphLoadError, LanggraphConfig

Default = TypeVar("Default")


class Section:
    """An object of langgraph.json, of which each value is asked for by its type. Null counts as
    left out. Every method but `wrong` may raise GraphLoadError, which names the key."""

    def __init__(self, path: Path, key: str, given: dict[str, Any] | None) -> None:
        """Take it.

        Args:
            path: langgraph.json's.
            key: where it is in there, such as store.index.
            given: what is there; None: nothing.
        """
        self.is_there = given is not None
        self.given = given or {}
        self._path = path
        self._key = key

    @classmethod
    def of(cls, config: LanggraphConfig, key: str) -> Section:
        """One of those at the top."""
        return cls(config.path, key, config.section(key))

    def inner(self, name: str) -> Section:
        """An object in it, or one that is not there."""
        return Section(self._path, f"{self._key}.{name}", self._of(name, dict, "an object"))

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean."""
        given = self._of(name, bool, "true or false")
        return default if given is None else bool(given)

    def text(self, name: str) -> str | None:
        """A string that is not empty."""
        return self._of(name, str, "a string") or None

    def texts(self, name: str) -> list[str]:
        """A list of strings; empty if it is not there."""
        return self.items(name, "strings", lambda each: isinstance(each, str) and each != "")

    def items(self, name: str, what: str, is_one: Callable[[Any], bool]) -> list[Any]:
        """A list; empty if it is not there.

        Args:
            name: its key.
            what: what it is a list of, in the plural.
            is_one: whether a value is one of these.
        """
        given = self._of(name, list, f"a list of {what}") or []
        if not all(map(is_one, given)):
            raise self.wrong(name, f"must be a list of {what}")
        return list(given)

    def whole(self, name: str, what: str, least: int, default: Default) -> int | Default:
        """An integer that is not below `least`; `what` it has to be, in words."""
        given = self._of(name, int, what)
        if isinstance(given, bool) or (given is not None and given < least):
            raise self.wrong(name, f"must be {what}")
        return default if given is None else int(given)

    def minutes(self, name: str, most: float) -> float | None:
        """A number above 0, at most `most`."""
        return self.number(name, f"minutes above 0, at most {most:.0f}, or null", None, most)

    def number(
        self, name: str, what: str, default: Default, most: float = math.inf
    ) -> float | Default:
        """A number above 0, at most `most`; `what` it has to be, in words."""
        given: float | None = self._of(name, (int, float), what)
        if isinstance(given, bool) or (given is not None and not 0 < given <= most):
            raise self.wrong(name, f"must be {what}")
        return default if given is None else given

    def wrong(self, name: str, problem: str) -> GraphLoadError:
        """The error for what cannot be done."""
        return GraphLoadError(self._path, f"{self._key}.{name}", problem)

    def _of(self, name: str, kind: Any, must: str) -> Any:
        assert name in KNOWN.get(self._key, (name,)), f"{self._key}.{name} is declared nowhere"
        given = self.given.get(name)
        if given is not None and not isinstance(given, kind):
            raise self.wrong(name, f"must be {must}")
        return given
