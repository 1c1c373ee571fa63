"""What earlier versions stored, revived: the forms of LangGraph's own serializer.

Its objects are calls of a class with what a dump has of it: types of fields, and some fields, are
lost by that.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_METHODS, SAFE_MSGPACK_TYPES

from .classes import Classes, Unsuitable, kind_of

# Classes that were called beside those that are plain data.
_CALLED = (date, time, timedelta, UUID, Decimal, PurePath, set, frozenset, deque)


def revived(code: int, payload: list[Any], classes: Classes) -> Any:
    """What was stored as this.

    Raises:
        Unsuitable: its class is none that values may have.
    """
    module, name, arguments, *method = payload
    label = f"{module}.{name}"
    if (module, name) in SAFE_MSGPACK_TYPES:
        kind: Any = vars(sys.modules[module])[name]
    else:
        kind = classes.find([module, name])
        if kind_of(kind).code is None and not issubclass(kind, _CALLED):
            raise Unsuitable(label, "its values are never kept")
    if method and code == jsonplus.EXT_METHOD_SINGLE_ARG:
        if (module, name, method[0]) not in SAFE_MSGPACK_METHODS:
            raise Unsuitable(label, f"its method {method[0]} must not be called")
        return getattr(kind, method[0])(arguments)
    return _CALLS[code](kind, arguments)


def from_pairs(flat: list[Any]) -> dict[Any, Any]:
    """A dictionary of its keys and values, by turns."""
    return dict(zip(map(_hashable, flat[::2]), flat[1::2], strict=True))


def from_fields(kind: Any, fields: dict[str, Any]) -> Any:
    """An object of a class by its fields, some of which may be no arguments."""
    declared = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    late = {each.name for each in declared if not each.init}
    value: Any = kind(**{name: each for name, each in fields.items() if name not in late})
    for name in late & fields.keys():
        object.__setattr__(value, name, fields[name])
    return value


def from_dump(kind: Any, fields: dict[str, Any]) -> Any:
    """A model of a class by its fields."""
    try:
        return kind(**fields)
    except Exception:
        # A dump has the fields by their names, also where the model wants aliases.
        own = {k: v for k, v in fields.items() if k not in kind.model_computed_fields}
        return kind.model_validate(own, by_alias=True, by_name=True)


def _hashable(key: Any) -> Any:
    # The same tuple where there is no list in it: a named one has a class of its own.
    if isinstance(key, list) or (type(key) is tuple and any(isinstance(k, list) for k in key)):
        return tuple(map(_hashable, key))
    return key


def _hashables(kind: Any, argument: Any) -> Any:
    if issubclass(kind, set | frozenset):
        return kind(map(_hashable, argument))
    return kind(argument)


def _from_arguments(kind: Any, arguments: list[Any]) -> Any:
    # LangGraph's Send may have a third, which it takes by name alone.
    if (kind.__module__, kind.__name__) == ("langgraph.types", "Send") and len(arguments) == 3:
        return kind(*arguments[:2], timeout=arguments[2])
    return kind(*arguments)


_CALLS: dict[int, Callable[[Any, Any], Any]] = {
    jsonplus.EXT_CONSTRUCTOR_SINGLE_ARG: _hashables,
    jsonplus.EXT_CONSTRUCTOR_POS_ARGS: _from_arguments,
    jsonplus.EXT_CONSTRUCTOR_KW_ARGS: from_fields,
    jsonplus.EXT_PYDANTIC_V1: lambda kind, fields: kind(**fields),
    jsonplus.EXT_PYDANTIC_V2: from_dump,
}
