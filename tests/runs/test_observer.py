"""What is logged of runs: one line at the end of each, with all that somebody may search for."""

from __future__ import annotations

import logging

import pytest

from runwait.runs import ending
from runwait.runs.observer import LogLines
from runwait.runs.request import RunRequest
from runwait.runs.run import Run
from runwait.runs.watch import Block
from tests.runs.records import a_record

RECORD = a_record()


@pytest.fixture
def run() -> Run:
    """A run at its second attempt."""
    return Run(RECORD, RunRequest(assistant_id="a", request_id="q"), attempt=2)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Has all lines."""
    caplog.set_level(logging.DEBUG, "runwait.runs")
    return caplog


@pytest.mark.parametrize("stands", [True, False])
def test_an_end_is_one_line_with_all_ids(run, log, stands):
    LogLines().finished(run, ending.succeeded({}), None, stands=stands)
    (line,) = log.records
    assert line.levelname == "INFO"
    assert line.message == ("run ended" if stands else "run ended elsewhere")
    found = {name: getattr(line, name) for name in ("run_id", "thread_id", "graph", "request_id")}
    assert found == {"run_id": "r", "thread_id": "t", "graph": "g", "request_id": "q"}
    assert line.status == "success"
    assert line.duration_ms >= 0


def test_an_end_by_an_error_is_a_warning_with_its_traceback(run, log):
    error = ValueError("no")
    LogLines().finished(run, ending.failed(error), error, stands=True)
    (line,) = log.records
    assert (line.levelname, line.error) == ("WARNING", "ValueError")
    assert line.exc_info[1] is error


def test_other_transitions_have_a_line_each(run, log):
    observer = LogLines()
    observer.started(run)
    observer.claimed(run)
    observer.postponed(RECORD)
    observer.left(run, ValueError("gone"))
    observer.handed_back(run)
    assert [(line.levelname, line.getMessage()) for line in log.records] == [
        ("DEBUG", "run started"),
        ("INFO", "run taken"),
        ("WARNING", "run r is left to a process that has the graph 'g'"),
        ("WARNING", "run r goes on elsewhere: gone"),
        ("INFO", "run handed back"),
    ]


def test_a_node_that_keeps_the_loop_is_warned_of_once(log):
    observer = LogLines()
    for number, node in enumerate(["slow", "slow", "other"], 1):
        observer.blocked(Block(number, "g", node, f"r{number}", "  the stack"))
    first, second, third = log.records
    assert [line.levelname for line in log.records] == ["WARNING", "DEBUG", "WARNING"]
    assert "'slow'" in first.message
    assert "'g'" in first.message
    assert first.message.endswith(":\n  the stack")
    assert (second.run_id, second.blocks) == ("r2", 2)
    assert "'other'" in third.message
