"""The log's lines."""

from __future__ import annotations

import io
import json
import logging
import logging.config

import pytest

from runwait import logs
from runwait.settings import Settings


@pytest.fixture
def line():
    """Logs a warning as a graph does, and returns the line."""
    stream = io.StringIO()
    configured = logs.config_for(Settings(log_format="json"))
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    assert configured["handlers"]["stderr"]["filters"] == ["ids"]
    handler.addFilter(
        logging.config.DictConfigurator(configured).configure_filter(configured["filters"]["ids"])
    )
    logger = logging.Logger("mine")
    logger.addHandler(handler)

    def log(**extra):
        logger.warning("said", extra=extra)
        return json.loads(stream.getvalue().splitlines()[-1])

    return log


def test_a_line_has_the_ids_of_what_is_worked_on(line):
    token = logs.about.set({"request_id": "q", "run_id": "r"})
    try:
        found = line()
        assert (found["request_id"], found["run_id"], found["message"]) == ("q", "r", "said")
        assert line(request_id="its own")["request_id"] == "its own"
    finally:
        logs.about.reset(token)
    assert not {"request_id", "run_id"} & line().keys()
