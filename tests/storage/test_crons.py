"""Crons in Redis: what the scripts promise, on a real server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from runwait.graphs.assistants import Assistant
from runwait.storage import crons as storage_crons
from runwait.storage.assistants import AssistantRecords
from runwait.storage.connection import Storage
from runwait.storage.crons import (
    SORTS,
    AssistantGone,
    CronNotFound,
    CronQuery,
    CronRecord,
    CronRecords,
    Start,
    ThreadGone,
)
from runwait.storage.records import NewThread, RunRecord, RunRecords, RunStatus
from runwait.storage.threads import ThreadRecords
from tests.servers import RedisServer

HOUR = 3_600_000
THREAD = NewThread({}, [], None)


@pytest.fixture
def storage(redis_server: RedisServer) -> Storage:
    storage = Storage(redis_server.url, 1)
    storage.start()
    return storage


def crons_of(storage: Storage, process: str = "one") -> CronRecords:
    return CronRecords(storage, "test", RunRecords(storage, "test", process, 300))


@pytest.fixture
def crons(storage: Storage) -> CronRecords:
    return crons_of(storage)


def create(crons: CronRecords, number: int = 1, **given: Any) -> CronRecord:
    """A cron that has been due for long, unless it is said when."""
    fields = {"assistant_id": "a", "graph_id": "g", "schedule": "* * * * *", "next": 1000} | given
    cron = CronRecord(cron_id=str(UUID(int=number)), **fields)
    crons.create(cron, of_system=True)
    return crons.get(cron.cron_id)


def a_run(run_id: str = "r1", thread_id: str = "t1", strategy: str = "enqueue") -> RunRecord:
    return RunRecord(
        run_id=run_id,
        thread_id=thread_id,
        assistant_id="a",
        graph_id="g",
        status=RunStatus.RUNNING,
        metadata={},
        kwargs={},
        multitask_strategy=strategy,
    )


def start(crons: CronRecords, cron: CronRecord, run: RunRecord | None = None, **given: Any) -> Any:
    options = {"next": 2000} | given
    thread = None if cron.thread_id is None else THREAD
    (became,) = crons.start([Start(cron, run or a_run(), thread, **options)], 15.0)
    return became


def due(crons: CronRecords) -> list[str]:
    return [cron_id for cron_id, _ in crons.due(0.0).crons]


def test_is_read_as_it_was_made(crons: CronRecords) -> None:
    made = create(
        crons,
        timezone="Europe/Berlin",
        end_time=5000,
        payload={"input": {"ü": [1.5, None]}},
        metadata={"who": "me"},
        user={"identity": "ada", "permissions": ["x"]},
        on_run_completed="keep",
    )
    found = crons.get(made.cron_id)
    assert found == made
    assert found.public() == {
        "cron_id": made.cron_id,
        "assistant_id": "a",
        "thread_id": None,
        "user_id": "ada",
        "schedule": "* * * * *",
        "timezone": "Europe/Berlin",
        "end_time": "1970-01-01T00:00:05.000000+00:00",
        "payload": {
            "assistant_id": "a",
            "input": {"ü": [1.5, None]},
            "metadata": {"who": "me"},
        },
        "next_run_date": "1970-01-01T00:00:01.000000+00:00",
        "metadata": {"who": "me"},
        "on_run_completed": "keep",
        "enabled": True,
        "created_at": found.public()["created_at"],
        "updated_at": found.public()["created_at"],
        "missed_runs": 0,
    }


def test_one_that_is_not_there_is_not_found(crons: CronRecords) -> None:
    with pytest.raises(CronNotFound):
        crons.get("x")
    with pytest.raises(CronNotFound):
        crons.delete("x")
    with pytest.raises(CronNotFound):
        crons.change(CronRecord(cron_id="x", assistant_id="", graph_id="", schedule=""), timed=True)


def test_needs_its_thread_and_a_users_assistant(crons: CronRecords, storage: Storage) -> None:
    with pytest.raises(ThreadGone):
        create(crons, thread_id="t1")
    cron = CronRecord(cron_id="x", assistant_id="a", graph_id="g", schedule="")
    with pytest.raises(AssistantGone):
        crons.create(cron, of_system=False)
    assert crons.count(CronQuery()) == 0
    assert not due(crons)


def test_a_change_of_what_was_changed_meanwhile_is_not_made(crons: CronRecords) -> None:
    cron = create(crons, metadata={"a": 1})
    assert crons.change(replace(cron, metadata={"b": 1}, next=HOUR), timed=True)
    assert not crons.change(replace(cron, metadata={"c": 1}), timed=True)
    found = crons.get(cron.cron_id)
    assert (found.metadata, found.next) == ({"b": 1}, HOUR)
    assert crons.count(CronQuery(metadata={"a": 1})) == 0
    assert crons.count(CronQuery(metadata={"b": 1})) == 1


def test_a_change_of_something_else_leaves_the_time(crons: CronRecords) -> None:
    cron = create(crons)
    assert start(crons, cron) == "pending"
    assert crons.change(replace(cron, payload={"input": 1}), timed=False)
    assert crons.get(cron.cron_id).next == 2000


def test_each_time_starts_one_run_whoever_tries(crons: CronRecords, storage: Storage) -> None:
    cron = create(crons)
    assert start(crons, cron) == "pending"
    # Another process, and this one with another run, which read it when it was due, too.
    assert start(crons_of(storage, "two"), cron) == "over"
    assert start(crons, cron, a_run("r2")) == "over"
    claimed, _ = RunRecords(storage, "test", "two", 300).claim(15.0)
    assert claimed is not None
    assert claimed.record.run_id == "r1"
    assert RunRecords(storage, "test", "two", 300).claim(15.0)[0] is None
    assert crons.get(cron.cron_id).next == 2000


def test_a_start_sent_twice_is_the_same_as_one(crons: CronRecords) -> None:
    cron = create(crons)
    assert start(crons, cron, missed=2) == "pending"
    assert start(crons, cron, missed=2) == "pending"
    assert crons.get(cron.cron_id).missed_runs == 2


def test_a_time_whose_run_is_there_already_starts_no_second(
    crons: CronRecords, storage: Storage, redis_server: RedisServer
) -> None:
    # Redis lost what was written last, and has the cron due again.
    cron = create(crons)
    start(crons, cron)
    claimed, _ = RunRecords(storage, "test", "two", 300).claim(15.0)
    assert claimed is not None
    redis_server.client.hset(f"{{test}}:cron:{cron.cron_id}", mapping={"next": 1000})
    redis_server.client.hdel(f"{{test}}:cron:{cron.cron_id}", "last_run")
    assert start(crons_of(storage, "two"), cron) == "pending"
    assert RunRecords(storage, "test", "two", 300).claim(15.0)[0] is None


def test_what_is_wrong_with_one_holds_up_no_other(
    crons: CronRecords, storage: Storage, redis_server: RedisServer
) -> None:
    made = [create(crons, number) for number in (1, 2, 3)]
    redis_server.client.set("{test}:run:r2", "no hash")
    starts = [Start(each, a_run(f"r{n}"), None, next=2000) for n, each in enumerate(made, 1)]
    assert crons.start(starts, 15.0) == ["pending", "fault", "pending"]
    assert [crons.get(each.cron_id).next for each in made] == [2000, 1000, 2000]


@pytest.mark.parametrize("changed", ["schedule", "disabled", "deleted"])
def test_one_that_was_changed_meanwhile_is_not_started(crons: CronRecords, changed: str) -> None:
    cron = create(crons)
    if changed == "deleted":
        crons.delete(cron.cron_id)
    else:
        after = None if changed == "disabled" else HOUR
        crons.change(replace(cron, next=after), timed=True)
    assert start(crons, cron) == "over"


def test_is_not_started_before_its_time(crons: CronRecords) -> None:
    cron = create(crons, next=crons.now() + HOUR)
    assert start(crons, cron) == "over"


def test_after_the_last_time_none_is_due(crons: CronRecords) -> None:
    cron = create(crons)
    assert start(crons, cron, next=None) == "pending"
    assert crons.get(cron.cron_id).next is None
    assert crons.due(0.5).seconds is None


def test_times_that_start_no_run_are_counted(crons: CronRecords) -> None:
    cron = create(crons)
    assert start(crons, cron, missed=3, none=True) == "missed"
    found = crons.get(cron.cron_id)
    assert (found.missed_runs, found.next) == (4, 2000)


def test_of_what_is_due_every_process_begins_elsewhere(
    crons: CronRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_crons, "_DUE_MOST", 30)
    ids = [create(crons, number).cron_id for number in range(120)]
    found = [[cron_id for cron_id, _ in crons.due(place).crons] for place in (0.0, 0.999)]
    assert found == [ids[:30], ids[-30:]]
    assert crons.due(0.3).seconds == 0


def test_large_ones_are_read_one_after_the_other(crons: CronRecords) -> None:
    for number in range(3):
        create(crons, number, payload={"input": "x" * 100_000})
    assert len(due(crons)) == 1


def test_says_when_the_next_is_due(crons: CronRecords) -> None:
    assert crons.due(0.0).seconds is None
    create(crons, next=crons.now() + HOUR)
    found = crons.due(0.0)
    assert not found.crons
    assert found.seconds is not None
    assert 3000 < found.seconds <= 3600


def test_all_processes_are_told_of_one_that_is_due_first(
    crons: CronRecords, redis_server: RedisServer
) -> None:
    listener = redis_server.client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe("{test}:told:all")
    listener.get_message(timeout=10)
    create(crons, 1, next=crons.now() + HOUR)
    create(crons, 2, next=crons.now() + 2 * HOUR)
    told = listener.get_message(timeout=10)
    assert told is not None
    assert told["data"] == b"cron"
    assert listener.get_message(timeout=0.01) is None


def test_one_that_cannot_be_started_is_looked_at_later(crons: CronRecords) -> None:
    cron = create(crons)
    crons.put_off(cron.cron_id, 3600.0)
    assert not due(crons)
    assert crons.get(cron.cron_id).next == 1000
    crons.delete(cron.cron_id)
    crons.put_off(cron.cron_id, 3600.0)
    assert crons.due(0.0).seconds is None


def test_one_whose_record_redis_dropped_is_forgotten(
    crons: CronRecords, redis_server: RedisServer
) -> None:
    cron = create(crons)
    redis_server.client.delete(f"{{test}}:cron:{cron.cron_id}")
    assert not due(crons)
    assert crons.due(0.0).seconds is None


# On a thread.


def on_thread(crons: CronRecords, storage: Storage, **given: Any) -> CronRecord:
    ThreadRecords(storage, "test", None).create("t1", {})
    return create(crons, thread_id="t1", **given)


def again(crons: CronRecords, cron: CronRecord, run_id: str, strategy: str = "enqueue") -> Any:
    """Start the run of the next time, which has come."""
    return start(crons, crons.get(cron.cron_id), a_run(run_id, strategy=strategy), next=3000)


def started(crons: CronRecords, cron: CronRecord) -> Any:
    """Start a run on a thread that nobody ran yet: it gets the graph's ids."""
    verdict = start(crons, cron)
    assert verdict.kind == "metadata"
    return start(crons, cron, seen_metadata=verdict.metadata)


def test_on_a_busy_thread_one_run_waits_and_the_others_are_counted(
    crons: CronRecords, storage: Storage
) -> None:
    cron = on_thread(crons, storage)
    assert started(crons, cron) == "pending"
    runs = RunRecords(storage, "test", "two", 300)
    claimed, _ = runs.claim(15.0)
    assert claimed is not None
    assert [again(crons, cron, each) for each in ("r2", "r3")] == ["pending", "waiting"]
    assert crons.get(cron.cron_id).missed_runs == 1
    assert [each.run_id for each in runs.of_thread("t1", 10, 0, None) or ()] == ["r2", "r1"]


def test_with_reject_a_busy_thread_has_no_run_started(crons: CronRecords, storage: Storage) -> None:
    cron = on_thread(crons, storage)
    started(crons, cron)
    assert again(crons, cron, "r2", "reject") == "busy"
    found = crons.get(cron.cron_id)
    assert (found.missed_runs, found.next) == (1, 3000)


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
def test_with_interrupt_or_rollback_the_run_before_is_stopped(
    crons: CronRecords, storage: Storage, strategy: str
) -> None:
    cron = on_thread(crons, storage)
    started(crons, cron)
    runs = RunRecords(storage, "test", "two", 300)
    claimed, _ = runs.claim(15.0)
    assert claimed is not None
    assert again(crons, cron, "r2", strategy) == "pending"
    beat = runs.beat([("r1", claimed.token)], 15.0)
    assert beat.cancelled == [("r1", strategy)]


def test_goes_with_its_thread(crons: CronRecords, storage: Storage) -> None:
    cron = on_thread(crons, storage)
    other = create(crons, 2)
    ThreadRecords(storage, "test", None).delete("t1")
    with pytest.raises(CronNotFound):
        crons.get(cron.cron_id)
    assert due(crons) == [other.cron_id]
    assert crons.count(CronQuery(thread_id="t1")) == 0


def test_goes_with_a_thread_that_redis_dropped(
    crons: CronRecords, storage: Storage, redis_server: RedisServer
) -> None:
    cron = on_thread(crons, storage)
    redis_server.client.delete("{test}:thread:t1")
    assert start(crons, cron) == "missing"
    assert crons.count(CronQuery()) == 0


def test_a_thread_with_a_cron_does_not_expire_before_its_last_run(
    crons: CronRecords, storage: Storage, redis_server: RedisServer
) -> None:
    threads = ThreadRecords(storage, "test", 3600)
    cron = on_thread(crons, storage, next=crons.now() + HOUR)
    redis_server.client.zadd("{test}:threads:expiry", {"t1": 1})
    threads.sweep()
    assert threads.get("t1")
    crons.change(replace(crons.get(cron.cron_id), next=None), timed=True)
    redis_server.client.zadd("{test}:threads:expiry", {"t1": 1})
    threads.sweep()
    assert crons.count(CronQuery()) == 0


def test_a_thread_that_has_expired_has_no_new_cron(
    crons: CronRecords, storage: Storage, redis_server: RedisServer
) -> None:
    ThreadRecords(storage, "test", 3600).create("t1", {})
    redis_server.client.zadd("{test}:threads:expiry", {"t1": 1})
    with pytest.raises(ThreadGone):
        create(crons, thread_id="t1")


def test_goes_with_its_assistant(crons: CronRecords, storage: Storage) -> None:
    cron = create(crons, assistant_id="mine")
    other = create(crons, 2)
    assistants = AssistantRecords(storage, "test")
    assistants.create(Assistant("mine", "g"))
    assert assistants.delete("mine")
    with pytest.raises(CronNotFound):
        crons.get(cron.cron_id)
    assert due(crons) == [other.cron_id]


# Searches.


def found(crons: CronRecords, **query: Any) -> list[int]:
    return [UUID(each.cron_id).int for each in crons.search(CronQuery(**query))[0]]


def test_finds_what_is_asked_for(crons: CronRecords, storage: Storage) -> None:
    ThreadRecords(storage, "test", None).create("t1", {})
    create(crons, 1, metadata={"a": {"b": 1}, "l": [1, 2]})
    create(crons, 2, assistant_id="b", metadata={"a": {"b": 1}})
    create(crons, 3, thread_id="t1", enabled=False)
    queries: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [3, 2, 1]),
        ({"assistant_id": "a"}, [3, 1]),
        ({"thread_id": "t1"}, [3]),
        ({"enabled": True}, [2, 1]),
        ({"enabled": False}, [3]),
        ({"metadata": {"a": {"b": 1}}}, [2, 1]),
        ({"metadata": {"l": [2]}}, [1]),
        ({"assistant_id": "a", "metadata": {"a": {"b": 1}}, "enabled": True}, [1]),
        ({"thread_id": "t2"}, []),
    ]
    for query, expected in queries:
        assert sorted(found(crons, **query), reverse=True) == expected
        assert crons.count(CronQuery(**query)) == len(expected)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort_by", SORTS)
def test_sorts_by_each_field_with_those_that_lack_it_last(
    crons: CronRecords, storage: Storage, sort_by: str, order: str
) -> None:
    threads = ThreadRecords(storage, "test", None)
    for number, thread in ((1, "t9"), (2, "t10"), (3, None)):
        if thread is not None:
            threads.create(thread, {})
        create(
            crons,
            number,
            thread_id=thread,
            assistant_id=f"a{number}",
            end_time=None if thread is None else number * 9999,
            next=None if thread is None else number * 9999,
        )
    up = {"thread_id": [2, 1]}.get(sort_by, [1, 2])
    expected = up if order == "asc" else up[::-1]
    if sort_by in ("thread_id", "end_time", "next_run_date"):
        expected = [*expected, 3]
    else:
        expected = [*expected, 3] if order == "asc" else [3, *expected]
    assert found(crons, sort_by=sort_by, sort_order=order) == expected


def test_a_page_is_a_part_of_all(crons: CronRecords) -> None:
    for number in range(1, 6):
        create(crons, number)
    query = CronQuery(limit=2, offset=1, sort_by="cron_id", sort_order="asc")
    page, total = crons.search(query)
    assert ([UUID(each.cron_id).int for each in page], total) == ([2, 3], 5)
