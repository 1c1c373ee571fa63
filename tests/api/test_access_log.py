"""One line in the log for each request."""

from __future__ import annotations

import logging

import pytest
from flask import Flask, g

from runwait.api import access_log, errors


@pytest.fixture
def app() -> Flask:
    """An app whose requests are logged."""
    app = Flask("log", static_folder=None)
    errors.register(app)
    access_log.register(app)

    @app.get("/ok")
    def ok():
        return "fine"

    @app.post("/run")
    def run():
        g.thread_id, g.run_id = "t", "r"
        return iter(["a", "b"]), 201

    return app


@pytest.fixture
def logged(app, caplog):
    """Asks for a path, and returns the line about it."""
    caplog.set_level(logging.DEBUG, "runwait.requests")

    def ask(path: str, method: str = "GET", **headers: str) -> logging.LogRecord:
        caplog.clear()
        app.test_client().open(path, method=method, headers=headers, buffered=True)
        (record,) = (each for each in caplog.records if each.getMessage() == "request")
        return record

    return ask


def test_a_line_says_what_was_asked_and_answered(logged):
    record = logged("/run?secret=1", "POST", **{"X-Request-ID": "mine"})
    assert (record.method, record.path, record.status) == ("POST", "/run", 201)
    assert (record.request_id, record.thread_id, record.run_id) == ("mine", "t", "r")
    assert record.duration_ms >= 0
    assert record.levelname == "INFO"


def test_a_request_without_a_run_has_no_ids_of_one(logged):
    record = logged("/nope")
    assert record.status == 404
    assert not hasattr(record, "run_id")
    assert record.request_id


def test_a_wrong_host_is_logged_too(logged):
    assert logged("/run", Host="a..b").status == 400


def test_what_load_balancers_ask_is_for_debugging_only(logged):
    assert logged("/ok").levelname == "DEBUG"


@pytest.mark.parametrize("path", ["/%0aforged", "/%1b%5b31m", "/%c2%9b", "/%ff", "/%00"])
def test_a_path_is_plain_text_whatever_was_sent(logged, path):
    record = logged(path)
    assert record.path.isascii()
    assert record.path.isprintable()
