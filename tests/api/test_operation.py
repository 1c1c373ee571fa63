"""What is declared of a view: how requests are read by it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask, Response, jsonify

from runwait.api import errors, fields
from runwait.api.errors import BrokenRequest
from runwait.api.operation import Answer, operation
from runwait.api.schemas import Body, IdempotencyHeaders, StreamHeaders, Texts

NAMES = ("a", "b", "c")


class Query(Texts):
    flag = fields.flag()
    limit = fields.digits(1, 50, load_default=7)
    select = fields.names(NAMES)
    word = fields.one_of(["x", "y"], load_default=None)


class Wanted(Body):
    number = fields.integer(1, required=True)


DONE = Answer("It is done.")


def asked(declared: Any, path: str = "/", **request: Any) -> tuple[Any, int]:
    """What a view with this declaration is given, or why it is not called; and the status."""
    app = Flask("operation", static_folder=None)
    errors.register(app)
    app.extensions["runwait"] = SimpleNamespace(settings=SimpleNamespace(max_request_bytes=100))

    @app.route("/", methods=["GET", "POST"])
    @declared
    def view(**given: Any) -> Response:
        return jsonify(given)

    response = app.test_client().open(path, **request)
    answer = response.get_json()
    return (answer if response.status_code == 200 else answer["detail"]), response.status_code


def of_query(query: str) -> Any:
    return asked(operation(query=Query(), gives=DONE), f"/?{query}")[0]


def of_header(headers: Texts, name: str, value: str | None) -> tuple[Any, int]:
    given = {} if value is None else {name: value}
    return asked(operation(headers=headers, gives=DONE), headers=given)


def test_a_view_is_given_its_query_and_what_is_not_there_is_as_declared():
    assert of_query("") == {"flag": False, "limit": 7, "select": [], "word": None}
    assert of_query("other=1&limit=8&limit=x") == {
        **of_query(""),
        "limit": 8,  # the first counts
    }


def test_all_that_is_wrong_is_named_at_once_and_the_view_is_not_called():
    declared = operation(query=Query(), headers=StreamHeaders(), body=Wanted(), gives=DONE)
    detail, status = asked(
        declared,
        "/?flag=2&limit=0",
        method="POST",
        json={"number": 0},
        headers={"Last-Event-ID": "x"},
    )

    assert status == 422
    assert detail.split("; ") == [
        "flag: must be one of: true, 1, false, 0",
        "limit: must be an integer from 1 to 50",
        "Last-Event-ID: must be an event's id, or -1 for all",
        "number: must be an integer of at least 1",
    ]


def test_a_body_that_is_no_json_is_told_before_all_else():
    declared = operation(query=Query(), body=Wanted(), gives=DONE)

    detail, status = asked(declared, "/?flag=2", method="POST", data=b"{")

    assert (status, detail[:31]) == (422, "the body is not JSON as it must")


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"number": "1"}'])
def test_a_declaration_may_have_an_error_of_its_own_for_what_is_wrong(data):
    declared = operation(body=Wanted(), gives=DONE, invalid=BrokenRequest)

    assert asked(declared, method="POST", data=data)[1] == 400
    assert asked(declared, method="POST", data=b'{"number": 1.0}') == ({"body": {"number": 1}}, 200)


@pytest.mark.parametrize(
    ("given", "value"), [("true", True), ("1", True), ("false", False), ("0", False)]
)
def test_a_flag_is_true_or_false(given, value):
    assert of_query(f"flag={given}")["flag"] is value


@pytest.mark.parametrize("given", ["", "yes", "True", "2", " 1"])
def test_a_flag_is_nothing_else(given):
    assert of_query(urlencode({"flag": given})) == "flag: must be one of: true, 1, false, 0"


@pytest.mark.parametrize("given", ["", "0", "51", "-1", "1.0", "x", "1_0", "\u0661", "9" * 5000])
def test_digits_are_a_number_in_their_range(given):
    detail = of_query(urlencode({"limit": given}))
    assert detail == "limit: must be an integer from 1 to 50"
    assert of_query("limit=050")["limit"] == 50


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", []),
        ("select=", []),
        ("select=c&select=a&select=c", ["a", "c"]),
        ("select=b", ["b"]),
        ('select=["c","a"]', ["a", "c"]),
        ("select=[]", []),
    ],
)
def test_names_come_one_by_one_or_in_a_list(query, names):
    assert of_query(query)["select"] == names


@pytest.mark.parametrize(
    "query", ["d", "a&select=d", '["d"]', "[[]]", "[", "a,b", '["a"]&select=a']
)
def test_names_that_are_unknown_are_refused(query):
    assert of_query(f"select={query}") == "select: must be some of: a, b, c"


@pytest.mark.parametrize(
    ("given", "key"),
    [
        (None, None),
        ("a", "a"),
        ('"a"', "a"),
        ("a" * 255, "a" * 255),
        (f'"{"~" * 255}"', "~" * 255),
    ],
)
def test_an_idempotency_key_may_be_quoted_or_bare(given, key):
    asked = of_header(IdempotencyHeaders(), "Idempotency-Key", given)
    assert asked == ({"idempotency_key": key}, 200)


@pytest.mark.parametrize(
    "given", ["", '""', '"', '"a', 'a"', "a b", "a\tb", "\xe9", "a" * 256, '"a","a"']
)
def test_an_idempotency_key_that_is_malformed_is_refused(given):
    detail, status = of_header(IdempotencyHeaders(), "Idempotency-Key", given)
    assert status == 422
    assert detail == "Idempotency-Key: must be 1 to 255 visible ASCII characters"


@pytest.mark.parametrize(
    ("given", "event"),
    [(None, None), ("", None), ("-1", [0, 0]), ("0", [0, 0]), ("-", [0, 0]), ("3-17", [3, 17])],
)
def test_a_stream_goes_on_after_an_event(given, event):
    asked = of_header(StreamHeaders(), "Last-Event-ID", given)
    assert asked == ({"last_event_id": event}, 200)


@pytest.mark.parametrize("given", ["x", "1", "1-", "-2", "1-2-3", "1" * 20 + "-1", "\u0663-1"])
def test_what_is_no_event_is_refused(given):
    detail, _ = of_header(StreamHeaders(), "Last-Event-ID", given.encode().decode("latin-1"))
    assert detail == "Last-Event-ID: must be an event's id, or -1 for all"
