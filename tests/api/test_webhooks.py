"""The views of webhooks that were given up."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from runwait.api import errors, request, webhooks
from runwait.storage.outbox import DeadLetter

RUN = "00000000-0000-0000-0000-00000000000a"
LETTER = DeadLetter(
    run_id=RUN,
    url="http://a.example/hook",
    attempts=3,
    error="the answer was 500",
    created=datetime(2026, 1, 2, tzinfo=UTC),
    died=datetime(2026, 1, 3, tzinfo=UTC),
)


class Letters:
    """Takes the place of the outbox."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def dead(self, limit: int, offset: int) -> list[DeadLetter]:
        self.asked.append((limit, offset))
        return [LETTER]

    def retry(self, run_id: str) -> bool:
        return run_id == RUN


@pytest.fixture
def outbox() -> Letters:
    return Letters()


@pytest.fixture
def http(outbox: Letters) -> FlaskClient:
    app = Flask("webhooks")
    app.extensions["runwait"] = SimpleNamespace(access=None, service=SimpleNamespace(outbox=outbox))
    app.register_blueprint(webhooks.blueprint)
    errors.register(app)
    request.register(app)
    return app.test_client()


def test_they_are_listed_by_the_page(http: FlaskClient, outbox: Letters) -> None:
    expected = {
        "run_id": RUN,
        "url": "http://a.example/hook",
        "attempts": 3,
        "error": "the answer was 500",
        "created_at": "2026-01-02T00:00:00+00:00",
        "died_at": "2026-01-03T00:00:00+00:00",
    }
    assert http.get("/webhooks/dead").json == [expected]
    http.get("/webhooks/dead?limit=2&offset=4")
    assert outbox.asked == [(10, 0), (2, 4)]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "offset=-1", "limit=1001"])
def test_a_page_that_is_none_is_refused(http: FlaskClient, query: str) -> None:
    answer = http.get(f"/webhooks/dead?{query}")
    assert answer.status_code == 422
    assert query.partition("=")[0] in answer.json["detail"]


def test_one_is_tried_again(http: FlaskClient) -> None:
    assert http.post(f"/webhooks/dead/{RUN.upper()}/retry").status_code == 204


def test_one_that_is_not_there_is_not_found(http: FlaskClient) -> None:
    other = RUN.replace("a", "b")
    answer = http.post(f"/webhooks/dead/{other}/retry")
    assert answer.status_code == 404
    assert answer.json == {"detail": f"no webhook of run {other} is to be delivered"}
    assert http.post("/webhooks/dead/x/retry").status_code == 422
