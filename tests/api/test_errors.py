"""Every error is answered with a status and `{"detail": "<string>"}`."""

from __future__ import annotations

import logging

import pytest
from flask import Flask

from runwait.api import errors
from runwait.api.errors import BodyTooLarge, BrokenRequest, InvalidRequest
from runwait.graphs.assistants import AssistantNotFound, UnknownGraph
from runwait.runs.admission import ConflictingRequest, UnfitRequest
from runwait.runs.events import NoRoom, RunNotFound
from runwait.storage.connection import StorageUnavailable
from runwait.storage.threads import ThreadBusy
from runwait.webhooks.targets import WebhookRefused


@pytest.fixture
def app() -> Flask:
    """An app with one path, where something is raised."""
    app = Flask("errors", static_folder=None)
    errors.register(app)
    return app


def raising(app: Flask, error: BaseException):
    @app.get("/")
    def view():
        raise error

    return app.test_client().get("/")


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (BrokenRequest("the body breaks off"), 400, "the body breaks off"),
        (ConflictingRequest("a and b"), 400, "a and b"),
        (AssistantNotFound("assistant x not found"), 404, "assistant x not found"),
        (RunNotFound("x"), 404, "run x not found"),
        (BodyTooLarge("too large"), 413, "too large"),
        (InvalidRequest("config.tags: must be"), 422, "config.tags: must be"),
        (UnknownGraph("one of: a, b"), 422, "one of: a, b"),
        (UnfitRequest("command.goto: no {such} node"), 422, "command.goto: no {such} node"),
        (WebhookRefused("must be public"), 422, "webhook: must be public"),
        (ThreadBusy("t"), 409, "thread t is busy"),
        (NoRoom("full"), 503, "full"),
        (StorageUnavailable("Redis is away"), 503, "Redis is away"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_of_the_service_has_its_status_and_text(app, error, status, detail):
    response = raising(app, error)
    assert (response.status_code, response.json) == (status, {"detail": detail})
    assert response.headers.get("Retry-After") == ("1" if status == 503 else None)


def test_an_unknown_path_is_not_found(app):
    response = app.test_client().get("/nope")
    assert (response.status_code, response.json) == (404, {"detail": "Not Found"})


def test_a_wrong_method_is_told_the_right_ones(app):
    app.add_url_rule("/", view_func=str, methods=["PUT"], provide_automatic_options=False)
    response = app.test_client().get("/")
    assert (response.status_code, response.json) == (405, {"detail": "Method Not Allowed"})
    assert response.headers["Allow"] == "PUT"


def test_a_host_that_is_none_is_refused(app):
    response = app.test_client().get("/", headers={"Host": "a..b"})
    assert (response.status_code, response.json) == (400, {"detail": "Host: must be a host name"})


def test_a_fault_says_no_more_than_that_and_is_logged_with_its_traceback(app, caplog):
    with caplog.at_level(logging.ERROR):
        response = raising(app, ZeroDivisionError("secret"))
    assert response.status_code == 500
    assert response.json == {"detail": "a fault in the service; its log says more"}
    (record,) = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_problems_are_one_line():
    found = [("config.tags", "must be a list of strings"), ("webhook", "must be a string")]
    assert errors.problems(found) == (
        "config.tags: must be a list of strings; webhook: must be a string"
    )
