"""Who starts the runs of crons that are due, and which."""

from __future__ import annotations

import queue
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from runwait.crons.crons import at, ids_of, milliseconds
from runwait.crons.scheduler import LATE_MS, Scheduler
from runwait.graphs.assistants import Assistant, AssistantNotFound, UnknownGraph
from runwait.runs.observer import LogLines
from runwait.runs.permission import Permission
from runwait.runs.request import RunRequest
from runwait.settings import Settings
from runwait.storage.connection import Storage
from runwait.storage.crons import CronNotFound, CronQuery, CronRecord, CronRecords, Due
from runwait.storage.records import RunRecord, RunRecords
from tests.servers import PATIENCE, RedisServer


class Noted(LogLines):
    """Hears of the runs that are started."""

    def __init__(self) -> None:
        super().__init__()
        self.started: queue.SimpleQueue[tuple[RunRecord, int]] = queue.SimpleQueue()

    def cron_started(self, cron_id: str, record: RunRecord, *, late: float, missed: int) -> None:
        assert late >= 0
        self.started.put((record, missed))

    @property
    def all(self) -> list[tuple[RunRecord, int]]:
        return [self.started.get_nowait() for _ in range(self.started.qsize())]


class World:
    """Processes that share a Redis."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.storage = Storage(server.url, 2)
        self.storage.start()
        self.noted = Noted()
        self.crons = self.records("test")
        self.resolve: Callable[[str], Assistant] = Assistant.of_graph

    def records(self, process: str) -> CronRecords:
        return CronRecords(self.storage, "test", RunRecords(self.storage, "test", process, 300))

    def process(self, name: str = "one") -> Scheduler:
        assistants: Any = type("Assistants", (), {"resolve": lambda _, each: self.resolve(each)})()
        threads: Any = None
        permission = Permission(None, threads)
        records = self.records(name)
        return Scheduler(Settings(), records, assistants, threads, self.noted, permission)

    def now(self) -> int:
        return self.crons.now()

    def create(self, number: int = 1, **given: Any) -> CronRecord:
        """A yearly cron of the graph's own assistant."""
        fields = {
            "assistant_id": Assistant.of_graph("g").assistant_id,
            "graph_id": "g",
            "schedule": "@yearly",
            "on_run_completed": "delete",
        }
        cron = CronRecord(cron_id=str(UUID(int=number)), **fields | given)
        self.crons.create(cron, of_system=True)
        return self.get(number)

    def get(self, number: int = 1) -> CronRecord:
        return self.crons.get(str(UUID(int=number)))

    def year(self, before: int = 0) -> int:
        """When this year began, or one before."""
        return milliseconds(datetime(at(self.now()).year - before, 1, 1, tzinfo=UTC))


@pytest.fixture
def world(shared_valkey: RedisServer) -> World:
    return World(shared_valkey)


def test_starts_the_run_of_a_cron_that_is_due(world):
    cron = world.create(
        next=world.year(), metadata={"m": 1}, payload={"input": 5, "stream_mode": "updates"}
    )
    pause = world.process().start_all()
    ((run, missed),) = world.noted.all
    assert (run.run_id, run.thread_id) == ids_of(cron, cron.next)
    assert (run.graph_id, run.kwargs["input"], run.kwargs["stream_mode"]) == ("g", 5, ["updates"])
    assert run.metadata["cron_id"] == cron.cron_id
    assert (run.metadata["m"], missed) == (1, 0)
    assert world.get().next == world.year(-1)
    assert 0 < pause <= 366 * 86_400


def test_a_run_is_that_of_who_made_the_cron(world):
    user = {"identity": "ada", "permissions": ["admin"], "org": "x"}
    world.create(next=world.year(), user=user)
    world.process().start_all()
    ((run, _),) = world.noted.all
    request = RunRequest.restored(run)
    assert request.user == user
    assert request.graph_config(run)["configurable"]["langgraph_auth_permissions"] == ["admin"]


def test_of_what_was_missed_the_latest_is_started_and_the_others_are_counted(world):
    cron = world.create(next=world.year(before=5))
    world.process().start_all()
    ((run, missed),) = world.noted.all
    assert run.run_id == ids_of(cron, world.year())[0]
    assert missed == 5
    found = world.get()
    assert (found.missed_runs, found.next) == (5, world.year(-1))


def test_what_a_change_of_clocks_skipped_is_counted_once(world):
    # Half past two, after the clock went from two to three.
    world.create(schedule="30 2 * * *", timezone="Europe/Berlin", next=1774746000000)
    world.process().start_all()
    ((_, missed),) = world.noted.all
    assert missed > 200
    assert world.get().missed_runs == missed


def test_one_that_was_paused_after_it_looked_changes_nothing(world):
    cron = world.create(next=world.year(before=2))
    paused = world.process("paused")
    look = paused._records.due

    def looks_and_is_paused(place: float) -> Due:
        found = look(place)
        paused._records.due = look
        world.process("other").start_all()
        return found

    paused._records.due = looks_and_is_paused
    paused.start_all()
    assert len(world.noted.all) == 1
    assert world.get().missed_runs == 2
    claimed, _ = RunRecords(world.storage, "test", "x", 300).claim(15.0)
    assert claimed.record.run_id == ids_of(cron, world.year())[0]
    assert RunRecords(world.storage, "test", "x", 300).claim(15.0)[0] is None


def test_one_that_dies_after_it_looked_loses_nothing(world):
    world.create(next=world.year())
    dying = world.process("dying")
    dying._records.due(0.0)
    world.process("other").start_all()
    assert len(world.noted.all) == 1


def test_one_that_cannot_be_read_holds_up_no_other(world, caplog):
    world.create(1, next=world.year())
    world.create(2, next=world.year())
    world.server.client.hset(f"{{test}}:cron:{UUID(int=1)}", "record", '{"schedule": 5}')
    assert 0 < world.process().start_all() <= 60.1
    assert len(world.noted.all) == 1
    assert str(UUID(int=1)) in caplog.text


def test_one_whose_graph_this_process_lacks_is_left_to_who_claims_the_run(world):
    def lacks(assistant_id: str) -> Assistant:
        raise UnknownGraph(assistant_id)

    world.resolve = lacks
    world.create(1, next=world.year(), graph_id="new", assistant_id="mine")
    world.process().start_all()
    ((run, _),) = world.noted.all
    assert (run.graph_id, run.assistant_id) == ("new", "mine")


def test_goes_with_an_assistant_that_is_gone(world):
    def is_gone(assistant_id: str) -> Assistant:
        raise AssistantNotFound(assistant_id)

    world.resolve = is_gone
    world.create(1, next=world.year(), assistant_id="mine")
    world.process().start_all()
    assert not world.noted.all
    with pytest.raises(CronNotFound):
        world.get()


def test_after_its_end_no_run_is_started(world):
    end = world.year(before=2)
    world.create(next=world.year(before=4), end_time=end)
    world.process().start_all()
    assert not world.noted.all
    found = world.get()
    # At the end itself it was still due.
    assert (found.missed_runs, found.next) == (3, None)


def test_a_time_just_before_the_end_is_started_although_a_little_late(world):
    now = world.now()
    world.create(schedule="* * * * * *", next=now - 500, end_time=now - 400)
    world.process().start_all()
    assert len(world.noted.all) == (world.now() - now < LATE_MS - 400)
    assert world.get().next is None


def test_the_thread_is_woken_for_what_is_due_earlier(world):
    process = world.process()
    process.start()
    try:
        world.create(next=world.year())
        process.wake()
        assert world.noted.started.get(timeout=PATIENCE)
    finally:
        process.stop()


def test_many_at_once_are_all_started_by_whichever_processes(world):
    for number in range(50):
        world.create(number, next=world.year())
    processes = [world.process(str(number)) for number in range(3)]
    for each in processes:
        each.start()
    try:
        started = [world.noted.started.get(timeout=PATIENCE)[0].run_id for _ in range(50)]
    finally:
        for each in processes:
            each.stop()
    assert len(set(started)) == 50
    assert world.crons.count(CronQuery()) == 50
    assert not world.noted.all
