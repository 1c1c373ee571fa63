"""The JSON of a request body, read strictly.

Stricter than `json.loads`, which takes NaN, lets the last of two equal names win, makes an infinity
of 1e999 and a broken string of half a surrogate pair: a client that sends these hears of it.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import orjson

from runwait.serialization import MAX_DEPTH, is_deeper

MAX_INTEGER_DIGITS = 4300

_MAX_ECHO = 60

# orjson writes no deeper documents than this, and reads integers of up to 64 bits.
ORJSON_DEPTH = 254
_TOO_MANY_DIGITS = b"0" * 19
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")

# An escape in a string: a whole surrogate pair, half of one (the group), or any other.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


class InvalidJSON(ValueError):
    """The body is not JSON as this service takes it. The text says why, for the client to read."""


def parse(raw: bytes) -> Any:
    """The value of a JSON document (RFC 8259) in UTF-8.

    Raises InvalidJSON for anything else, and for what a document may hold but not every reader
    understands alike: a name twice in one object, floats beyond a double, integers over 4,300
    digits, lone surrogates, a byte order mark, nesting over 200.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _parse_slowly(raw)
    return value if _says_all(value, raw) else _parse_slowly(raw)


def _says_all(value: Any, raw: bytes) -> bool:
    """Whether orjson read the document as we would; where it can't be told, False.

    What it lets pass is a name twice, of which it keeps the last, an integer of more than 64 bits,
    of which it makes a float, and nesting up to 1,024.
    """
    wrapped = value
    # One level more than would do: orjson 3.11 counts no empty array or object as one.
    for _ in range(ORJSON_DEPTH - MAX_DEPTH + 1):
        wrapped = [wrapped]
    try:
        again = orjson.dumps(wrapped)
    except orjson.JSONEncodeError:
        return False
    # Written anew, a document in which a name was left out has fewer colons: all that stand in
    # strings are the same, but for those that were escapes, as \u003a.
    return (
        again.count(b":") == raw.count(b":")
        and b"\\u003" not in raw
        and _TOO_MANY_DIGITS not in raw.translate(_DIGITS_ALIKE)
    )


def _parse_slowly(raw: bytes) -> Any:
    """What `parse` does, by the standard library: it says what is wrong, and where."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJSON(f"byte {error.start} is not UTF-8") from None
    if not text or text.isspace():
        raise InvalidJSON("it is empty")
    if text.startswith("\ufeff"):
        raise InvalidJSON("it begins with a byte order mark")
    # Asked before it is read, since a reader could end on it in ways of its own.
    if is_deeper(raw, MAX_DEPTH):
        raise InvalidJSON(f"it is nested deeper than {MAX_DEPTH} levels")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        what = error.msg.rstrip(": ").removesuffix(" at")
        raise InvalidJSON(f"{what} at line {error.lineno} column {error.colno}") from None
    if "\\ud" in text or "\\uD" in text:
        _refuse_lone_surrogates(text)
    return value


def _refuse_lone_surrogates(text: str) -> None:
    for escape in _ESCAPE.finditer(text):
        if escape[1]:
            raise InvalidJSON(f"\\{escape[1]} is half of a surrogate pair without the other")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise InvalidJSON(f"the name {_excerpt(name)!r} is there twice in one object")
        seen.add(name)
    return members


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MAX_INTEGER_DIGITS:
        raise InvalidJSON(f"an integer has more than {MAX_INTEGER_DIGITS} digits")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise InvalidJSON(f"the number {_excerpt(text)} is beyond a double")
    return number


def _constant(text: str) -> NoReturn:
    raise InvalidJSON(f"JSON has no {text}")


def _excerpt(text: str) -> str:
    return text if len(text) <= _MAX_ECHO else f"{text[:_MAX_ECHO]}..."


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_float, parse_int=_integer, parse_constant=_constant
)
