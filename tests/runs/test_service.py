"""What the service makes of what its parts say."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any, cast

import pytest

from runwait.options.webhooks import WebhookOptions
from runwait.runs import ending
from runwait.runs.admission import Candidate
from runwait.runs.events import NoRoom, RunNotFound
from runwait.runs.executor import Execution, Job
from runwait.runs.protocol.events import PROTOCOL
from runwait.runs.request import RunRequest
from runwait.runs.run import Run
from runwait.runs.service import Service
from runwait.settings import Settings
from runwait.storage.connection import StorageUnavailable
from runwait.storage.outbox import NewWebhook
from runwait.storage.records import RunRecord, Verdict
from runwait.webhooks.targets import WebhookRules
from tests.runs.records import a_record


@pytest.mark.parametrize(
    ("removed", "cancelled", "outcome"),
    [
        ([True], None, None),
        ([None], None, RunNotFound),
        ([False, True], True, None),
        # It ended by itself, just before it was to be cancelled.
        ([False, True], False, None),
        ([False, None], False, RunNotFound),
        # It went with its end: nobody is to have its result.
        ([False, None], True, None),
        ([False, False], True, StorageUnavailable),
    ],
)
def test_a_run_is_deleted_whatever_it_does_meanwhile(monkeypatch, removed, cancelled, outcome):
    service = Service(Settings(), {})
    answers = iter(removed)
    monkeypatch.setattr(service._records, "remove", lambda thread_id, run_id: next(answers))

    def cancel(thread_id: str, run_id: str, action: str, *, wait: bool) -> None:
        assert wait
        if not cancelled:
            raise RunNotFound(run_id)

    monkeypatch.setattr(service, "cancel", cancel)
    if outcome is None:
        service.delete("t", "r")
    else:
        with pytest.raises(outcome):
            service.delete("t", "r")
    assert list(answers) == []


@pytest.mark.parametrize("redis_is_away", [False, True])
def test_a_run_that_ends_while_its_start_is_recorded_is_recorded_as_ended(
    monkeypatch, redis_is_away
):
    # Where RESULT_TTL_SECONDS is 0, an end leaves nothing that says that it was.
    service = Service(Settings(), {})
    runner, recorded = service._runner, []
    record = a_record()
    run = Run(record, RunRequest(assistant_id="g", request_id=""))

    def admit(*args: Any, **kwargs: Any) -> Verdict:
        runner.finish(run, ending.succeeded({}))
        recorded.append("start")
        if redis_is_away:
            raise StorageUnavailable("perhaps it was taken")
        return Verdict("running", token=7)

    def finish(*args: Any, token: int | None, **kwargs: Any) -> bool:
        recorded.append(f"end with {token}")
        return True

    monkeypatch.setattr(service._records, "admit", admit)
    monkeypatch.setattr(service._records, "finish", finish)
    runner.record_start(run)
    if redis_is_away:
        runner.record_ends()
    token = None if redis_is_away else 7
    assert recorded == ["end with None", "start", f"end with {token}"]
    assert runner.get("r") is None


@pytest.mark.parametrize("stops", [True, False])
def test_a_run_that_is_stopped_ends_once_its_graph_has_stored_what_it_told_of(monkeypatch, stops):
    service = Service(Settings(), {})
    runner, ends, timers = service._runner, [], []
    request = RunRequest(
        assistant_id="g", request_id="", stream_mode=[PROTOCOL], stream_resumable=True
    )
    run = Run(a_record(), request, token=7, has_thread=False)
    execution = run.execution = Execution(cast(Job, None), lambda *_: None, values={"n": 1})

    def finish(record: RunRecord, document: bytes, *, events: Any, **kwargs: Any) -> bool:
        ends.append((json.loads(document), [(name, json.loads(data)) for name, data in events]))
        return True

    monkeypatch.setattr(service._records, "finish", finish)
    monkeypatch.setattr(service._executor, "stop", lambda _: None)
    monkeypatch.setattr(service._executor, "help", lambda work: work())
    monkeypatch.setattr(service.timers, "after", lambda _, action: timers.append(action))
    monkeypatch.setattr(runner, "values_of", lambda record: {"n": 3})
    runner.cancel(run)
    execution.values = {"n": 2}
    assert ends == []
    (late,) = timers
    returned = partial(runner._returned, run, execution, asyncio.CancelledError())
    for each in (returned, late) if stops else (late, returned):
        each()
    # Its client is given the last values; a page, what the thread has.
    ((document, events),) = ends
    assert document == {"n": 2}
    assert events == [("values", {"n": 3}), ("end", {"run_id": "r", "status": "interrupted"})]


def test_who_waits_for_a_run_that_is_cancelled_is_answered_before_its_graph_stops(monkeypatch):
    service = Service(Settings(), {})
    runner, ends = service._runner, []
    run = Run(a_record(), RunRequest(assistant_id="g", request_id=""), token=7, has_thread=False)
    run.execution = Execution(cast(Job, None), lambda *_: None, values={"n": 1})

    def finish(record: RunRecord, document: bytes, **kwargs: Any) -> bool:
        ends.append(json.loads(document))
        return True

    monkeypatch.setattr(service._records, "finish", finish)
    monkeypatch.setattr(service._executor, "stop", lambda _: None)
    monkeypatch.setattr(service._executor, "help", lambda work: work())
    runner.cancel(run)
    assert ends == [{"n": 1}]


@pytest.mark.parametrize("off", [False, True])
def test_where_webhooks_are_off_no_end_is_told_however_it_was_accepted(monkeypatch, off):
    service = Service(Settings(), {}, webhooks=WebhookOptions(WebhookRules(off=off)))
    told = []

    def finish(*args: Any, webhook: NewWebhook | None, **kwargs: Any) -> bool:
        told.append(webhook is not None)
        return True

    monkeypatch.setattr(service._records, "finish", finish)
    request = RunRequest(assistant_id="g", request_id="", webhook="https://a.example")
    service._runner.finish_lost(Run(a_record(), request))
    assert told == [not off]


@pytest.mark.parametrize("place", ["is free again", "is taken", "is free again, and perhaps used"])
def test_a_run_has_the_place_that_the_worker_had_while_it_found_no_redis(monkeypatch, place):
    service = Service(Settings(run_concurrency=1), {})
    executor, started = service._runner._executor, []
    assert executor.reserve()  # as the worker does before it claims a run

    def admit(*args: Any, **kwargs: Any) -> Verdict:
        if place != "is taken":
            executor.release()
        error = StorageUnavailable("no Redis")
        # What may be in Redis must not be executed here too.
        error.doubtful = place.endswith("used")
        raise error

    monkeypatch.setattr(service._records, "admit", admit)
    monkeypatch.setattr(service._runner, "start_run", started.append)
    candidate = Candidate(a_record(), RunRequest(assistant_id="g", request_id=""), None)
    if place == "is free again":
        assert service._admission.admit(candidate, followed=True) is started[0]
    else:
        with pytest.raises(NoRoom, match="places to execute"):
            service._admission.admit(candidate, followed=True)
        assert started == []
