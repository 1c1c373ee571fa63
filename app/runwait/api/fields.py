"""Marshmallow fields that take JSON's types as they are: no coercion, no guessing.

The contract's types are strict: `"5"` is no number and `1` no boolean, but `5.0` is an
integer, since JSON does not tell them apart. Every field says what it must be.

Each also says so in JSON Schema, for the API's own description (openapi.py), which its `about` and
`example` are for. The last fields here are for what comes as text, in a query or a header.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from marshmallow import Schema, ValidationError, fields

from runwait.api.json_body import InvalidJSON, parse
from runwait.graphs.assistants import is_uuid
from runwait.graphs.langgraph import RESERVED

# How many elements a list may have: of each, something is done that takes longer than reading it.
MOST = 1000
# How many objects and lists a filter may have in its lists: each is compared with all of a list.
MOST_IN_LISTS = 20


NOTHING: Mapping[str, Any] = {}


def described(schema: Mapping[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Marshmallow's options for a field, with what the API's description says of it.

    Args:
        schema: what its value must be, as JSON Schema.
        options: marshmallow's own; and `about`, a sentence on what the field means, and `example`.
    """
    said: dict[str, Any] = {**schema}
    if "about" in options:
        said["description"] = options.pop("about")
    if "example" in options:
        said["examples"] = [options.pop("example")]
    return {**options, "metadata": {"schema": said}}


class Strict(fields.Field[Any]):
    """A value that passes a check, unchanged."""

    def __init__(
        self,
        must: str,
        check: Callable[[Any], bool],
        *,
        schema: Mapping[str, Any] = NOTHING,
        convert: Callable[[Any], Any] = lambda value: value,
        bound: tuple[str, Callable[[Any], bool]] = ("", lambda value: True),
        repeated: bool = False,
        **options: Any,
    ) -> None:
        """Define the field.

        Args:
            must: what the value must be, after "must be".
            check: whether it is.
            schema: what it must be as JSON Schema.
            convert: makes of a valid value what is wanted.
            bound: how much such a value may have, after "must have", and whether it has no more.
            repeated: whether its text may come several times; the value is the list of them then.
            options: marshmallow's own, and `about` and `example`.
        """
        text = f"must be {must}"
        messages: dict[str, Any] = {"required": "is required", "null": text, "invalid": text}
        messages["bound"] = f"must have {bound[0]}"
        super().__init__(error_messages=messages, **described(schema, options))
        self.repeated = repeated
        self._check = check
        self._has_no_more = bound[1]
        self._convert = convert

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **options: Any
    ) -> Any:
        if not self._check(value):
            raise self.make_error("invalid")
        if not self._has_no_more(value):
            raise self.make_error("bound")
        return self._convert(value)


FEW = (f"at most {MOST} elements", lambda value: not isinstance(value, list) or len(value) <= MOST)


def _is_cheap(filter: Mapping[str, Any]) -> bool:
    """Whether so much is compared with whatever is looked through."""
    waiting: list[tuple[Any, bool]] = [(filter, False)]
    values = in_lists = 0
    while waiting:
        value, in_list = waiting.pop()
        if not isinstance(value, dict | list):
            continue
        values += len(value)
        in_lists += in_list
        if values > MOST or in_lists > MOST_IN_LISTS:
            return False
        inner = value if isinstance(value, list) else list(value.values())
        waiting += ((each, inner is value) for each in inner)
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return _is_number(value) and (isinstance(value, int) or value.is_integer())


STRING = {"type": "string"}
OBJECT = {"type": "object"}
UUID = {"type": "string", "format": "uuid"}


def list_of(items: Any) -> dict[str, Any]:
    """The JSON Schema of a list of such items: by their JSON Schema, or a marshmallow schema."""
    return {"type": "array", "items": items}


def range_of(kind: str, least: float, most: float | None = None) -> dict[str, Any]:
    """The JSON Schema of a number of at least so much, and at most so much."""
    return {"type": kind, "minimum": least, **({} if most is None else {"maximum": most})}


def is_strings(value: Any) -> bool:
    """Whether this is a list of strings."""
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def text(**options: Any) -> Strict:
    """A string."""
    return Strict("a string", lambda value: isinstance(value, str), schema=STRING, **options)


def uri_reference(**options: Any) -> Strict:
    """A URI reference (RFC 3986), 1 to 65,536 characters."""
    allowed = re.compile(r"(?:[!#$&-;=?-\[\]_a-z~]|%[0-9A-Fa-f]{2}|[^\x00-\x7f])+")
    return Strict(
        "a URI reference of 1 to 65536 characters",
        lambda value: (
            isinstance(value, str) and len(value) <= 65536 and allowed.fullmatch(value) is not None
        ),
        schema={**STRING, "format": "uri-reference", "minLength": 1, "maxLength": 65536},
        **options,
    )


def uuid(**options: Any) -> Strict:
    """A UUID in its usual form; it comes out in lower case."""
    return Strict(
        "a UUID",
        lambda value: isinstance(value, str) and is_uuid(value),
        schema=UUID,
        convert=str.lower,
        **options,
    )


def uuids(**options: Any) -> Strict:
    """A list of UUIDs; they come out in lower case."""
    return Strict(
        "a list of UUIDs",
        lambda value: is_strings(value) and all(map(is_uuid, value)),
        schema={"type": "array", "items": UUID, "maxItems": MOST},
        convert=lambda value: [each.lower() for each in value],
        bound=FEW,
        **options,
    )


def boolean(**options: Any) -> Strict:
    """true or false."""
    return Strict(
        "true or false",
        lambda value: isinstance(value, bool),
        schema={"type": "boolean"},
        **options,
    )


def integer(least: int, most: int | None = None, **options: Any) -> Strict:
    """An integer of at least so much, and at most so much."""
    return Strict(
        f"an integer of at least {least}" if most is None else f"an integer from {least} to {most}",
        lambda value: _is_integer(value) and value >= least and (most is None or value <= most),
        schema=range_of("integer", least, most),
        convert=int,
        **options,
    )


def number(**options: Any) -> Strict:
    """A finite number."""
    return Strict(
        "a finite number",
        lambda value: _is_number(value) and (isinstance(value, int) or math.isfinite(value)),
        schema={"type": "number"},
        **options,
    )


def one_of(choices: Sequence[str], **options: Any) -> Strict:
    """One of these strings."""
    return Strict(
        f"one of: {', '.join(choices)}",
        lambda value: isinstance(value, str) and value in choices,
        schema={**STRING, "enum": [*choices]},
        **options,
    )


def some_of(choices: Sequence[str], **options: Any) -> Strict:
    """One of these strings, or a list of them; a list comes out."""
    return Strict(
        f"one of, or a list of: {', '.join(choices)}",
        lambda value: (
            value in choices
            if isinstance(value, str)
            else is_strings(value) and all(each in choices for each in value)
        ),
        schema={"anyOf": [{**STRING, "enum": [*choices]}, list_of({**STRING, "enum": [*choices]})]},
        convert=lambda value: [value] if isinstance(value, str) else list(dict.fromkeys(value)),
        **options,
    )


def selection(names: Sequence[str], **options: Any) -> Strict:
    """Some of these names; they come out in this order."""
    return Strict(
        f"a list of: {', '.join(names)}",
        lambda value: is_strings(value) and all(each in names for each in value),
        schema=list_of({**STRING, "enum": [*names]}),
        convert=lambda value: [each for each in names if each in value],
        **options,
    )


def json_object(**options: Any) -> Strict:
    """An object with anything in it."""
    return Strict("an object", lambda value: isinstance(value, dict), schema=OBJECT, **options)


def filter_object(**options: Any) -> Strict:
    """An object that others are to contain."""
    text = f"at most {MOST} values, and in lists at most {MOST_IN_LISTS} objects and lists"
    return Strict(
        "an object",
        lambda value: isinstance(value, dict),
        schema=OBJECT,
        bound=(text, _is_cheap),
        **options,
    )


def json(schema: Mapping[str, Any] = NOTHING, **options: Any) -> fields.Raw:
    """Any JSON, null too."""
    return fields.Raw(allow_none=True, **described(schema, options))


def strings(**options: Any) -> Strict:
    """A list of strings."""
    schema = {**list_of(STRING), "maxItems": MOST}
    return Strict("a list of strings", is_strings, schema=schema, bound=FEW, **options)


def node_names(**options: Any) -> Strict:
    """Names of nodes, or `*` for all."""
    return Strict(
        '"*" or a list of node names',
        lambda value: value == "*" or is_strings(value),
        schema={"anyOf": [{"const": "*"}, {**list_of(STRING), "maxItems": MOST}]},
        bound=FEW,
        **options,
    )


def update(**options: Any) -> Strict:
    """A command's update: an object, or pairs of a key and a value; none is LangGraph's own."""

    def check(value: Any) -> bool:
        return isinstance(value, dict) or (
            isinstance(value, list)
            and all(
                isinstance(each, list) and len(each) == 2 and isinstance(each[0], str)
                for each in value
            )
        )

    def check_keys(value: Any) -> None:
        reserved = sorted(RESERVED.intersection(dict(value)))
        if reserved:
            raise ValidationError(f"must not have LangGraph's own key {reserved[0]!r}")

    text = "an object, a list of [key, value] pairs, or null"
    pair = {"type": "array", "prefixItems": [STRING, {}], "minItems": 2, "maxItems": 2}
    schema = {"anyOf": [OBJECT, {**list_of(pair), "maxItems": MOST}]}
    return Strict(text, check, schema=schema, bound=FEW, validate=check_keys, **options)


def goto(**options: Any) -> Strict:
    """A command's goto: a node, by name or with an input, or a list of such."""

    def one(value: Any) -> bool:
        return isinstance(value, str) or (
            isinstance(value, dict) and isinstance(value.get("node"), str) and "input" in value
        )

    node = {**OBJECT, "properties": {"node": STRING, "input": {}}, "required": ["node", "input"]}
    either = {"anyOf": [STRING, node]}
    return Strict(
        "a node name, an object with node and input, a list of these, or null",
        lambda value: all(map(one, value)) if isinstance(value, list) else one(value),
        schema={"anyOf": [STRING, node, {**list_of(either), "maxItems": MOST}]},
        bound=FEW,
        **options,
    )


class Inner(fields.Nested):
    """An object with fields of its own."""

    def __init__(self, schema: type[Schema], must: str = "an object", **options: Any) -> None:
        """Define the field; `must` is what the value must be, after "must be"."""
        text = f"must be {must}"
        messages: dict[str, Any] = {"required": "is required", "null": text, "type": text}
        super().__init__(schema, error_messages=messages, **described(NOTHING, options))

    def _load(self, value: Any, partial: Any = None) -> Any:
        # The schema would take the blame on itself, as "_schema".
        if not isinstance(value, dict):
            raise self.make_error("type")
        return super()._load(value, partial)


_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def flag(**options: Any) -> Strict:
    """A boolean as a query has it: true, false, 1 or 0; false if it is not there."""
    return Strict(
        f"one of: {', '.join(_BOOLEANS)}",
        lambda value: value in _BOOLEANS,
        schema={"type": "boolean"},
        convert=_BOOLEANS.__getitem__,
        **{"load_default": False, **options},
    )


def digits(least: int, most: int, **options: Any) -> Strict:
    """A whole number as a query has it."""
    return Strict(
        f"an integer from {least} to {most}",
        lambda value: (
            re.fullmatch(r"[0-9]{1,10}", value) is not None and least <= int(value) <= most
        ),
        schema=range_of("integer", least, most),
        convert=int,
        **options,
    )


def names(choices: Sequence[str], **options: Any) -> Strict:
    """Some of these names as a query has them; they come out in this order.

    Each comes by itself, or all as one JSON list: so LangGraph's SDK for JavaScript sends them. The
    one for Python sends an empty text for none.
    """

    def given(values: list[str]) -> Any:
        values = [each for each in values if each]
        if len(values) == 1 and values[0].startswith("["):
            with contextlib.suppress(InvalidJSON):
                return parse(values[0].encode())
        return values

    return Strict(
        f"some of: {', '.join(choices)}",
        lambda values: all(each in choices for each in given(values)),
        schema=list_of({**STRING, "enum": [*choices]}),
        convert=lambda values: [each for each in choices if each in given(values)],
        repeated=True,
        load_default=list,
        **options,
    )
