"""Values as bytes and back: LangGraph's serializer, without what it would lose in silence.

It writes what LangGraph's own writes, and two kinds of extension more, for integers beyond 64 bits.
It stores nothing that it could not revive, and it revives types of an allow-list alone.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
import threading
import types
import typing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import ormsgpack
import pydantic
import pydantic.v1
from langchain_core.runnables.utils import get_function_nonlocals
from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_METHODS, SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.func import _TaskFunction
from typing_extensions import get_type_hints, is_typeddict

# Extension types of our own; LangGraph's count up from 0.
_BIG_INTEGER = 100
_PAIRS = 101

_PACK = jsonplus._option | ormsgpack.OPT_PASSTHROUGH_BIG_INT
_UNPACK = ormsgpack.OPT_NON_STR_KEYS

_NOT_NAMED = "neither the graph's schemas nor its nodes name this type"

# Its text is all that ormsgpack says of it.
_KEY_TOO_BIG = "Integer exceeds 64-bit range"


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


# ormsgpack does not pass on what its hooks raise: the first reason of a thread's call is kept here.
_noted = threading.local()


def _note(found: Unsuitable) -> Unsuitable:
    if getattr(_noted, "first", None) is None:
        _noted.first = found
    return found


class Serializer(JsonPlusSerializer):
    """LangGraph's serializer with a strict allow-list, for integers of any size.

    A value with a type that is not in the list is refused when it is to be stored, rather than
    when the thread is next read: by then it would be too late to do anything about it.
    """

    def __init__(self, allowed: Iterable[tuple[str, ...] | type] = ()) -> None:
        """Allow more types, as classes or as (module, name), than LangGraph's safe ones."""
        super().__init__(allowed_msgpack_modules=tuple(allowed))
        extra = self._allowed_msgpack_modules
        self._allowed = SAFE_MSGPACK_TYPES | (extra if isinstance(extra, set) else set())
        self._storable: set[type] = set()
        # LangGraph's own way to write each type, but with this serializer for what is inside.
        self._library_default = types.FunctionType(
            jsonplus._msgpack_default.__code__, {**vars(jsonplus), "_msgpack_enc": self._pack}
        )

    def with_msgpack_allowlist(
        self, extra_allowlist: Iterable[tuple[str, ...] | type]
    ) -> Serializer:
        """The same serializer for these types too."""
        extra = jsonplus._normalize_module_keys(tuple(extra_allowlist))
        return self if extra <= self._allowed else Serializer(self._allowed | extra)

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """The value as (format, bytes).

        Raises:
            Unsuitable: it cannot be stored.
        """
        if obj is None or isinstance(obj, bytes | bytearray):
            return super().dumps_typed(obj)
        _noted.first = None
        try:
            return "msgpack", self._pack(obj)
        except Exception as error:
            raise (_noted.first or Unsuitable(_name(type(obj)), str(error))) from error
        finally:
            _noted.first = None

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value that was stored as this.

        Raises:
            Unsuitable: it cannot be revived.
        """
        form, packed = data
        if form != "msgpack":
            if form in ("null", "bytes", "bytearray"):
                return super().loads_typed(data)
            raise Unsuitable("value", f"its format is {form!r}")
        _noted.first = None
        try:
            return self._unpack(packed)
        except Exception as error:
            raise (_noted.first or Unsuitable("value", str(error))) from error
        finally:
            _noted.first = None

    def _pack(self, data: Any) -> bytes:
        try:
            return ormsgpack.packb(data, default=self._default, option=_PACK)
        except ormsgpack.MsgpackEncodeError as error:
            if str(error) != _KEY_TOO_BIG:
                raise
            return ormsgpack.packb(self._with_pairs(data), default=self._default, option=_PACK)

    def _default(self, obj: Any) -> Any:
        kind = obj.__class__
        known = kind in self._storable
        if not known and isinstance(obj, int) and not isinstance(obj, Enum):
            length = (int(obj).bit_length() + 8) // 8
            return ormsgpack.Ext(_BIG_INTEGER, int(obj).to_bytes(length, "big", signed=True))
        try:
            packed = self._library_default(obj)
        except Exception as error:
            reason = "there is no way to write it" if type(error) is TypeError else str(error)
            raise _note(Unsuitable(_name(kind), reason)) from error
        if not known:
            self._check(kind)
            self._storable.add(kind)
        return packed

    def _check(self, kind: type) -> None:
        if issubclass(kind, BaseException | _DeltaSnapshot | re.Pattern):
            return
        if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
            return
        if (kind.__module__, kind.__name__) not in self._allowed:
            reason = f"{_NOT_NAMED}, so it would not be revived"
            raise _note(Unsuitable(_name(kind), reason))
        if getattr(sys.modules.get(kind.__module__), kind.__name__, None) is not kind:
            reason = "it is not to be found in its module by its name, so it would not be revived"
            raise _note(Unsuitable(_name(kind), reason))

    def _with_pairs(self, value: Any) -> Any:
        """The value, with dictionaries that have integers beyond 64 bits for keys as pairs."""
        if isinstance(value, dict):
            if not any(_is_too_big(key) for key in value):
                return {key: self._with_pairs(each) for key, each in value.items()}
            flat = [part for item in value.items() for part in item]
            return ormsgpack.Ext(_PAIRS, self._pack(flat))
        if isinstance(value, list | tuple) and not hasattr(value, "_asdict"):
            return [self._with_pairs(each) for each in value]
        return value

    def _unpack(self, data: bytes) -> Any:
        return ormsgpack.unpackb(data, ext_hook=self._revive, option=_UNPACK)

    def _revive(self, code: int, data: bytes) -> Any:
        if code == _BIG_INTEGER:
            return int.from_bytes(data, "big", signed=True)
        unpacked = self._unpack(data)
        build = _BUILD.get(code)
        if build is None:
            return _OTHER[code](unpacked)
        module, name, payload, *method = unpacked
        if (module, name) not in self._allowed:
            raise _note(Unsuitable(f"{module}.{name}", _NOT_NAMED))
        try:
            found = sys.modules.get(module) or importlib.import_module(module)
            return build(getattr(found, name), payload, *method)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise _note(Unsuitable(f"{module}.{name}", reason)) from error


def serializer(
    key: bytes | None = None, allowed: Iterable[tuple[str, ...] | type] = ()
) -> SerializerProtocol:
    """The serializer to give a saver.

    Args:
        key: 16, 24 or 32 bytes, to encrypt all values, metadata and writes with AES (EAX); then
            pycryptodome is needed. Names of channels, nodes, tasks and runs are not encrypted.
        allowed: types to store besides LangGraph's own and its messages.

    Raises:
        ValueError: the key has another length.
    """
    plain = Serializer(allowed)
    if key is None:
        return plain
    if len(key) not in (16, 24, 32):
        raise ValueError("a key has 16, 24 or 32 bytes")
    return EncryptedSerializer.from_pycryptodome_aes(plain, key=key)


def allowlist_of(graph: Any) -> set[tuple[str, ...]]:
    """The types that a compiled graph's state may hold, as (module, name), for `with_allowlist`.

    These are the classes that the annotations of its schemas and channels reach, of its subgraphs
    too, of the entrypoint's function and of what its tasks return, those that the code of its nodes
    names, as for the value of an interrupt, and their subclasses; of all those, the ones that can
    be written. LangGraph itself, where LANGGRAPH_STRICT_MSGPACK is set, goes by schemas alone, and
    finds none inside sequences, generic classes and named tuples.
    """
    found: dict[int, Any] = {}
    for each in _with_subgraphs(graph):
        for annotation in _annotations(each):
            _collect(annotation, found)
    return {
        (kind.__module__, kind.__name__)
        for kind in found.values()
        if isinstance(kind, type) and _is_writable(kind)
    }


def _with_subgraphs(graph: Any) -> Iterator[Any]:
    yield graph
    if hasattr(graph, "get_subgraphs"):
        for _, subgraph in graph.get_subgraphs(recurse=True):
            yield subgraph


def _annotations(graph: Any) -> Iterator[Any]:
    builder = getattr(graph, "builder", None)
    if builder is not None:
        for name in ("state_schema", "input_schema", "output_schema", "context_schema"):
            yield getattr(builder, name, None)
        yield from getattr(builder, "schemas", ())
        for node in builder.nodes.values():
            yield node.input_schema
        for branches in builder.branches.values():
            for branch in branches.values():
                yield branch.input_schema
    for node in getattr(graph, "nodes", {}).values():
        for function in (getattr(node.bound, "func", None), getattr(node.bound, "afunc", None)):
            if builder is None:
                yield from _hints(inspect.unwrap(function)).values() if function else ()
            yield from _named_in(function, set())
    for channel in getattr(graph, "channels", {}).values():
        for name in ("ValueType", "UpdateType"):
            # Some channels have neither, and say so by an error of their own.
            try:
                yield getattr(channel, name)
            except Exception:
                continue


def _named_in(function: Any, seen: set[int]) -> Iterator[Any]:
    """The classes that a function's code names, and what the tasks that it names return."""
    if function is None or id(function) in seen:
        return
    seen.add(id(function))
    try:
        named = get_function_nonlocals(inspect.unwrap(function))
    except ValueError:
        # A variable around it has no value yet.
        return
    for each in named:
        if isinstance(each, type):
            yield each
        elif isinstance(each, _TaskFunction):
            yield _hints(each.func).get("return")
            yield from _named_in(each.func, seen)


def _collect(annotation: Any, found: dict[int, Any]) -> None:
    if annotation is None or id(annotation) in found:
        return
    found[id(annotation)] = annotation
    for name in ("__origin__", "__supertype__", "__bound__", "__value__"):
        _collect(getattr(annotation, name, None), found)
    _collect(getattr(annotation, "__pydantic_generic_metadata__", {}).get("origin"), found)
    # Of Annotated, only its first argument is a type; the others may be anything.
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        arguments = arguments[:1]
    for argument in (*arguments, *getattr(annotation, "__constraints__", ())):
        for each in argument if isinstance(argument, list) else (argument,):
            _collect(each, found)
    if not isinstance(annotation, type) or not _is_composed(annotation):
        return
    for each in _hints(annotation).values():
        _collect(each, found)
    if not is_typeddict(annotation):
        subclasses: list[type] = type.__subclasses__(annotation)
        for each in subclasses:
            _collect(each, found)


def _is_composed(kind: type) -> bool:
    """Whether it is made of fields, and is none of the bases that all such classes have."""
    if kind in (pydantic.BaseModel, pydantic.v1.BaseModel):
        return False
    return (
        is_typeddict(kind)
        or dataclasses.is_dataclass(kind)
        or issubclass(kind, pydantic.BaseModel | pydantic.v1.BaseModel)
        or hasattr(kind, "_field_defaults")
    )


def _is_writable(kind: type) -> bool:
    """Whether LangGraph has a way to write it: no other class is to be called with what is read."""
    ways = ("model_dump", "dict", "get_secret_value", "_asdict", "__dataclass_fields__")
    return issubclass(kind, _WRITABLE) or any(hasattr(kind, way) for way in ways)


def _hints(kind: Any) -> Mapping[str, Any]:
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        # pydantic has put in what type variables stand for.
        return {name: field.annotation for name, field in kind.model_fields.items()}
    try:
        return get_type_hints(kind, include_extras=True)
    except Exception:
        # A name that cannot be resolved.
        return {}


def _name(kind: type) -> str:
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _is_too_big(key: Any) -> bool:
    if isinstance(key, tuple):
        return any(map(_is_too_big, key))
    return isinstance(key, int) and not -(2**63) <= key < 2**64


def _hashable(key: Any) -> Any:
    return tuple(map(_hashable, key)) if isinstance(key, list) else key


def _from_pairs(flat: list[Any]) -> dict[Any, Any]:
    return dict(zip(map(_hashable, flat[::2]), flat[1::2], strict=True))


def _array(parts: list[Any]) -> Any:
    numpy: Any = importlib.import_module("numpy")
    kind, shape, order, buffer = parts
    return numpy.frombuffer(buffer, dtype=numpy.dtype(kind)).reshape(shape, order=order)


def _from_arguments(kind: Any, arguments: list[Any]) -> Any:
    # LangGraph's Send may have a third, which it takes by name alone.
    if (kind.__module__, kind.__name__) == ("langgraph.types", "Send") and len(arguments) == 3:
        return kind(*arguments[:2], timeout=arguments[2])
    return kind(*arguments)


def _from_fields(kind: Any, fields: dict[str, Any]) -> Any:
    declared = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    late = {each.name for each in declared if not each.init}
    value: Any = kind(**{name: each for name, each in fields.items() if name not in late})
    for name in late & fields.keys():
        object.__setattr__(value, name, fields[name])
    return value


def _from_method(kind: Any, argument: Any, method: str) -> Any:
    if (kind.__module__, kind.__name__, method) not in SAFE_MSGPACK_METHODS:
        raise TypeError(f"its method {method} must not be called")
    return getattr(kind, method)(argument)


def _from_dump(kind: Any, fields: dict[str, Any], *_: str) -> Any:
    try:
        return kind(**fields)
    except Exception:
        # A dump has the fields by their names, also where the model wants aliases.
        own = {k: v for k, v in fields.items() if k not in kind.model_computed_fields}
        return kind.model_validate(own, by_alias=True, by_name=True)


_BUILD: dict[int, Callable[..., Any]] = {
    jsonplus.EXT_CONSTRUCTOR_SINGLE_ARG: lambda kind, argument: kind(argument),
    jsonplus.EXT_CONSTRUCTOR_POS_ARGS: _from_arguments,
    jsonplus.EXT_CONSTRUCTOR_KW_ARGS: _from_fields,
    jsonplus.EXT_METHOD_SINGLE_ARG: _from_method,
    jsonplus.EXT_PYDANTIC_V1: lambda kind, fields: kind(**fields),
    jsonplus.EXT_PYDANTIC_V2: _from_dump,
}

_WRITABLE = (
    *(Enum, date, time, timedelta, UUID, Decimal, PurePath),
    *(set, frozenset, deque),
)

# What has no class of its own.
_OTHER: dict[int, Callable[[Any], Any]] = {
    _PAIRS: _from_pairs,
    jsonplus.EXT_DELTA_SNAPSHOT: _DeltaSnapshot,
    jsonplus.EXT_NUMPY_ARRAY: _array,
}
