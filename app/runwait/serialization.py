"""Any Python value as one JSON document.

A graph may return whatever Python can hold. Here it becomes JSON that any parser reads, without
loss where JSON can hold it, so that a value never turns a successful run into a failed one.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import decimal
import json
import math
from collections import UserString
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Set,
    ValuesView,
)
from datetime import date, datetime, time, timedelta
from enum import Enum
from itertools import accumulate, repeat
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any
from uuid import UUID

import orjson
import uuid_utils
from langchain_core.messages import BaseMessage
from langgraph.types import Send

MAX_DEPTH = 200
"""How many arrays and objects may stand inside one another, in a document read or written.
`[[1]]` has two levels: a scalar is none of its own."""

_MAX_REPR = 100_000
_MAX_REPRS = 1_000_000
_MAX_RANGE = 1_000_000
_MAX_STEPS = 10

_UNKNOWN = object()
_ABSENT = object()
_ATOMS = frozenset({str, int, float, bool, type(None)})
_PLAIN = _ATOMS | {dict, list, tuple}


def dumps(value: Any) -> bytes:
    """The value as one JSON document in UTF-8.

    Never raises, but for MemoryError and KeyboardInterrupt. Values without JSON of their own:

    - NaN and infinities: null; integers: all their digits, however many;
    - pydantic models: what their `model_dump` gives, and of a subclass instance all its fields;
      where that fails, field by field;
    - dataclasses and named tuples: an object by field name, without the fields that are not set;
    - enums: their value; sets, deques, views and other sequences: an array;
    - dates and times: ISO 8601 text; a timedelta: its seconds, as a number;
    - UUIDs and Decimals: text; bytes: standard base64;
    - exceptions: `{"error": class name, "message": text}`; a `Send`: `{"node", "args"}`;
    - whatever has a `tolist`, as numpy's arrays and scalars do: what that returns;
    - names that are not strings: the text of their JSON, else their `str`. Of two that become the
      same name, the last one counts;
    - lone surrogates in text: U+FFFD.

    Anything else is its `repr`, and so is a container deeper than `MAX_DEPTH` or inside itself; one
    that holds a cycle is written once, and where it comes again as its `repr`. A `repr` that fails
    is only the class's name; one beyond 100,000 characters is cut; and after a million characters
    of containers so written, the rest of them are only their class's name.
    """
    try:
        data = orjson.dumps(value, _message, _STRICTLY)
    except Exception:
        return _dumps(value)
    return _dumps(value) if is_deeper(data, MAX_DEPTH) else data


# orjson writes plain values as they are to be written, ten times as fast, and refuses all others.
_STRICTLY = (
    orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)
# Brackets as steps down and up, read as signed bytes: +1 and -1.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NEITHER_QUOTES_NOR_BRACKETS = bytes(set(range(256)) - set(b'"[{]}'))
# Levels that are taken away from a document before each bracket of it is counted.
_TAKEN_AWAY = 16


def _message(value: Any) -> Any:
    """LangChain's own messages as orjson may write them: what else is no plain value is not."""
    if isinstance(value, BaseMessage) and type(value).__module__.startswith("langchain_core."):
        return value.model_dump()
    raise TypeError


def _opened(document: bytes) -> int:
    return document.count(b"[") + document.count(b"{")


def is_deeper(document: bytes, limit: int) -> bool:
    """Whether arrays and objects stand inside one another in more than so many levels.

    It need not be valid JSON: how the standard library ends on endless nesting depends on Python's
    version and the platform's stack.
    """
    if _opened(document) <= limit:
        return False
    if b"\\" in document:
        document = document.replace(b"\\\\", b"").replace(b'\\"', b"")
    # The quotes that are left begin and end strings, in which brackets are none; two without a
    # bracket between them tell nothing.
    marks = document.translate(None, _NEITHER_QUOTES_NOR_BRACKETS).replace(b'""', b"")
    brackets = b"".join(marks.split(b'"')[::2])
    # Most documents are wide and not deep: without the innermost of their arrays and objects, a
    # level or two of them each time, there are soon not enough left to be deeper.
    left = brackets
    for taken_away in range(2, _TAKEN_AWAY + 1, 2):
        left = left.replace(b"[]", b"").replace(b"{}", b"")
        if taken_away + _opened(left) <= limit:
            return False
    steps = memoryview(brackets.translate(_STEPS)).cast("b")
    return any(map(limit.__lt__, accumulate(steps)))


def _dumps(value: Any) -> bytes:
    """`dumps`, for any value."""
    parts: list[str] = []
    write = parts.append
    quoted, quoted_ascii = encode_basestring, encode_basestring_ascii
    names = _Names()
    cuts = _Cuts()
    # A loop and not a recursion: the caller may stand anywhere below Python's recursion limit.
    # What is outside of the container being written, outermost first: what remains of it.
    outer: list[tuple[Iterator[tuple[str, Any]], str]] = []
    members: Iterator[tuple[str, Any]] = iter([("", value)])
    closing = comma = ""
    while True:
        for name, item in members:
            kind = type(item)
            if kind is str:
                # The encoder that escapes all but ASCII is twice as fast.
                text = quoted_ascii(item) if item.isascii() else quoted(item)
                write(f"{comma}{name}{text}")
                comma = ","
                continue
            plain = item
            if kind not in _PLAIN:
                plain = _plain(item)
                kind = type(plain)
            if kind is not dict and kind is not list and kind is not tuple:
                write(f"{comma}{name}{quoted(plain) if kind is str else _scalar(plain)}")
            elif len(outer) >= MAX_DEPTH:
                write(f"{comma}{name}{quoted(cuts.text(item))}")
            elif id(item) in cuts.barred:
                cuts.close_cycle()
                write(f"{comma}{name}{quoted(cuts.text(item))}")
            elif not plain:
                write(f"{comma}{name}{'{}' if kind is dict else '[]'}")
            else:
                outer.append((members, closing))
                cuts.open(item)
                if kind is dict:
                    write(f"{comma}{name}{{")
                    members, closing = names.members(plain), "}"
                else:
                    write(f"{comma}{name}[")
                    members, closing = zip(repeat(""), list(plain)), "]"
                comma = ""
                break
            comma = ","
        else:
            write(closing)
            if not outer:
                return _utf8("".join(parts))
            members, closing = outer.pop()
            cuts.close()
            comma = ","


def loads(document: bytes) -> Any:
    """The value of a document that `dumps` wrote.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return json.loads(document)
    except ValueError:  # an integer beyond `sys.set_int_max_str_digits`, which a Decimal ignores
        return json.loads(document, parse_int=lambda digits: int(decimal.Decimal(digits)))


class _Cuts:
    """Which containers are not opened, and what stands for them.

    Barred are those that are open, and those in which a cycle was found: of nodes that know one
    another, there are more ways through than anybody could write.
    """

    def __init__(self) -> None:
        self.barred: set[int] = set()
        self._open: list[Any] = []
        self._cyclic: dict[int, Any] = {}  # with the container, so that its id stays its own
        self._written = 0

    def open(self, container: Any) -> None:
        self._open.append(container)
        self.barred.add(id(container))

    def close(self) -> None:
        ident = id(self._open.pop())
        if ident not in self._cyclic:
            self.barred.discard(ident)

    def close_cycle(self) -> None:
        """All that is open holds a cycle."""
        for container in reversed(self._open):
            if id(container) in self._cyclic:
                break
            self._cyclic[id(container)] = container

    def text(self, container: Any) -> str:
        # Of a tree whose nodes know their parents, the repr of each may be that of all the tree.
        name = _class_name(type(container))
        if self._written >= _MAX_REPRS:
            return name
        text = _text(repr, container)
        # One that fails has most likely been all around a cycle, until the stack was full.
        self._written += _MAX_REPR if text == name else len(text)
        return text


class _Names(dict[str, str]):
    """The names in a document, as they are written before a value. Most come many times."""

    def members(self, value: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
        # A copy, taken at once: a node that could not be stopped may still be changing the value.
        value = value.copy()
        if {*map(type, value)} <= {str}:
            try:
                return zip([*map(self.__getitem__, value)], value.values(), strict=True)
            except UnicodeEncodeError:
                pass
        # Only here can two names come out the same.
        unique = {_name(key): item for key, item in value.items()}
        return zip([*map(self.__getitem__, unique)], unique.values(), strict=True)

    def __missing__(self, name: str) -> str:
        name.encode()
        written = self[name] = f"{encode_basestring(name)}:"
        return written


def _name(key: Any) -> str:
    plain = _reduced(key)
    if isinstance(plain, str):
        return _repaired(plain)
    if isinstance(plain, float) and not math.isfinite(plain):
        return "NaN" if math.isnan(plain) else "Infinity" if plain > 0 else "-Infinity"
    if plain is None or isinstance(plain, (int, float)):
        return _scalar(plain)
    return _repaired(_text(str, key))


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, float):
        return float.__repr__(value) if math.isfinite(value) else "null"
    try:
        return int.__repr__(value)
    except ValueError:
        return _digits(value)


def _digits(value: int) -> str:
    """An integer with more digits than Python turns into text (`sys.set_int_max_str_digits`).

    A Decimal has no such limit. It is put together from halves, since its multiplication is fast
    where its conversion of a large integer takes quadratic time.
    """
    exact = decimal.Context(
        prec=decimal.MAX_PREC, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[decimal.Inexact]
    )
    powers: dict[int, decimal.Decimal] = {}

    def convert(number: int, bits: int) -> decimal.Decimal:
        if bits <= 8192:
            return decimal.Decimal(number)
        low = bits // 2
        if low not in powers:
            powers[low] = exact.power(2, low)
        high = number >> low
        upper = exact.multiply(convert(high, bits - low), powers[low])
        return exact.add(upper, convert(number - (high << low), low))

    sign = "-" if value < 0 else ""
    return f"{sign}{convert(abs(value), value.bit_length())}"


def _plain(value: Any) -> Any:
    """The value as one of the types in `_PLAIN`, its members as they are; else its `repr`."""
    plain = _reduced(value)
    return _text(repr, value) if plain is _UNKNOWN else plain


def _reduced(value: Any) -> Any:
    try:
        for _ in range(_MAX_STEPS):
            if value is _UNKNOWN or type(value) in _PLAIN:
                return value
            value = _step(value)
    except (MemoryError, KeyboardInterrupt):
        raise
    except BaseException:
        # Properties and methods of the value ran, and may have raised anything.
        pass
    return _UNKNOWN


def _step(value: Any) -> Any:
    """A value closer to JSON, or `_UNKNOWN`."""
    kind = type(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if hasattr(kind, "model_dump"):
        return _model(value)
    if isinstance(value, BaseException):
        return {"error": kind.__name__, "message": _text(str, value)}
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return dict(zip(kind._fields, value, strict=True))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, UserString):
        return str(value)
    if isinstance(value, (Sequence, Set, ValuesView)):
        if isinstance(value, range) and value[_MAX_RANGE:]:
            return _UNKNOWN
        return list(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal) and not value.is_finite():
        return None
    if isinstance(value, (UUID, uuid_utils.UUID, decimal.Decimal)):
        return str(value)
    if hasattr(kind, "__dataclass_fields__"):
        return _present(value, [field.name for field in dataclasses.fields(value)])
    if isinstance(value, Send):
        timeout = {} if value.timeout is None else {"timeout": value.timeout}
        return {"node": value.node, "args": value.arg, **timeout}
    if hasattr(kind, "tolist"):
        return value.tolist()
    if hasattr(kind, "__fields__") and hasattr(kind, "dict"):  # a model of pydantic 1
        return value.dict()
    return _UNKNOWN


def _model(value: Any) -> Any:
    """What `model_dump` gives; where that is not to be had, the fields one by one."""
    if not _is_cyclic(value):
        try:
            return _dump(value)
        # A set of models, a serializer that raises.
        except Exception:  # nosec B110 # the next way is tried
            pass
    kind = type(value)
    if getattr(kind, "__pydantic_root_model__", False):
        return value.root
    fields: dict[str, Any] = {}
    for name in [*kind.model_fields, *(value.__pydantic_extra__ or ())]:
        if name in kind.model_fields and kind.model_fields[name].exclude:
            continue
        field = _present(value, [name])
        if not _is_cyclic(field):
            # Through pydantic still, for the field's own serializer may be there to hide something.
            with contextlib.suppress(Exception):
                field = _dump(value, include={name})
        fields |= field
    return fields


def _dump(value: Any, **options: Any) -> Any:
    # By default pydantic writes of a subclass instance only what the field's declared class has: an
    # AIMessage in a list[BaseMessage] would lose its tool calls. pydantic before 2.13 has another
    # option for that, and classes with a model_dump of their own do not know all of these.
    everything: tuple[dict[str, Any], ...] = (
        {"polymorphic_serialization": True},
        {"serialize_as_any": True},
        {},
    )
    for whole in everything:
        with contextlib.suppress(TypeError):
            return value.model_dump(**whole, warnings=False, **options)
    return value.model_dump(**options)


def _is_cyclic(value: Any) -> bool:
    """Whether something in the value holds itself, by way of containers, models or dataclasses.

    Asked before pydantic dumps a model: where it meets a cycle it goes every way through it. What
    goes deeper than a document may is taken for a cycle too.
    """
    outer: list[tuple[Iterator[Any], int]] = []
    path: set[int] = set()
    done: set[int] = set()
    members = iter([value])
    while True:
        for member in members:
            kind = type(member)
            if kind in _ATOMS or (kind in _PLAIN and not member):
                continue
            inner = _inner(member)
            if _ATOMS.issuperset(map(type, inner)) or id(member) in done:
                continue
            if id(member) in path or len(outer) > MAX_DEPTH:
                return True
            outer.append((members, id(member)))
            path.add(id(member))
            members = iter(inner)
            break
        else:
            if not outer:
                return False
            members, ident = outer.pop()
            path.discard(ident)
            done.add(ident)


def _inner(value: Any) -> list[Any]:
    kind = type(value)
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if hasattr(kind, "__dataclass_fields__"):
        return list(_present(value, kind.__dataclass_fields__).values())
    if hasattr(kind, "__pydantic_serializer__"):
        return [*vars(value).values(), getattr(value, "__pydantic_extra__", None)]
    return []


def _present(value: Any, names: Iterable[str]) -> dict[str, Any]:
    fields = {name: getattr(value, name, _ABSENT) for name in names}
    return {name: field for name, field in fields.items() if field is not _ABSENT}


def _text(function: Callable[[Any], str], value: Any) -> str:
    """The value's `str` or `repr`, or its class's name where that raises."""
    try:
        text = str.__str__(function(value))
    except (MemoryError, KeyboardInterrupt):
        raise
    except BaseException:
        return _class_name(type(value))
    return text if len(text) <= _MAX_REPR else f"{text[:_MAX_REPR]}..."


def _class_name(kind: type) -> str:
    try:
        return f"<{kind.__module__}.{kind.__qualname__} object>"
    except Exception:
        return "<object>"


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _repaired(text).encode()


def _repaired(text: str) -> str:
    """The text itself if it has no surrogates; else their pairs joined and lone ones replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
