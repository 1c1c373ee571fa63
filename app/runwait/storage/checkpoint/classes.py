"""Which classes a checkpoint's values may have, and how such a class is found again.

A value names its class by module and qualified name. It is looked for among the classes of the
graph, which may be local to a function, and then in modules of a fixed set. Nothing is imported, no
attribute is computed: what Redis holds decides about nothing but which of these classes it is.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property
from hashlib import blake2b
from re import sub
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import pydantic
import pydantic.v1
from langchain_core.runnables import Runnable
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
from langgraph.store.base import Item

# The kinds of classes: each has one way to be written, and one to be revived.
MODEL, DATA, ENUM, NAMED, BASED, ERROR = range(110, 116)

NOT_LOADED = "its module was not loaded by the end of the start; STATE_MODULES can name it"

# What subclasses are written as, with the attributes of their own.
BASES = (
    *(dict, list, tuple, set, frozenset, str, int, float, bytes),
    *(datetime, date, time, timedelta, Decimal),
)
_SECRETS = (
    *(pydantic.SecretStr, pydantic.SecretBytes, pydantic.Secret),
    *(pydantic.v1.SecretStr, pydantic.v1.SecretBytes),
)

# What LangGraph holds for safe, as far as this version of Python has it; loaded here and now.
SAFE_MODULES = {"builtins", "collections"}
for _module in sorted({module for module, _ in SAFE_MSGPACK_TYPES}):
    with suppress(ImportError):
        importlib.import_module(_module)
        SAFE_MODULES.add(_module)


_KINDS: WeakKeyDictionary[type, Kind] = WeakKeyDictionary()


class Unsuitable(Exception):
    """A value that cannot be stored, or cannot be revived.

    Attributes:
        type: the name of the type that it is about.
        reason: why.
    """

    def __init__(self, type: str, reason: str) -> None:
        super().__init__(f"{type}: {reason}")
        self.type = type
        self.reason = reason


class Kind(NamedTuple):
    """What is to be known of a class.

    Attributes:
        code: which kind it is of; None for a class whose values are never kept.
        mark: tells it from one of the same name whose fields are declared otherwise.
        computed: the attributes that its objects can compute again.
    """

    code: int | None
    mark: str
    computed: frozenset[str]


def kind_of(kind: Any) -> Kind:
    """What is to be known of a class."""
    found = _KINDS.get(kind)
    if found is None:
        attributes = {name: each for base in kind.__mro__ for name, each in vars(base).items()}
        computed = {n for n, each in attributes.items() if isinstance(each, cached_property)}
        found = _KINDS[kind] = Kind(_code_of(kind), _mark_of(kind), frozenset(computed))
    return found


def _mark_of(kind: Any) -> str:
    if issubclass(kind, pydantic.BaseModel):
        declared = {name: repr(field.annotation) for name, field in kind.model_fields.items()}
    elif issubclass(kind, pydantic.v1.BaseModel):
        declared = {name: repr(field.outer_type_) for name, field in kind.__fields__.items()}
    elif dataclasses.is_dataclass(kind):
        declared = {field.name: repr(field.type) for field in dataclasses.fields(kind)}
    else:
        return ""
    text = sub(r" at 0x\w+", "", repr(sorted(declared.items())))
    return blake2b(text.encode(), digest_size=6).hexdigest()


def _code_of(kind: type) -> int | None:
    if issubclass(kind, Runnable) or hasattr(kind, "__del__") or _is_settings(kind):
        return None
    if issubclass(kind, Enum):
        return ENUM
    if issubclass(kind, BaseException):
        return ERROR
    if issubclass(kind, pydantic.BaseModel | pydantic.v1.BaseModel):
        return MODEL
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return NAMED
    if issubclass(kind, BASES):
        return BASED
    plain = dataclasses.is_dataclass(kind) or issubclass(kind, (Item, *_SECRETS))
    return DATA if plain else None


def _is_settings(kind: type) -> bool:
    """Whether it takes its values from the environment: reviving one must not hand these out."""
    return any(each.__name__ == "BaseSettings" for each in kind.__mro__)


class Classes:
    """The classes that values may have."""

    def __init__(
        self, given: Iterable[type | tuple[str, ...]] = (), modules: Iterable[str] = ()
    ) -> None:
        """Take those of a graph, as classes or as (module, name), and modules that are loaded."""
        self.given = frozenset(given)
        self.modules = frozenset(modules) | SAFE_MODULES
        self._names = {each for each in self.given if isinstance(each, tuple)}
        self._named: dict[tuple[str, ...], type | None] = {}
        for each in self.given:
            if isinstance(each, type):
                name = (each.__module__, each.__qualname__)
                # Of two with one name, none can be told from the other.
                self._named[name] = None if self._named.get(name, each) is not each else each

    def with_given(self, more: Iterable[type | tuple[str, ...]]) -> Classes:
        """These and more; the same object if there are none."""
        given = self.given | frozenset(more)
        return self if given == self.given else Classes(given, self.modules)

    def reference(self, kind: Any) -> list[Any]:
        """What a class is found again by.

        Raises:
            Unsuitable: it would not be found.
        """
        missing: Unsuitable | None = None
        # A class that a function made may well be found by its bare name.
        for name in (kind.__qualname__, kind.__name__):
            try:
                if self.find([kind.__module__, name]) is kind:
                    return [kind.__module__, name]
            except Unsuitable as error:
                missing = missing or error
        generic = getattr(kind, "__pydantic_generic_metadata__", {})
        if generic.get("origin") and all(isinstance(each, type) for each in generic["args"]):
            arguments = [self.reference(each) for each in generic["args"]]
            return [*self.reference(generic["origin"]), arguments]
        reason = "it is not to be found in its module by its name"
        raise missing or Unsuitable(name_of(kind), reason)

    def find(self, reference: list[Any]) -> Any:
        """The class that a reference means.

        Raises:
            Unsuitable: it is none that values may have.
        """
        module, name, *arguments = reference
        label = name if module == "builtins" else f"{module}.{name}"
        found: Any = self._named.get((module, name))
        if found is None:
            if "<locals>" in name:
                raise Unsuitable(
                    label, "it is made inside a function, and no schema of the graph names it"
                )
            if module not in self.modules and (module, name) not in self._names:
                raise Unsuitable(label, NOT_LOADED)
            found = sys.modules.get(module)
            for part in name.split("."):
                # Not getattr: a module may import whatever it is asked for.
                attributes: Mapping[str, Any] = getattr(found, "__dict__", {})
                found = attributes.get(part)
        if not isinstance(found, type):
            raise Unsuitable(label, "it is not to be found in its module by its name")
        if not arguments:
            return found
        try:
            return found[*map(self.find, arguments[0])]  # type: ignore[index]
        except TypeError as error:
            raise Unsuitable(label, str(error)) from error


def name_of(kind: type) -> str:
    """A class's name for people."""
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
