"""The views of states: what they take, and what they ask for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient

from runwait.api import errors, request, states
from runwait.threads.compatibility import StateIncompatible
from runwait.threads.states import LATEST, At, CheckpointNotFound, NoGraph, UpdateRefused

THREAD, CHECKPOINT = str(UUID(int=1)), str(UUID(int=2))
STATE, HISTORY, AT = (
    f"/threads/{THREAD}/{end}" for end in ("state", "history", "state/checkpoint")
)


class Asked:
    """Takes the place of the threads' states."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.answer: Any = {"values": {"n": 10**20, "s": {1}}}

    def _take(self, name: str, *args: Any, **options: Any) -> Any:
        self.calls.append((name, args, options))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def get(self, *args: Any, **options: Any) -> Any:
        return self._take("get", *args, **options)

    def history(self, *args: Any, **options: Any) -> Any:
        return self._take("history", *args, **options)

    def update(self, *args: Any, **options: Any) -> Any:
        return self._take("update", *args, **options)


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def http(asked: Asked) -> FlaskClient:
    app = Flask("states")
    app.extensions["runwait"] = SimpleNamespace(
        access=None,
        service=SimpleNamespace(states=asked),
        settings=SimpleNamespace(max_request_bytes=10_000),
    )
    app.register_blueprint(states.blueprint)
    errors.register(app)
    request.register(app)
    return app.test_client()


class TestState:
    def test_is_the_latest(self, http, asked):
        answer = http.get(STATE)
        assert (answer.status_code, answer.content_type) == (200, "application/json")
        assert answer.get_data() == b'{"values":{"n":100000000000000000000,"s":[1]}}'
        assert asked.calls == [("get", (THREAD,), {"subgraphs": False})]

    def test_is_that_of_a_checkpoint(self, http, asked):
        http.get(f"/threads/{THREAD.upper()}/state")
        http.get(f"{STATE}/{CHECKPOINT.upper()}?subgraphs=true")
        assert asked.calls == [
            ("get", (THREAD,), {"subgraphs": False}),
            ("get", (THREAD, At(checkpoint_id=CHECKPOINT)), {"subgraphs": True}),
        ]

    def test_is_that_of_a_checkpoint_in_the_body(self, http, asked):
        given = {
            "checkpoint_id": CHECKPOINT,
            "checkpoint_ns": "inner:1",
            "checkpoint_map": {"": CHECKPOINT},
        }
        http.post(AT, json={"checkpoint": {**given, "thread_id": "ignored"}, "subgraphs": True})
        http.post(AT, json={"checkpoint": {"thread_id": THREAD}})
        http.post(AT, json={"checkpoint": {}})
        assert asked.calls == [
            ("get", (THREAD, At(**given)), {"subgraphs": True}),
            ("get", (THREAD, LATEST), {"subgraphs": False}),
            ("get", (THREAD, LATEST), {"subgraphs": False}),
        ]

    @pytest.mark.parametrize(
        ("path", "detail"),
        [
            ("/threads/x/state", "thread_id: must be a UUID"),
            ("/threads/x/state/y", "thread_id: must be a UUID; checkpoint_id: must be a UUID"),
            (f"{STATE}?subgraphs=maybe", "subgraphs: must be one of: true, 1, false, 0"),
            ("/threads/x/history", "thread_id: must be a UUID"),
        ],
    )
    def test_is_not_read_for_a_bad_request(self, http, asked, path, detail):
        answer = http.get(path)
        assert (answer.status_code, answer.json) == (422, {"detail": detail})
        assert asked.calls == []

    @pytest.mark.parametrize(
        ("body", "detail"),
        [
            ({}, "checkpoint: is required"),
            ([], "the body must be a JSON object"),
            ({"checkpoint": None}, "checkpoint: must be an object"),
            ({"checkpoint": "x"}, "checkpoint: must be an object"),
            ({"checkpoint": {"checkpoint_id": "x"}}, "checkpoint.checkpoint_id: must be a UUID"),
            ({"checkpoint": {"checkpoint_ns": 5}}, "checkpoint.checkpoint_ns: must be a string"),
            (
                {"checkpoint": {"checkpoint_map": {"": "x"}}},
                "checkpoint.checkpoint_map: must be an object of checkpoint ids",
            ),
            ({"checkpoint": {}, "subgraphs": 1}, "subgraphs: must be true or false"),
        ],
    )
    def test_is_not_read_for_a_bad_body(self, http, asked, body, detail):
        answer = http.post(AT, json=body)
        assert (answer.status_code, answer.json) == (422, {"detail": detail})
        assert asked.calls == []


class TestUpdate:
    def test_takes_values_a_node_and_a_checkpoint(self, http, asked):
        given = {"checkpoint_id": CHECKPOINT, "checkpoint_ns": "inner"}
        http.post(STATE, json={"values": {"a": 1}})
        http.post(STATE, json={"values": [{"a": 1}], "as_node": "n", "checkpoint": given})
        http.post(STATE, json={"values": None, "checkpoint_id": CHECKPOINT})
        http.post(STATE, json={"checkpoint": {"checkpoint_ns": "n"}, "checkpoint_id": CHECKPOINT})
        assert asked.calls == [
            ("update", (THREAD, {"a": 1}, None, LATEST), {}),
            ("update", (THREAD, [{"a": 1}], "n", At(**given)), {}),
            ("update", (THREAD, None, None, At(checkpoint_id=CHECKPOINT)), {}),
            (
                "update",
                (THREAD, None, None, At(checkpoint_id=CHECKPOINT, checkpoint_ns="n")),
                {},
            ),
        ]

    @pytest.mark.parametrize(
        ("body", "detail"),
        [
            ([], "the body must be a JSON object"),
            ({"values": {}, "as_node": None}, "as_node: must be a string"),
            ({"values": {}, "as_node": 5}, "as_node: must be a string"),
            ({"values": {}, "checkpoint": "x"}, "checkpoint: must be an object"),
            ({"values": {}, "checkpoint_id": "x"}, "checkpoint_id: must be a UUID"),
        ],
    )
    def test_is_refused_for_a_bad_body(self, http, asked, body, detail):
        answer = http.post(STATE, json=body)
        assert (answer.status_code, answer.json) == (422, {"detail": detail})
        assert asked.calls == []


class TestHistory:
    def test_takes_what_the_sdks_send(self, http, asked):
        page = {"limit": 10, "before": None}
        default = {**page, "metadata": None, "at": LATEST}
        asked.answer = []
        assert http.get(HISTORY).json == []
        http.get(f"{HISTORY}?limit=3&before={CHECKPOINT.upper()}")
        http.post(HISTORY, json={})
        http.post(
            HISTORY,
            json={"limit": 5.0, "metadata": {"a": 1}, "checkpoint": {"checkpoint_ns": "n"}},
        )
        assert asked.calls == [
            ("history", (THREAD,), options)
            for options in (
                page,
                {"limit": 3, "before": CHECKPOINT},
                default,
                {**default, "limit": 5, "metadata": {"a": 1}, "at": At(checkpoint_ns="n")},
            )
        ]

    @pytest.mark.parametrize(
        "before",
        [
            CHECKPOINT,
            {"checkpoint_id": CHECKPOINT},
            {"checkpoint_id": CHECKPOINT, "thread_id": THREAD, "checkpoint_ns": ""},
            {"configurable": {"checkpoint_id": CHECKPOINT, "thread_id": THREAD}},
        ],
    )
    def test_begins_before_a_checkpoint_in_any_form(self, http, asked, before):
        http.post(HISTORY, json={"before": before})
        [(_, _, options)] = asked.calls
        assert options["before"] == CHECKPOINT

    @pytest.mark.parametrize("limit", ["0", "-1", "x", "1001", "1.5", "", "9" * 5000, "²"])
    def test_is_refused_for_a_bad_limit(self, http, asked, limit):
        answer = http.get(HISTORY, query_string={"limit": limit})
        assert answer.status_code == 422
        assert answer.json == {"detail": "limit: must be an integer from 1 to 1000"}
        assert asked.calls == []

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            *(({"limit": each}, "limit") for each in (0, 1001, True, "5", None, 1.5, 10**400)),
            *(
                ({"before": each}, "before")
                for each in ("x", 5, None, {}, {"checkpoint_id": 5}, {"configurable": 5})
            ),
            ({"metadata": None}, "metadata"),
            ({"metadata": 5}, "metadata"),
            ({"checkpoint": None}, "checkpoint"),
        ],
    )
    def test_is_refused_for_a_bad_body(self, http, asked, body, field):
        answer = http.post(HISTORY, json=body)
        assert answer.status_code == 422
        assert answer.json["detail"].startswith(f"{field}: must be ")
        assert asked.calls == []

    def test_is_refused_for_a_bad_checkpoint_in_the_query(self, http):
        answer = http.get(f"{HISTORY}?before=x")
        assert answer.status_code == 422
        assert answer.json["detail"].startswith("before: must be a checkpoint's id")


def test_a_checkpoint_s_id_by_itself_goes_before_the_one_within(http, asked):
    other = str(uuid4())
    given = {"checkpoint": {"checkpoint_id": other, "checkpoint_ns": "a:1"}}
    http.post(STATE, json={"values": {}, **given, "checkpoint_id": CHECKPOINT})
    [(_, args, _)] = asked.calls
    assert args[-1] == At(checkpoint_id=CHECKPOINT, checkpoint_ns="a:1")


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (CheckpointNotFound("c"), 404, "checkpoint c not found"),
        (NoGraph("no graph"), 400, "no graph"),
        (StateIncompatible("channel 'x'"), 409, "channel 'x'"),
        (UpdateRefused("as_node: ..."), 422, "as_node: ..."),
    ],
)
def test_what_cannot_be_done_is_answered_with_its_reason(http, asked, error, status, detail):
    asked.answer = error
    answer = http.post(STATE, json={"values": {}})
    assert (answer.status_code, answer.json) == (status, {"detail": detail})
