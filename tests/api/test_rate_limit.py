"""A caller that asks too often is told when to come again; nobody else is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from flask import Flask, g, request
from flask.testing import FlaskClient

from runwait.api import rate_limit
from runwait.auth.user import User
from runwait.storage.connection import Storage
from runwait.storage.limits import Counters
from tests.servers import RedisServer, eventually

Process = Callable[[str], FlaskClient]


@pytest.fixture
def process(shared_valkey: RedisServer) -> Iterator[Process]:
    """Another process of one service, with such a limit."""
    prefix = str(uuid4())

    def start(limit: str) -> FlaskClient:
        storage = Storage(shared_valkey.url, 1, prefix)
        storage.start()
        app = Flask("limited")

        @app.before_request
        def authenticate() -> None:
            if name := request.headers.get("user"):
                g.caller = User({"identity": name})

        rate_limit.register(app, limit, Counters(storage, prefix))
        app.add_url_rule("/threads", "threads", view_func=lambda: "fine")
        app.add_url_rule("/ok", "ok", view_func=lambda: "fine")
        return app.test_client()

    yield start


def statuses(http: FlaskClient, number: int, user: str = "", path: str = "/threads") -> list[int]:
    headers = {"user": user} if user else {}
    return [http.get(path, headers=headers).status_code for _ in range(number)]


def test_all_processes_together_let_a_caller_ask_so_often(process):
    one, other = process("3/hour"), process("3/hour")
    assert statuses(one, 2, "ada") + statuses(other, 2, "ada") == [200, 200, 200, 429]
    answer = one.get("/threads", headers={"user": "ada"})
    assert answer.json == {"detail": "more requests than 3 per 1 hour"}
    assert 3500 < int(answer.headers["Retry-After"]) <= 3600
    assert statuses(one, 3, "bob") == [200, 200, 200]
    assert statuses(one, 5, "ada", "/ok") == [200] * 5


def test_who_is_not_known_is_told_by_the_address(process):
    http = process("1/hour")
    assert statuses(http, 2) == [200, 429]
    other = http.get("/threads", environ_base={"REMOTE_ADDR": "10.0.0.9"})
    assert other.status_code == 200


def test_several_limits_all_count(process):
    http = process("100/minute; 2 per day")
    assert statuses(http, 3, "ada") == [200, 200, 429]


def test_it_ends_with_its_window(process):
    http = process("1/second")
    assert statuses(http, 1, "ada") == [200]
    eventually(lambda: statuses(http, 1, "ada") == [200])


def test_nobody_is_held_up_where_redis_is_away():
    app = Flask("limited")
    rate_limit.register(app, "1/hour", Counters(Storage("redis://127.0.0.1:1", 1), "away"))
    app.add_url_rule("/threads", "threads", view_func=lambda: "fine")
    assert statuses(app.test_client(), 3) == [200, 200, 200]
