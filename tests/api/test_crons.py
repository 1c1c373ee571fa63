"""The views of crons: what they take, what they ask for, and what they answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient

from runwait.api import crons, errors, request
from runwait.crons.crons import CronBusy
from runwait.options.http import Headers, HttpOptions
from runwait.storage.crons import PUBLIC, CronNotFound, CronQuery
from tests.api.test_threads import Asked, detail

CRON = str(UUID(int=1))
PATH = f"/runs/crons/{CRON}"
BODY = {"assistant_id": "echo", "schedule": "* * * * *"}


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def http(asked: Asked) -> FlaskClient:
    app = Flask("crons")
    app.extensions["runwait"] = SimpleNamespace(
        access=None,
        service=SimpleNamespace(crons=asked),
        settings=SimpleNamespace(max_request_bytes=10_000),
        http=HttpOptions(
            configurable_headers=Headers(("x-user-*", "authorization"), ("x-user-b",))
        ),
    )
    app.register_blueprint(crons.blueprint)
    errors.register(app)
    request.register(app)
    return app.test_client()


def given(http: FlaskClient, asked: Asked, **fields: Any) -> Any:
    """What is asked for with a body like this."""
    assert http.post("/runs/crons", json={**BODY, **fields}).status_code == 200
    ((name, args, options),) = asked.calls
    assert (name, args) == ("create", ())
    assert (options.pop("thread_id"), options.pop("user"), options.pop("headers")) == (
        None,
        None,
        {},
    )
    return options


def test_what_is_the_crons_and_what_its_runs_are_asked_come_apart(http, asked):
    sent = {
        "timezone": "Europe/Berlin",
        "end_time": "2030-01-01T01:00:00+01:00",
        "enabled": False,
        "on_run_completed": "keep",
        "metadata": {"a": 1},
        "input": {"x": 1},
        "config": {"recursion_limit": 5.0},
        "stream_mode": "updates",
        "multitask_strategy": "interrupt",
        # Checked, and without effect.
        "after_seconds": 5,
        "on_completion": "keep",
        "langsmith_tracer": {},
    }
    assert given(http, asked, **sent) == {
        **BODY,
        "timezone": "Europe/Berlin",
        "end_time": 1893456000000,
        "enabled": False,
        "on_run_completed": "keep",
        "metadata": {"a": 1},
        "payload": {
            "input": {"x": 1},
            "config": {"recursion_limit": 5},
            "stream_mode": "updates",
            "multitask_strategy": "interrupt",
        },
    }


def test_a_time_without_an_offset_is_in_utc(http, asked):
    assert given(http, asked, end_time="2030-01-01T00:00:00")["end_time"] == 1893456000000


def test_on_a_thread_its_id_goes_along(http, asked):
    assert http.post(f"/threads/{CRON.upper()}/runs/crons", json=BODY).status_code == 200
    ((_, _, options),) = asked.calls
    assert options == {**BODY, "payload": {}, "thread_id": CRON, "user": None, "headers": {}}


def test_the_headers_that_graphs_are_given_go_along_but_for_proofs_of_who_calls(http, asked):
    sent = {"X-User-A": "1", "X-User-B": "2", "X-Other": "3", "Authorization": "Bearer secret"}
    assert http.post("/runs/crons", json=BODY, headers=sent).status_code == 200
    ((_, _, options),) = asked.calls
    assert options["headers"] == {"x-user-a": "1"}


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"schedule": None}, ["schedule"]),
        ({"schedule": 5}, ["schedule"]),
        ({"schedule": "* * * *"}, ["schedule"]),
        ({"schedule": "0 0 31 2 *"}, ["schedule"]),
        ({"assistant_id": None}, ["assistant_id"]),
        ({"timezone": "Nowhere"}, ["timezone"]),
        ({"timezone": 1}, ["timezone"]),
        ({"end_time": "x"}, ["end_time"]),
        ({"end_time": 1893456000}, ["end_time"]),
        ({"end_time": "0001-01-01T00:00:00+14:00"}, ["end_time"]),
        ({"enabled": "yes"}, ["enabled"]),
        ({"on_run_completed": "later"}, ["on_run_completed"]),
        ({"multitask_strategy": "wait", "metadata": 5}, ["metadata", "multitask_strategy"]),
        ({"after_seconds": "x"}, ["after_seconds"]),
    ],
)
def test_what_is_wrong_is_named(http, asked, fields, wrong):
    for answer in (
        http.post("/runs/crons", json=BODY | fields),
        http.post(f"/threads/{CRON}/runs/crons", json=BODY | fields),
    ):
        text = detail(answer, 422)
        assert sorted(each.partition(":")[0] for each in text.split("; ")) == wrong
    assert not asked.calls


def test_what_is_missing_is_named(http):
    assert detail(http.post("/runs/crons", json={}), 422) == (
        "assistant_id: is required; schedule: is required"
    )


def test_a_change_has_what_is_to_be_changed(http, asked):
    body = {"end_time": None, "input": None, "metadata": {"a": 1}, "assistant_id": 5}
    assert http.patch(PATH, json=body).status_code == 200
    assert asked.calls == [
        (
            "patch",
            (CRON,),
            {
                "end_time": None,
                "metadata": {"a": 1},
                "payload": {"input": None},
                "filters": None,
            },
        )
    ]


@pytest.mark.parametrize("body", [{}, {"assistant_id": "x"}, {"unknown": 1}])
def test_a_change_of_nothing_is_refused(http, body):
    assert detail(http.patch(PATH, json=body), 422) == "the body must change something of the cron"


@pytest.mark.parametrize("body", [{"schedule": "0 0 31 2 *"}, {"enabled": None}, {"config": 5}])
def test_a_wrong_change_is_refused(http, asked, body):
    assert detail(http.patch(PATH, json=body), 422).startswith(next(iter(body)))
    assert not asked.calls


def test_one_is_deleted(http, asked):
    answer = http.delete(PATH)
    assert (answer.status_code, answer.data) == (204, b"")
    assert asked.calls == [("delete", (CRON, None), {})]


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (CronNotFound(CRON), 404, f"cron {CRON} not found"),
        (CronBusy(CRON), 409, f"cron {CRON} is changed by others at the same time"),
    ],
)
def test_what_goes_wrong_has_its_status(http, asked, error, status, text):
    asked.answer = error
    assert detail(http.get(PATH), status) == text


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_an_id_is_a_uuid(http, method):
    assert detail(getattr(http, method)("/runs/crons/x"), 422) == "cron_id: must be a UUID"


def test_a_search_is_answered_with_a_page(http, asked):
    asked.answer = ([dict.fromkeys(PUBLIC, 1)], 12)
    body = {
        "assistant_id": CRON,
        "thread_id": CRON,
        "enabled": True,
        "metadata": {"a": 1},
        "limit": 1,
        "offset": 3,
        "sort_by": "next_run_date",
        "sort_order": "asc",
    }
    answer = http.post("/runs/crons/search", json=body)
    assert answer.json == [dict.fromkeys(PUBLIC, 1)]
    assert asked.calls == [("search", (CronQuery(**body),), {})]
    assert answer.headers["X-Pagination-Total"] == "12"
    assert answer.headers["X-Pagination-Next"] == "4"


def test_a_search_has_what_is_selected(http, asked):
    asked.answer = ([dict.fromkeys(PUBLIC, 1)], 1)
    answer = http.post("/runs/crons/search", json={"select": ["schedule", "now", "cron_id"]})
    (found,) = answer.json
    assert list(found) == ["cron_id", "schedule", "now"]
    assert "X-Pagination-Next" not in answer.headers


def test_a_count_is_a_number(http, asked):
    asked.answer = 7
    answer = http.post("/runs/crons/count", json={"enabled": False})
    assert answer.json == 7
    assert asked.calls == [("count", (CronQuery(enabled=False),), {})]


@pytest.mark.parametrize(
    "body",
    [
        {"assistant_id": "echo"},
        {"thread_id": "x"},
        {"enabled": 1},
        {"metadata": []},
        {"limit": 0},
        {"limit": 1001},
        {"offset": -1},
        {"sort_by": "schedule"},
        {"sort_order": "up"},
        {"select": ["x"]},
    ],
)
def test_a_wrong_search_is_refused(http, asked, body):
    assert detail(http.post("/runs/crons/search", json=body), 422).startswith(next(iter(body)))
    assert not asked.calls
