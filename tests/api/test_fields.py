"""Fields that take JSON's types as they are."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import Schema, ValidationError

from runwait.api import fields

KINDS: dict[str, list[Any]] = {
    "null": [None],
    "boolean": [True, False],
    "integer": [0, 1, -1, 10**400],
    "whole float": [5.0, -0.0],
    "float": [0.5, -1e-300],
    "string": ["", "x", "5", "true", "*"],
    "list": [[], [1]],
    "list of strings": [["x"], ["*", "x"]],
    "object": [{}, {"a": 1}],
}


def refusal(field: Any, value: Any) -> str | None:
    """What a value must be to be taken; None if it is."""
    try:
        field.deserialize(value)
    except ValidationError as error:
        (text,) = error.messages
        return str(text)
    return None


@pytest.mark.parametrize(
    ("field", "taken", "text"),
    [
        (fields.text(), {"string"}, "a string"),
        (fields.boolean(), {"boolean"}, "true or false"),
        (fields.number(), {"integer", "whole float", "float"}, "a finite number"),
        (fields.integer(-1), {"integer", "whole float"}, "an integer of at least -1"),
        (fields.json_object(), {"object"}, "an object"),
        (fields.uuid(), set(), "a UUID"),
        (fields.one_of(["a", "b"]), set(), "one of: a, b"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_field_takes_its_own_kinds_of_value_and_no_other(field, taken, text):
    for kind, values in KINDS.items():
        for value in values:
            expected = None if kind in taken else f"must be {text}"
            assert refusal(field, value) == expected, value


MANY = ["x"] * (fields.MOST + 1)
UUID = "01a20acd-2b83-70b2-a8d5-eb34efcb8229"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (fields.strings(), MANY),
        (fields.node_names(), MANY),
        (fields.goto(), MANY),
        (fields.update(), [["x", 1]] * len(MANY)),
        (fields.uuids(), [UUID] * len(MANY)),
    ],
)
def test_a_list_has_no_more_elements_than_may_be_worked_on(field, value):
    assert refusal(field, value) == "must have at most 1000 elements"
    assert refusal(field, value[1:]) is None


@pytest.mark.parametrize(
    ("value", "too_much"),
    [
        ({"a": list(range(999))}, {"a": list(range(1000))}),
        ({"a": {str(each): {} for each in range(999)}}, {str(each): 1 for each in range(1001)}),
        ({"a": [{}] * 10 + [[[]] * 9]}, {"a": [{}] * 10 + [[[]] * 10]}),
    ],
)
def test_a_filter_has_no_more_than_may_be_compared_with_each(value, too_much):
    text = "must have at most 1000 values, and in lists at most 20 objects and lists"
    assert refusal(fields.filter_object(), too_much) == text
    assert refusal(fields.filter_object(), value) is None


def test_any_json_is_taken_unchanged():
    for values in KINDS.values():
        for value in values:
            assert fields.json().deserialize(value) is value


def test_an_integer_is_one_however_it_is_written():
    value = fields.integer(1).deserialize(5.0)
    assert (value, type(value)) == (5, int)
    assert refusal(fields.integer(1), 0) == "must be an integer of at least 1"


def test_one_of_many_may_come_alone_or_in_a_list_and_goes_on_as_a_list():
    field = fields.some_of(["a", "b"])
    assert [field.deserialize(each) for each in ("a", ["b"], [])] == [["a"], ["b"], []]
    for value in ("c", ["a", "c"], ["a", 1], {"a": 1}, None, 1):
        assert refusal(field, value) == "must be one of, or a list of: a, b"


def test_strings_are_a_list():
    assert refusal(fields.strings(), ["a", ""]) is None
    for value in ("a", ["a", None], {"a": 1}):
        assert refusal(fields.strings(), value) == "must be a list of strings"


def test_nodes_are_named_or_all():
    for value in ("*", ["a", "*"], []):
        assert refusal(fields.node_names(), value) is None
    for value in ("a", ["a", 1], None):
        assert refusal(fields.node_names(), value) == 'must be "*" or a list of node names'


@pytest.mark.parametrize(
    "value", ["x", "/a?b#c", "https://x.org/%20?q=[1]&r=~", "//x", "ü", "a" * 65536]
)
def test_a_uri_reference_is_taken(value):
    assert refusal(fields.uri_reference(), value) is None


@pytest.mark.parametrize("value", ["", " ", "a b", "a\n", "%", "%2", "<a>", '"', "a" * 65537, 1])
def test_what_is_no_uri_reference_is_refused(value):
    assert (
        refusal(fields.uri_reference(), value) == "must be a URI reference of 1 to 65536 characters"
    )


class Outer(Schema):
    class Inside(Schema):
        text = fields.text(required=True)

    inner = fields.Inner(Inside, "an object or nothing")


@pytest.mark.parametrize("value", [None, 1, "x", True, [], [{"text": "x"}]])
def test_an_inner_object_is_told_by_its_own_name_that_it_is_none(value):
    with pytest.raises(ValidationError) as raised:
        Outer().load({"inner": value})
    assert raised.value.messages == {"inner": ["must be an object or nothing"]}


def test_an_inner_objects_fields_are_told_by_their_path():
    with pytest.raises(ValidationError) as raised:
        Outer().load({"inner": {}})
    assert raised.value.messages == {"inner": {"text": ["is required"]}}
    assert Outer().load({"inner": {"text": "x"}}) == {"inner": {"text": "x"}}
