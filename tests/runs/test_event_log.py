"""The one thread that logs events: order, ends, faults."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from runwait.runs import event_log as module
from runwait.runs.event_log import EventLog
from runwait.runs.events import Event
from runwait.runs.request import RunRequest
from runwait.runs.run import Run
from runwait.storage.connection import StorageUnavailable
from runwait.storage.events import Batch, EventRecords
from tests.runs.records import a_record
from tests.servers import PATIENCE


class Redis:
    """Takes what it is given while it is open, and tells what it took."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.away = False
        self.refused: set[str] = set()
        self.calls: list[list[tuple[str, list[str]]]] = []

    def append(self, batches: Iterable[Batch]) -> list[bool]:
        assert self.open.wait(PATIENCE)
        if self.away:
            raise StorageUnavailable("away")
        sent = [(each.run_id, [event.name for event in each.events]) for each in batches]
        self.calls.append(sent)
        return [run_id not in self.refused for run_id, _ in sent]


class Logged:
    """Who is told what was logged."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def __call__(self, run_id: str, events: Sequence[Event]) -> None:
        self.events += [(run_id, each.name) for each in events]


@pytest.fixture
def redis() -> Iterator[Redis]:
    redis = Redis()
    yield redis
    redis.open.set()


@pytest.fixture
def told() -> Logged:
    return Logged()


@pytest.fixture
def log(redis: Redis, told: Logged) -> EventLog:
    log = EventLog(cast(EventRecords, redis), told)
    log.start()
    return log


def a_run(run_id: str = "r") -> Run:
    record = a_record(run_id)
    return Run(record, RunRequest(assistant_id="g", request_id=""), token=7, logged=True)


def events(run: Run, *names: str) -> list[Event]:
    ids: Any = run.next_ids(len(names))
    return [Event(name, b"{}", at) for name, at in zip(names, ids, strict=True)]


def test_events_are_told_of_once_they_are_logged_in_order(log, redis, told):
    run = a_run()
    log.append(run, events(run, "a", "b"))
    log.append(run, events(run, "c"))
    log.flush(run)
    assert told.events == [("r", "a"), ("r", "b"), ("r", "c")]


def test_what_comes_while_a_call_is_under_way_goes_with_the_next(log, redis, told):
    run, other = a_run(), a_run("s")
    redis.open.clear()
    for number in range(10):
        log.append(run, events(run, str(number)))
        log.append(other, events(other, str(number)))
    redis.open.set()
    log.flush(run)
    log.flush(other)
    assert len(redis.calls) <= 3
    assert [name for run_id, name in told.events if run_id == "s"] == list(map(str, range(10)))


def test_nothing_is_told_of_a_run_that_is_no_longer_its_own(log, redis, told):
    run = a_run()
    redis.refused = {"r"}
    log.append(run, events(run, "a"))
    log.flush(run)
    assert told.events == []


def test_while_redis_is_away_events_wait_and_a_flush_says_so(log, redis, told):
    run = a_run()
    redis.away = True
    log.append(run, events(run, "a"))
    with pytest.raises(StorageUnavailable):
        log.flush(run)
    log.append(run, events(run, "b"))
    redis.away = False
    while run in log._waiting:
        try:
            log.flush(run)
        except StorageUnavailable:
            continue
    assert told.events == [("r", "a"), ("r", "b")]


def test_more_than_may_wait_is_refused(log, redis, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 1)
    run = a_run()
    redis.away = True
    log.append(run, events(run, "a"))
    with pytest.raises(StorageUnavailable):
        log.flush(run)
    with pytest.raises(StorageUnavailable):
        log.check_room()


def test_no_call_is_larger_than_it_has_to_be(log, redis, monkeypatch):
    monkeypatch.setattr(module, "CALL_BYTES", 4)
    run = a_run()
    redis.open.clear()
    log.append(run, events(run, "first"))
    log.append(run, events(run, *"abcd"))
    redis.open.set()
    log.flush(run)
    assert max(len(names) for call in redis.calls for _, names in call) <= 2


def test_what_is_dropped_is_not_logged(log, redis, told):
    run, other = a_run(), a_run("s")
    redis.open.clear()
    log.append(other, events(other, "a"))
    log.append(run, events(run, "a"))
    log.drop(run)
    redis.open.set()
    log.flush(other)
    log.flush(run)
    assert [name for run_id, name in told.events if run_id == "s"] == ["a"]


def test_who_waits_for_what_is_dropped_waits_no_more(log, redis):
    run = a_run()
    redis.open.clear()
    log.append(run, events(run, "a"))
    with ThreadPoolExecutor(1) as pool:
        flushed = pool.submit(log.flush, run)
        log.drop(run)
        try:
            flushed.result(PATIENCE)
        finally:
            redis.open.set()
