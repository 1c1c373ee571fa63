"""Values as bytes and back: equal and of the same type, or refused when they are to be stored.

What MessagePack has is written as it is. All else is an extension: an object with its class and its
attributes, of which each is written as the object that it is. It is revived by its attributes too:
no constructor, no validator is called, but where a class is declared otherwise than it was then.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import partial
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from re import Pattern
from re import compile as compile_pattern
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import ormsgpack
import pydantic
import pydantic.v1
from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Send

from . import earlier
from .classes import (
    BASED,
    BASES,
    DATA,
    ENUM,
    ERROR,
    MODEL,
    NAMED,
    NOT_LOADED,
    Classes,
    Unsuitable,
    kind_of,
    name_of,
)

# Extension types, beside those of classes.py and of earlier.py.
_BIG_INTEGER, _PAIRS, _TUPLE, _TEXT, _BYTES, _VALUE = range(100, 106)
_ARRAY, _DELTA = jsonplus.EXT_NUMPY_ARRAY, jsonplus.EXT_DELTA_SNAPSHOT

_PACK = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_UNPACK = ormsgpack.OPT_NON_STR_KEYS
_NO_WAY = "there is no way to write it; in its place keep plain data, a dataclass or a model"
# How deep objects may lie in objects: reading must come back up from there, wherever it begins.
_DEPTH = 200
# How deep containers may lie in containers: ormsgpack goes no deeper.
_LEVELS = 250
# What bytes begin with, and alas a bytearray too.
_BINARY = (b"\xc4", b"\xc5", b"\xc6")


class _Here(threading.local):
    """Where a thread is in a value. ormsgpack does not pass on what its hooks raise: the first
    reason of a call is kept here."""

    first: Unsuitable | None = None
    depth = 0
    # Whether something was met that ormsgpack would refuse or change: then no more is left to it,
    # or what lies deep in a value would be packed again and again.
    spell_out = False


_here = _Here()


def _note(found: Unsuitable) -> Unsuitable:
    _here.first = _here.first or found
    return found


class Serializer(JsonPlusSerializer):
    """A strict serializer: what it could not revive as it was, it refuses to store.

    When the thread is next read, it would be too late to do anything about it.
    """

    def __init__(
        self, allowed: Iterable[type | tuple[str, ...]] = (), modules: Iterable[str] = ()
    ) -> None:
        """Prepare.

        Args:
            allowed: classes that values may have, or their (module, name).
            modules: loaded modules of which values may have all classes that are plain data.
        """
        super().__init__(allowed_msgpack_modules=None)
        self._use(Classes(allowed, modules))

    def _use(self, classes: Classes) -> None:
        self._classes = classes
        self._arrays = "numpy" in classes.modules
        # By class: its kind, and what it is found by.
        self._known: dict[type, tuple[int, list[Any]]] = {}

    def with_msgpack_allowlist(
        self, extra_allowlist: Iterable[type | tuple[str, ...]]
    ) -> Serializer:
        """The same serializer for these classes too."""
        classes = self._classes.with_given(extra_allowlist)
        if classes is self._classes:
            return self
        other = Serializer()
        other._use(classes)
        return other

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """The value as (format, bytes).

        Raises:
            Unsuitable: it cannot be stored.
        """
        if obj is None:
            return "null", b""
        if type(obj) in (bytes, bytearray):
            return type(obj).__name__, bytes(obj)
        return "msgpack", self._whole(obj, self._pack)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value that was stored as this.

        Raises:
            Unsuitable: it cannot be revived.
        """
        form, packed = data
        if form == "msgpack":
            return self._whole(packed, self._unpack)
        if form == "null":
            return None
        if form in ("bytes", "bytearray"):
            return packed if form == "bytes" else bytearray(packed)
        raise Unsuitable("value", f"its format is {form!r}")

    @staticmethod
    def _whole(value: Any, work: Callable[[Any], Any]) -> Any:
        _here.first, _here.depth, _here.spell_out = None, 0, False
        try:
            return work(value)
        except Exception as error:
            kind = name_of(type(value)) if type(value) is not bytes else "value"
            raise (_here.first or Unsuitable(kind, str(error))) from error
        finally:
            _here.first = None

    # Writing

    def _pack(self, value: Any) -> bytes:
        if not _here.spell_out:
            try:
                packed = ormsgpack.packb(value, default=self._object, option=_PACK)
            except Exception:
                if _here.first is not None:
                    raise
                # A key that is no text, half a surrogate, or too deep.
            else:
                if not any(each in packed for each in _BINARY) or not _has_buffer(value):
                    return packed
            _here.spell_out = True
        try:
            return ormsgpack.packb(self._spelt_out(value), default=self._object, option=_PACK)
        except Exception as error:
            raise _note(Unsuitable(name_of(type(value)), str(error))) from error

    def _spelt_out(self, value: Any, level: int = 0) -> Any:
        """The value, with extensions for what ormsgpack would refuse or change."""
        kind = type(value)
        if level > _LEVELS:
            raise _note(Unsuitable(name_of(kind), f"it is more than {_LEVELS} levels deep"))
        if kind is dict:
            if all(type(key) is str and _is_whole(key) for key in value):
                return {key: self._spelt_out(each, level + 1) for key, each in value.items()}
            return self._ext(_PAIRS, _pairs(value))
        if kind is list:
            return [self._spelt_out(each, level + 1) for each in value]
        if kind is str and not _is_whole(value):
            return ormsgpack.Ext(_TEXT, value.encode("utf-8", "surrogatepass"))
        if kind is bytearray:
            return ormsgpack.Ext(_BYTES, bytes(value))
        if kind is memoryview:
            raise _note(Unsuitable("memoryview", _NO_WAY))
        return value

    def _ext(self, code: int, payload: Any) -> Any:
        _here.depth += 1
        if _here.depth > _DEPTH:
            raise _note(Unsuitable("value", f"objects lie more than {_DEPTH} deep in objects"))
        packed = self._pack(payload)
        _here.depth -= 1
        return ormsgpack.Ext(code, packed)

    def _object(self, value: Any) -> Any:
        """The extension of a value that MessagePack has no type for."""
        kind = type(value)
        if kind is tuple:
            return self._ext(_TUPLE, [*value])
        if kind is int:
            length = (value.bit_length() + 8) // 8
            return ormsgpack.Ext(_BIG_INTEGER, value.to_bytes(length, "big", signed=True))
        if kind in _VALUES:
            return self._ext(_VALUE, self._of_value(kind, value))
        if kind is _DeltaSnapshot:
            return self._ext(_DELTA, value.value)
        if self._arrays and (array := _array_parts(value)) is not None:
            return self._ext(_ARRAY, array)
        code, reference = self._known.get(kind) or self._look_at(kind)
        payload = _TAKE[code](value)
        if code == ERROR or kind not in self._known:
            self._try_out(kind, code, payload)
            self._known[kind] = code, reference
        return self._ext(code, [reference, *payload])

    def _of_value(self, kind: type, value: Any) -> list[Any]:
        parts = _VALUES[kind].parts(value)
        if kind is defaultdict and parts[0] is not None:
            parts[0] = self._classes.reference(_factory(parts[0]))
        return [kind.__name__, *parts]

    def _look_at(self, kind: type) -> tuple[int, list[Any]]:
        code = kind_of(kind).code
        if code is None:
            late = kind.__module__ == "numpy" and not self._arrays
            raise _note(Unsuitable(name_of(kind), NOT_LOADED if late else _NO_WAY))
        try:
            return code, self._classes.reference(kind)
        except Unsuitable as error:
            raise _note(error) from None

    @staticmethod
    def _try_out(kind: type, code: int, payload: list[Any]) -> None:
        """Refuse a class whose values are more than their parts."""
        try:
            _BUILD[code](kind, *payload)
        except Exception as error:
            raise _note(Unsuitable(name_of(kind), f"it would not be revived: {error}")) from error

    # Reading

    def _unpack(self, packed: bytes) -> Any:
        return ormsgpack.unpackb(packed, ext_hook=self._revive, option=_UNPACK)

    def _revive(self, code: int, packed: bytes) -> Any:
        if code in _RAW:
            return _RAW[code](packed)
        payload = self._unpack(packed)
        label = "value"
        try:
            if code in _PLAIN:
                return _PLAIN[code](payload)
            if code == _VALUE:
                label, *parts = payload
                if label == "defaultdict" and parts[0] is not None:
                    parts[0] = _factory(self._classes.find(parts[0]))
                return _VALUES_BY_NAME[label].make(*parts)
            if code not in _BUILD:
                return earlier.revived(code, payload, self._classes)
            reference, *parts = payload
            label = ".".join(reference[:2])
            kind = self._classes.find(reference)
            if kind_of(kind).code != code:
                raise Unsuitable(label, "it is not of the kind that was stored")
            return _BUILD[code](kind, *parts)
        except Unsuitable as error:
            raise _note(error) from None
        except Exception as error:
            raise _note(Unsuitable(label, f"{type(error).__name__}: {error}")) from error


def serializer(
    key: bytes | None = None,
    allowed: Iterable[type | tuple[str, ...]] = (),
    modules: Iterable[str] = (),
) -> SerializerProtocol:
    """The serializer to give a saver.

    Args:
        key: 16, 24 or 32 bytes, to encrypt all values, metadata and writes with AES (EAX); then
            pycryptodome is needed. Names of channels, nodes, tasks and runs are not encrypted.
        allowed: classes to store besides LangGraph's own and its messages.
        modules: loaded modules of which all classes that are plain data are stored.

    Raises:
        ValueError: the key has another length.
    """
    plain = Serializer(allowed, modules)
    if key is None:
        return plain
    if len(key) not in (16, 24, 32):
        raise ValueError("a key has 16, 24 or 32 bytes")
    return EncryptedSerializer.from_pycryptodome_aes(plain, key=key)


def _has_buffer(value: Any) -> bool:
    """Whether there is a bytearray or the like in it, outside of objects."""
    waiting = [[value]]
    while waiting:
        members = waiting.pop()
        kinds = {*map(type, members)}
        if bytearray in kinds or memoryview in kinds:
            return True
        if list in kinds:
            waiting += (each for each in members if type(each) is list)
        if dict in kinds:
            waiting += ([*each.values()] for each in members if type(each) is dict)
    return False


def _is_whole(text: str) -> bool:
    """Whether it has no half of a surrogate pair."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pairs(value: Mapping[Any, Any]) -> list[Any]:
    return [part for item in value.items() for part in item]


# Values of exactly these classes, by what they are made of and how they are made of it.


class _Value(NamedTuple):
    parts: Callable[[Any], list[Any]]
    make: Callable[..., Any]


def _zone(value: ZoneInfo) -> list[Any]:
    if value.key is None:
        raise _note(Unsuitable("zoneinfo.ZoneInfo", "it has no name"))
    return [value.key]


def _moment(value: Any) -> list[Any]:
    zone = value.tzinfo
    if zone is not None and type(zone) not in _VALUES and (offset := value.utcoffset()) is not None:
        # Of another library: the same moment at the same distance from UTC.
        zone = timezone(offset, value.tzname() or str(offset))
    return [value.hour, value.minute, value.second, value.microsecond, zone, value.fold]


def _factory(kind: Any) -> Any:
    """What a defaultdict calls; no other class is to be made of nothing."""
    if kind in _VALUES or (isinstance(kind, type) and kind_of(kind).code is not None):
        return kind
    raise _note(Unsuitable("collections.defaultdict", f"its factory {kind!r} is no plain class"))


def _day(value: Any) -> list[Any]:
    return [value.year, value.month, value.day]


_VALUES: dict[type, _Value] = {
    UUID: _Value(lambda value: [value.hex], UUID),
    Decimal: _Value(lambda value: [str(value)], Decimal),
    date: _Value(_day, date),
    time: _Value(_moment, lambda *parts: time(*parts[:-1], fold=parts[-1])),
    datetime: _Value(
        lambda value: _day(value) + _moment(value),
        lambda *parts: datetime(*parts[:-1], fold=parts[-1]),
    ),
    timedelta: _Value(lambda value: [value.days, value.seconds, value.microseconds], timedelta),
    timezone: _Value(lambda value: list(value.__getinitargs__()), timezone),
    ZoneInfo: _Value(_zone, ZoneInfo),
    set: _Value(lambda value: [list(value)], set),
    frozenset: _Value(lambda value: [list(value)], frozenset),
    deque: _Value(lambda value: [list(value), value.maxlen], deque),
    OrderedDict: _Value(
        lambda value: [_pairs(value)], lambda flat: OrderedDict(earlier.from_pairs(flat))
    ),
    defaultdict: _Value(
        lambda value: [value.default_factory, _pairs(value)],
        lambda factory, flat: defaultdict(factory, earlier.from_pairs(flat)),
    ),
    Pattern: _Value(lambda value: [value.pattern, value.flags], compile_pattern),
    Send: _Value(
        lambda value: [value.node, value.arg, value.timeout],
        lambda node, arg, timeout: Send(node, arg, timeout=timeout),
    ),
    **{
        kind: _Value(lambda value: [str(value)], kind)
        for kind in (
            *(IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network),
            *(PosixPath, PurePosixPath, PureWindowsPath, WindowsPath),
        )
    },
}
_VALUES_BY_NAME = {kind.__name__: value for kind, value in _VALUES.items()}


# Objects, by the kinds of their classes: what is taken of one, and how one is built of that.


def _attributes(value: Any) -> dict[str, Any]:
    """All that an object has beside what its base keeps, but for what it can compute again."""
    state: Any = object.__getstate__(value) or {}
    if isinstance(state, tuple):
        state = {**(state[0] or {}), **state[1]}
    return _but(state, kind_of(type(value)).computed)


def _but(state: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: each for name, each in state.items() if name not in names} if names else {**state}


def _with(made: Any, attributes: Mapping[str, Any]) -> Any:
    for name, each in attributes.items():
        object.__setattr__(made, name, each)
    return made


def _of_model(value: Any) -> list[Any]:
    kind = kind_of(type(value))
    fields = _but(vars(value), kind.computed)
    if isinstance(value, pydantic.v1.BaseModel):
        private = pydantic.v1.BaseModel.__getstate__(value)["__private_attribute_values__"]
        return [kind.mark, fields, None, list(value.__fields_set__), private]
    private = value.__pydantic_private__
    if private:
        private = pydantic.BaseModel.__getstate__(value)["__pydantic_private__"]
    given = list(value.__pydantic_fields_set__)
    return [kind.mark, fields, value.__pydantic_extra__, given, private]


def _model(
    kind: Any, declared: str, fields: Any, extra: Any, given: list[str], private: Any
) -> Any:
    if issubclass(kind, pydantic.v1.BaseModel):
        if declared != kind_of(kind).mark:
            return kind(**fields)
        model = object.__new__(kind)
        state = {
            "__dict__": fields,
            "__fields_set__": set(given),
            "__private_attribute_values__": private,
        }
        pydantic.v1.BaseModel.__setstate__(model, state)
        return model
    if declared != kind_of(kind).mark:
        return earlier.from_dump(kind, {**fields, **(extra or {})})
    model = object.__new__(kind)
    state = {
        "__dict__": fields,
        "__pydantic_extra__": extra,
        "__pydantic_fields_set__": set(given),
        "__pydantic_private__": private,
    }
    pydantic.BaseModel.__setstate__(model, state)
    return model


def _data(kind: Any, declared: str, attributes: dict[str, Any]) -> Any:
    if declared != kind_of(kind).mark:
        return earlier.from_fields(kind, attributes)
    return _with(object.__new__(kind), attributes)


def _of_enum(value: Enum) -> list[Any]:
    name, kept = value._name_, value._value_
    known = type(value).__members__.get(name or "") is value
    return [name if known else None, kept if type(kept) in (int, str) else None]


def _enum(kind: Any, name: str | None, value: Any) -> Any:
    # Flags together have no name, and a member may have got another one since.
    return kind.__members__[name] if name in kind.__members__ else kind(value)


def _of_named(value: Any) -> list[Any]:
    kind: Any = type(value)
    return [dict(zip(kind._fields, tuple(value), strict=True)), _attributes(value)]


def _named(kind: Any, fields: dict[str, Any], attributes: dict[str, Any]) -> Any:
    same = tuple(fields) == kind._fields
    return _with(tuple.__new__(kind, fields.values()) if same else kind(**fields), attributes)


def _of_based(value: Any) -> list[Any]:
    base = next(each for each in type(value).__mro__ if each in BASES)
    return [_BARE[base](value), _attributes(value)]


def _based(kind: Any, bare: Any, attributes: dict[str, Any]) -> Any:
    base: Any = type(bare)
    if base in (dict, list, set):
        made = base.__new__(kind)
        (list.extend if base is list else base.update)(made, bare)
    elif base is datetime or base is time:
        *parts, fold = _VALUES[base].parts(bare)
        made = base.__new__(kind, *parts, fold=fold)
    else:
        parts = _VALUES[base].parts(bare) if base in (date, timedelta) else [bare]
        made = base.__new__(kind, *parts)
    return _with(made, attributes)


# The same value of the base's own class; no method of the subclass has a say in it.
_BARE: dict[type, Callable[[Any], Any]] = {
    dict: lambda value: dict(dict.items(value)),
    list: lambda value: [*list.__iter__(value)],
    tuple: lambda value: tuple(tuple.__iter__(value)),
    set: lambda value: {*set.__iter__(value)},
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    Decimal: Decimal,
    **{
        kind: partial(lambda known, value: known.make(*known.parts(value)), _VALUES[kind])
        for kind in (datetime, date, time, timedelta)
    },
}


def _of_error(value: BaseException) -> list[Any]:
    # More than `args` for some, such as an OSError's file.
    arguments: Any = _builtin(type(value)).__reduce__(value)[1]
    return [list(arguments), _attributes(value)]


def _error(kind: Any, arguments: list[Any], attributes: dict[str, Any]) -> Any:
    base = _builtin(kind)
    error = base.__new__(kind, *arguments)
    base.__init__(error, *arguments)
    return _with(error, attributes)


def _builtin(kind: type) -> Any:
    """The class of Python's own that an exception's class is made from."""
    return next(each for each in kind.__mro__ if each.__module__ == "builtins")


_TAKE: dict[int, Callable[[Any], list[Any]]] = {
    MODEL: _of_model,
    DATA: lambda value: [kind_of(type(value)).mark, _attributes(value)],
    ENUM: _of_enum,
    NAMED: _of_named,
    BASED: _of_based,
    ERROR: _of_error,
}
_BUILD: dict[int, Callable[..., Any]] = {
    MODEL: _model,
    DATA: _data,
    ENUM: _enum,
    NAMED: _named,
    BASED: _based,
    ERROR: _error,
}


def _array_parts(value: Any) -> list[Any] | None:
    """What an array or a scalar of numpy is made of; None for all else."""
    numpy: Any = sys.modules["numpy"]
    if not isinstance(value, numpy.ndarray | numpy.generic):
        return None
    kind, is_array = value.dtype, type(value) is numpy.ndarray
    plain = is_array or isinstance(value, numpy.generic)
    if not plain or kind.hasobject or numpy.dtype(kind.str) != kind:
        raise _note(Unsuitable(name_of(type(value)), _NO_WAY))
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    shape = list(value.shape) if is_array else None
    return [kind.str, shape, order, value.tobytes(order=order)]


def _array(parts: list[Any]) -> Any:
    kind, shape, order, buffer = parts
    numpy: Any = sys.modules["numpy"]
    made = numpy.ndarray(shape or (), numpy.dtype(kind), buffer, order=order).copy(order)
    return made[()] if shape is None else made


# What has no class of its own: made of bytes, or of a value.
_RAW: dict[int, Callable[[bytes], Any]] = {
    _BIG_INTEGER: lambda packed: int.from_bytes(packed, "big", signed=True),
    _TEXT: lambda packed: packed.decode("utf-8", "surrogatepass"),
    _BYTES: bytearray,
}
_PLAIN: dict[int, Callable[[Any], Any]] = {
    _PAIRS: earlier.from_pairs,
    _TUPLE: tuple,
    _ARRAY: _array,
    _DELTA: _DeltaSnapshot,
}
