"""Runs in Redis: what the scripts promise, on a real server."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from runwait.storage import records as records_module
from runwait.storage.connection import Storage, StorageUnavailable, _in_time
from runwait.storage.outbox import Outbox
from runwait.storage.records import (
    IdempotencyKey,
    NewThread,
    Queue,
    RunRecord,
    RunRecords,
    RunStatus,
    ThreadEnd,
    Verdict,
)
from runwait.storage.threads import ThreadBusy, ThreadRecords
from tests.servers import RedisServer, eventually

LEASE = 15.0


@pytest.fixture
def storage(redis_server: RedisServer) -> Storage:
    storage = Storage(redis_server.url, 1)
    storage.start()
    return storage


def records_of(storage: Storage, process: str = "one", ttl: float = 300) -> RunRecords:
    return RunRecords(storage, "test", process, ttl)


def create(
    records: RunRecords, record: RunRecord | None = None, lease: float = LEASE
) -> int | None:
    return records.admit(record or a_run(), lease, may_start=True).token


def a_run(run_id: str = "r1") -> RunRecord:
    return RunRecord(
        run_id=run_id,
        thread_id="t1",
        assistant_id="a1",
        graph_id="g",
        status=RunStatus.RUNNING,
        metadata={"who": "ü"},
        kwargs={"input": {"a": [1, None]}},
    )


def test_a_record_is_read_as_it_was_created(storage):
    records = records_of(storage)
    created = a_run()
    assert create(records, created)
    stored = records_of(storage, "two").read("r1")
    assert stored.record == created
    assert stored.document is None


def test_an_unknown_run_is_none(storage):
    assert records_of(storage).read("nope") is None


def listening(server: RedisServer, *channels: str) -> Any:
    """A client that is told of what is sent to channels from now on."""
    listener = server.client.pubsub()
    listener.subscribe(*channels)
    for _ in set(channels):
        assert eventually(lambda: listener.get_message(timeout=1))["type"] == "subscribe"
    return listener


def ended(run_id: str = "r1", status: RunStatus = RunStatus.SUCCESS) -> RunRecord:
    return a_run(run_id).moved_to(status)


def test_a_finished_run_has_its_document_for_the_time_to_live(storage, redis_server):
    records = records_of(storage, ttl=300)
    token = create(records)
    assert records.finish(ended(), b'{"x":1}', token=token)
    stored = records.read("r1")
    assert stored.document == b'{"x":1}'
    assert stored.record.status is RunStatus.SUCCESS
    for key in redis_server.client.keys("*r1*"):
        assert 290_000 < redis_server.client.pttl(key) <= 300_000
    assert redis_server.client.zcard("{test}:leases") == 0


def test_a_run_on_a_thread_of_its_own_has_the_thread_while_it_executes(storage, redis_server):
    records = records_of(storage)
    token = create(records)
    assert redis_server.client.hget("{test}:thread:t1", "temporary") == b"r1"
    records.finish(ended(), b"1", token=token)
    assert not redis_server.client.exists("{test}:thread:t1")


def test_a_create_sent_twice_gives_the_same_token(storage):
    records = records_of(storage)
    assert create(records) == create(records)


def test_a_finish_sent_twice_is_the_same_as_one(storage):
    records = records_of(storage)
    token = create(records)
    assert records.finish(ended(), b"1", token=token)
    assert records.finish(ended(), b"1", token=token)


def test_a_finish_before_the_token_is_known_is_the_same_as_one_after(storage):
    records = records_of(storage)
    token = create(records)
    assert records.finish(ended(), b"1", token=token)
    assert records.finish(ended(), b"1")


def test_a_finish_after_the_token_is_known_is_the_same_as_one_before(storage):
    records = records_of(storage)
    token = create(records)
    assert records.finish(ended(), b"1")
    assert records.finish(ended(), b"1", token=token)


def test_the_first_end_stands_against_another_process(storage):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    token = create(one)
    assert one.finish(ended(), b'"first"', token=token)
    assert not two.finish(ended(status=RunStatus.ERROR), b'"second"', token=token)
    assert one.read("r1").document == b'"first"'


def test_a_create_that_arrives_after_the_end_changes_nothing(storage, redis_server):
    records = records_of(storage)
    records.finish(ended(), b"1")
    assert records.admit(a_run(), LEASE, may_start=True).kind == "ended"
    assert records.read("r1").record.status is RunStatus.SUCCESS
    assert redis_server.client.zcard("{test}:leases") == 0


def test_a_run_that_was_never_created_is_recorded_by_its_end(storage):
    records = records_of(storage)
    assert records.finish(ended(), b"1")
    assert records.read("r1").document == b"1"


def test_an_owner_that_was_never_told_its_token_may_end_its_run_and_no_other_process(storage):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    create(one)
    assert not two.finish(ended(), b'"two"')
    assert one.finish(ended(), b'"one"')


def test_without_a_time_to_live_nothing_is_left_where_nobody_waits(storage, redis_server):
    records = records_of(storage, ttl=0)
    token = create(records)
    assert records.finish(ended(), b"1", token=token)
    assert redis_server.client.keys("*1*") == []


def test_without_a_time_to_live_the_result_stays_until_every_waiting_process_has_read_it(
    storage, redis_server
):
    one = records_of(storage, "one", ttl=0)
    two, three = records_of(storage, "two", ttl=0), records_of(storage, "three", ttl=0)
    token = create(one)
    assert two.read("r1", follow=True).document is None
    assert three.read("r1", follow=True).document is None
    one.finish(ended(), b"1", token=token)
    assert one.read("r1", follow=True).once
    assert two.read("r1", follow=True).document == b"1"
    assert three.read("r1", follow=True).document == b"1"
    assert redis_server.client.keys("*r1*") == []


def test_a_waiting_process_is_told_of_the_end_on_its_channel_and_no_other(storage, redis_server):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    token = create(one)
    listener = listening(redis_server, *one.channels, *two.channels)
    two.read("r1", follow=True)
    one.finish(ended(), b"1", token=token)
    message = eventually(lambda: listener.get_message(timeout=1))
    assert (message["channel"].decode(), message["data"]) == (two.channels[0], b"ended r1")
    assert listener.get_message() is None


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_a_cancel_is_told_to_the_owner_and_found_in_its_next_beat(storage, redis_server, action):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    token = create(one)
    listener = listening(redis_server, one.channels[0])
    assert two.cancel(["r1"], action) == 1
    told = eventually(lambda: listener.get_message(timeout=1))["data"]
    assert told == f"cancel r1 {action}".encode()
    assert one.beat([("r1", token)], LEASE).cancelled == [("r1", action)]


def test_a_cancel_of_what_ended_or_never_was_changes_nothing(storage, redis_server):
    records = records_of(storage)
    records.finish(ended(), b"1")
    assert records.cancel(["r1", "nope"], "interrupt") == 0
    assert redis_server.client.hget("{test}:run:r1", "cancel") is None
    assert not redis_server.client.exists("{test}:run:nope")


def test_a_beat_renews_leases_and_names_runs_that_redis_lost(storage, redis_server):
    records = records_of(storage)
    token = create(records, a_run("r1"), 1.0)
    before = redis_server.client.zscore("{test}:leases", "r1")
    beat = records.beat([("r1", token), ("r2", 5)], LEASE)
    assert beat.missing == ["r2"]
    assert redis_server.client.zscore("{test}:leases", "r1") > before + 10_000


def let_lease_lapse(redis_server: RedisServer, run_id: str) -> None:
    redis_server.client.zadd("{test}:leases", {run_id: 1})
    now = round(time.time() * 1000)
    redis_server.client.hset("{test}:beat", mapping={"quiet_until": 1, "at": now})


def test_a_lapsed_lease_is_taken_only_after_a_lease_of_steady_beats(storage, redis_server):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    token = create(one)
    redis_server.client.zadd("{test}:leases", {"r1": 1})
    two.beat([], LEASE)  # the first beat ever: who knows how long Redis was away
    assert two.claim(LEASE)[0] is None
    two.beat([], LEASE)
    assert two.claim(LEASE)[0] is None
    let_lease_lapse(redis_server, "r1")
    assert two.beat([], LEASE).recovered == 1
    assert two.beat([], LEASE).recovered == 0
    claim, _ = two.claim(LEASE)
    assert (claim.record, claim.attempt, claim.kept) == (
        replace(a_run(), updated_at=claim.record.updated_at, created_at=claim.record.created_at),
        2,
        False,
    )
    assert claim.token > token


def test_a_pause_in_all_beats_puts_off_the_taking_of_lapsed_leases(storage, redis_server):
    records = records_of(storage)
    create(records)
    let_lease_lapse(redis_server, "r1")
    long_ago = round(time.time() * 1000) - round(LEASE * 1000)
    redis_server.client.hset("{test}:beat", mapping={"quiet_until": 1, "at": long_ago})
    records.beat([], LEASE)
    assert records.claim(LEASE)[0] is None


def test_who_lost_a_run_learns_it_from_its_beat_and_cannot_end_it(storage, redis_server):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    token = create(one)
    let_lease_lapse(redis_server, "r1")
    two.beat([], LEASE)
    # Free, and not yet taken: it is not the first process's any more.
    assert one.beat([("r1", token)], LEASE).lost == ["r1"]
    claim, _ = two.claim(LEASE)
    assert one.beat([("r1", token)], LEASE).lost == ["r1"]
    assert not one.finish(ended(), b'"late"', token=token)
    assert two.finish(ended(), b'"right"', token=claim.token)
    assert one.read("r1").document == b'"right"'


def lose(redis_server: RedisServer, two: RunRecords) -> Any:
    """Has `two` take a run whose process it takes for dead."""
    let_lease_lapse(redis_server, "r1")
    two.beat([], LEASE)
    claim, _ = two.claim(LEASE)
    return claim


def test_who_lost_a_run_that_another_ended_does_not_take_it_for_one_that_redis_lost(
    storage, redis_server
):
    one, two = records_of(storage, "one", ttl=0), records_of(storage, "two", ttl=0)
    token = create(one)
    claim = lose(redis_server, two)
    assert two.finish(ended(), b'"right"', token=claim.token)
    # Clients may still wait where it was lost.
    assert one.read("r1", follow=True).document == b'"right"'
    assert one.read("r1", follow=True) is None
    assert not one.finish(ended(), b'"late"', token=token)
    beat = one.beat([("r1", token)], LEASE)
    assert (beat.lost, beat.missing) == (["r1"], [])
    assert one.read("r1") is None


def test_who_lost_a_run_that_another_ended_and_that_was_removed_does_not_bring_it_back(
    storage, redis_server
):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    token = admit(one).token
    claim = lose(redis_server, two)
    assert two.finish(ended(), b"{}", token=claim.token, thread=ThreadEnd("idle"))
    assert two.remove("t1", "r1") is True
    # The client that waits where it was lost has its answer; after that there is none any more.
    assert one.read("r1", follow=True).document == b"{}"
    error = ThreadEnd("error", {"error": "E", "message": ""})
    assert not one.finish(ended(), b"{}", token=token, thread=error)
    assert admit(one, missing="again").kind == "missing"
    assert one.read("r1", follow=True) is None
    assert thread_of(redis_server)["status"] == "idle"
    assert two.of_thread("t1", 10, 0, None) == []


def test_what_is_undone_elsewhere_is_told_to_who_lost_the_run(storage, redis_server):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    create(one)
    claim = lose(redis_server, two)
    assert two.finish(ended(), b"{}", token=claim.token, undone=True)
    assert two.read("r1") is None
    assert one.read("r1", follow=True).document == b"{}"


def test_who_takes_a_run_need_not_be_told_of_its_end(storage, redis_server):
    one = records_of(storage, "one")
    one.admit(a_run(), LEASE, may_start=False)
    claim, _ = one.claim(LEASE)
    assert one.finish(ended(), b"{}", token=claim.token, undone=True)
    assert one.read("r1", follow=True) is None


def test_only_cancelled_runs_are_taken_where_there_is_no_place(storage):
    records = records_of(storage)
    for run_id in ("r1", "r2"):
        records.admit(a_run(run_id), LEASE, may_start=False)
    assert records.claim(LEASE, cancelled=True) == (None, None)
    records.cancel(["r2"], "interrupt")
    claim, _ = records.claim(LEASE, cancelled=True)
    assert (claim.record.run_id, claim.cancel) == ("r2", "interrupt")
    assert records.claim(LEASE, cancelled=True) == (None, None)
    claim, _ = records.claim(LEASE)
    assert claim.record.run_id == "r1"


@pytest.mark.parametrize("how", ["lapse", "hand back"])
def test_a_cancelled_run_that_comes_free_goes_before_what_waits_for_a_place(
    storage, redis_server, how
):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    token = create(one)
    two.admit(a_run("r2"), LEASE, may_start=False)
    two.cancel(["r1"], "interrupt")
    if how == "lapse":
        let_lease_lapse(redis_server, "r1")
        two.beat([], LEASE)
    else:
        one.hand_back([("r1", token)])
    claim, _ = two.claim(LEASE, cancelled=True)
    assert (claim.record.run_id, claim.cancel) == ("r1", "interrupt")


KEY = IdempotencyKey("a key", "a request", 60.0)


def test_an_idempotency_key_lives_as_long_as_its_run_and_then_its_time(storage, redis_server):
    records = records_of(storage)
    token = records.admit(a_run(), LEASE, may_start=True, key=KEY).token
    [name] = redis_server.client.keys("*idempotency*")
    assert redis_server.client.pttl(name) == -1
    assert records.repeated(KEY).kind == "in flight"
    records.finish(ended(), b"1", token=token)
    assert 50_000 < redis_server.client.pttl(name) <= 60_000
    assert records.repeated(KEY).document == b"1"


def test_the_key_of_a_run_that_redis_lost_is_free(storage, redis_server):
    records = records_of(storage)
    records.admit(a_run(), LEASE, may_start=True, key=KEY)
    redis_server.client.delete("{test}:run:r1")
    assert records.repeated(KEY) is None
    assert records.admit(a_run("r2"), LEASE, may_start=True, key=KEY).kind == "running"
    assert records.repeated(KEY).run_id == "r2"


def test_a_run_answers_for_its_own_key_alone(storage, redis_server):
    records = records_of(storage)
    token = records.admit(a_run(), LEASE, may_start=True, key=KEY).token
    [name] = redis_server.client.keys("*idempotency*")
    redis_server.client.delete(name)
    records.admit(a_run("r2"), LEASE, may_start=True, key=KEY)
    records.finish(ended(), b'"of the first"', token=token)
    records.withdraw(a_run())
    assert records.repeated(KEY).kind == "in flight"


def test_what_is_taken_in_too_late_is_not_taken_in(storage, redis_server):
    seconds, micro = redis_server.client.time()
    late = seconds * 1000 + micro // 1000 - 1
    run = "{test}:run:r1"
    with pytest.raises(StorageUnavailable, match="LATE"):
        storage.call(
            _in_time(records_module._ADMIT.text),
            [run, run],
            [
                "{test}",
                "r1",
                "t1",
                15000,
                "one",
                "{}",
                "",
                "enqueue",
                1,
                0,
                "",
                0,
                "{}",
                *[""] * 5,
                late,
            ],
        )
    assert not redis_server.client.exists(run)


def test_a_clock_that_was_set_keeps_nothing_out(storage):
    records = records_of(storage)
    # As Redis's clock was before it was set forward.
    storage.clock = (0, time.monotonic())
    assert create(records)
    assert create(records, a_run("r2"))


def test_a_run_that_is_handed_back_is_ready_at_once_and_loses_no_attempt(storage):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    token = create(one)
    one.hand_back([("r1", token)])
    one.hand_back([("r1", token)])
    claim, _ = two.claim(LEASE)
    assert (claim.record.run_id, claim.attempt, claim.losses) == ("r1", 2, 0)
    assert claim.stops == 1
    assert two.claim(LEASE) == (None, None)


def test_a_run_that_cannot_go_on_is_taken_later_and_has_an_attempt_less(storage, redis_server):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    token = create(one)
    for _ in range(2):  # as when the first answer was lost
        one.hand_back([("r1", token)], pause=60, counts=True)
    claim, due = two.claim(LEASE)
    assert claim is None
    assert 50 < due <= 60
    redis_server.client.zadd("{test}:ready", {"r1": 1})
    claim, _ = two.claim(LEASE)
    assert (claim.record.run_id, claim.attempt, claim.losses) == ("r1", 2, 1)


@pytest.mark.parametrize("strategy", ["enqueue", "reject", "interrupt"])
def test_a_run_whose_record_alone_is_gone_keeps_its_turn(storage, redis_server, strategy):
    records = records_of(storage)
    admit(records, strategy=strategy)
    admit(records, "r2")
    redis_server.client.delete("{test}:run:r1", "{test}:leases")
    again = admit(records, strategy=strategy, missing="again")
    assert again.kind == "running"
    assert records.claim(LEASE) == (None, None)
    records.finish(ended(), b"1", token=again.token, thread=ThreadEnd("idle"))
    claim, _ = records.claim(LEASE)
    assert (claim.record.run_id, claim.cancel) == ("r2", None)


def test_a_run_that_is_recorded_again_has_no_attempt_more(storage, redis_server):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    token = one.admit(a_run("r1"), LEASE, may_start=True, losses=2).token
    one.hand_back([("r1", token)], counts=True)
    claim, _ = two.claim(LEASE)
    assert claim.losses == 3


def test_a_run_that_is_postponed_is_taken_later_and_loses_no_attempt(storage, redis_server):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    token = create(one)
    assert one.postpone("r1", token, pause=60, longest=600)
    assert one.postpone("r1", token, pause=60, longest=600)  # as when the first answer was lost
    claim, due = two.claim(LEASE)
    assert claim is None
    assert 50 < due <= 60
    redis_server.client.zadd("{test}:ready", {"r1": 1})
    claim, _ = two.claim(LEASE)
    assert (claim.attempt, claim.losses, claim.stops) == (1, 0, 0)
    # Who had it before can do nothing with it.
    assert not one.postpone("r1", token, pause=0, longest=600)
    assert two.beat([("r1", claim.token)], LEASE).lost == []


def test_a_run_is_postponed_only_for_so_long_without_a_break(storage, redis_server):
    records = records_of(storage, "one")

    def postpone(token: int, *, first: float | None = None) -> bool:
        if first is not None:
            since = round((time.time() - first) * 1000)
            redis_server.client.hset("{test}:run:r1", "postponed_since", since)
        return records.postpone("r1", token, pause=0, longest=600)

    def claim() -> int:
        found, _ = records.claim(LEASE)
        assert found is not None
        return found.token

    assert postpone(create(records))
    assert postpone(claim(), first=500)
    token = claim()
    assert not postpone(token, first=700)
    # Somebody else has it for a while, so that it starts again.
    records.hand_back([("r1", token)])
    assert postpone(claim())
    assert records.finish(ended(), b"{}", token=claim())
    assert records.read("r1").record.status == RunStatus.SUCCESS


# Runs on kept threads


def admit(records: RunRecords, run_id: str = "r1", **options: Any) -> Any:
    strategy = options.pop("strategy", "enqueue")
    options = {"may_start": True, **options}
    thread = NewThread({"n": 1}, ["n=1"], None)
    record = replace(a_run(run_id), multitask_strategy=strategy)
    return records.admit(record, LEASE, thread=thread, **options)


def thread_of(redis_server: RedisServer) -> dict[str, str]:
    found = redis_server.client.hgetall("{test}:thread:t1")
    return {name.decode(): value.decode("utf-8", "replace") for name, value in found.items()}


def test_a_run_on_a_thread_makes_it_busy_and_its_end_makes_it_idle(storage, redis_server):
    records = records_of(storage)
    admission = admit(records)
    assert admission.kind == "running"
    assert thread_of(redis_server)["status"] == "busy"
    assert thread_of(redis_server)["active"] == "r1"
    assert records.finish(ended(), b"1", token=admission.token, thread=ThreadEnd("idle"))
    assert thread_of(redis_server)["status"] == "idle"
    assert "active" not in thread_of(redis_server)
    assert redis_server.client.pttl("{test}:run:r1") == -1
    assert records.read("r1").kept


def test_a_run_does_not_bring_back_a_thread_that_expired(storage, redis_server):
    records = records_of(storage)
    threads = ThreadRecords(storage, "test", None)
    threads.create("t1", {"n": 1}, ttl=60_000)
    redis_server.client.zadd("{test}:threads:expiry", {"t1": 1})
    assert admit(records, missing="reject").kind == "missing"
    assert [each.thread_id for each in threads.sweep()[0]] == ["t1"]


def test_the_runs_of_a_thread_that_expired_are_not_listed(storage, redis_server):
    records = records_of(storage)
    ThreadRecords(storage, "test", None).create("t1", {}, ttl=60_000)
    assert records.of_thread("t1", 10, 0, None) == []
    redis_server.client.zadd("{test}:threads:expiry", {"t1": 1})
    assert records.of_thread("t1", 10, 0, None) is None


def test_a_run_makes_a_thread_that_is_pruned_where_the_service_has_it_so(storage, redis_server):
    records = records_of(storage)
    thread = NewThread({"n": 1}, ["n=1"], 600_000, prunes=True)
    token = records.admit(a_run(), LEASE, thread=thread, may_start=True).token
    assert redis_server.client.zscore("{test}:threads:pruning", "t1") is None
    records.finish(ended(), b"1", token=token, thread=ThreadEnd("idle"))
    assert redis_server.client.zscore("{test}:threads:pruning", "t1") is not None
    assert redis_server.client.zscore("{test}:threads:expiry", "t1") is None


def test_a_failed_run_leaves_its_error_on_the_thread_until_the_next_end(storage, redis_server):
    records = records_of(storage)
    error = {"error": "ValueError", "message": "no"}
    first = admit(records)
    end = ended(status=RunStatus.ERROR)
    records.finish(end, b"1", token=first.token, thread=ThreadEnd("error", error))
    assert thread_of(redis_server)["status"] == "error"
    assert thread_of(redis_server)["error"] == '{"error": "ValueError", "message": "no"}'
    assert records.read("r1").error == error
    second = admit(records, "r2")
    records.finish(ended("r2"), b"1", token=second.token, thread=ThreadEnd("idle"))
    assert "error" not in thread_of(redis_server)


def test_an_end_may_leave_the_thread_as_it_was_before_the_run(storage, redis_server):
    records = records_of(storage)
    first = admit(records)
    records.finish(ended(), b"1", token=first.token, thread=ThreadEnd("interrupted"))
    second = admit(records, "r2")
    records.finish(ended("r2"), b"1", token=second.token, thread=ThreadEnd())
    assert thread_of(redis_server)["status"] == "interrupted"


def test_runs_wait_for_their_thread_in_the_order_of_their_arrival(storage, redis_server):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    token = admit(one, "r1").token
    for n in range(2, 6):
        assert admit((one, two)[n % 2], f"r{n}").kind == "pending"
    assert one.claim(LEASE) == (None, None)
    for n in range(1, 5):
        one.finish(ended(f"r{n}"), b"1", token=token, thread=ThreadEnd("idle"))
        assert thread_of(redis_server)["status"] == "busy"
        claim, _ = one.claim(LEASE)
        assert claim.record.run_id == f"r{n + 1}"
        assert claim.token > token
        assert two.claim(LEASE) == (None, None)
        token = claim.token
    one.finish(ended("r5"), b"1", token=token, thread=ThreadEnd("idle"))
    assert thread_of(redis_server)["status"] == "idle"
    assert redis_server.client.zcard("{test}:queued") == 0


def test_a_busy_thread_is_refused_to_who_does_not_want_to_wait(storage, redis_server):
    records = records_of(storage)
    admit(records)
    assert admit(records, "r2", strategy="reject").kind == "busy"
    assert records.read("r2") is None


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
def test_a_strategy_stops_the_run_that_has_the_thread_and_those_that_wait(
    storage, redis_server, strategy
):
    records = records_of(storage)
    token = admit(records).token
    admit(records, "r2")
    assert admit(records, "r3", strategy=strategy).kind == "pending"
    assert records.beat([("r1", token)], LEASE).cancelled == [("r1", strategy)]
    claim, _ = records.claim(LEASE)
    assert (claim.record.run_id, claim.cancel) == ("r2", strategy)
    undone = strategy == "rollback"
    end = {"undone": undone, "thread": ThreadEnd("interrupted")}
    records.finish(ended("r2"), b"{}", token=claim.token, **end)
    assert thread_of(redis_server)["active"] == "r1"
    records.finish(ended("r1"), b"{}", token=token, **end)
    claim, _ = records.claim(LEASE)
    assert (claim.record.run_id, claim.cancel) == ("r3", None)
    listed = [each.run_id for each in records.of_thread("t1", 10, 0, None)]
    assert listed == (["r3"] if undone else ["r3", "r2", "r1"])


@pytest.mark.parametrize("before", ["idle", "interrupted"])
def test_a_run_that_is_to_come_makes_its_thread_busy_until_it_has_been(
    storage, redis_server, before
):
    records = records_of(storage)
    threads = ThreadRecords(storage, "test", None)
    threads.create("t1", {"n": 1}, status=None if before == "idle" else before)
    for _ in range(2):  # as when the first answer was lost
        assert admit(records, delay=60, seen_metadata=b'{"n": 1}').kind == "pending"
    assert thread_of(redis_server)["status"] == "busy"
    assert admit(records, "r2", strategy="reject").kind == "busy"
    with pytest.raises(ThreadBusy):
        threads.hold("t1")
    # Until then it is nobody's.
    token = admit(records, "r3", seen_metadata=b'{"n": 1}').token
    assert thread_of(redis_server)["active"] == "r3"
    records.finish(ended("r3"), b"1", token=token, thread=ThreadEnd())
    assert thread_of(redis_server)["status"] == "busy"
    assert "active" not in thread_of(redis_server)
    redis_server.client.zadd("{test}:ready", {"r1": 1})
    claim, _ = records.claim(LEASE)
    assert (claim.record.run_id, claim.has_thread) == ("r1", True)
    records.finish(ended("r1"), b"1", token=claim.token, thread=ThreadEnd())
    assert thread_of(redis_server)["status"] == before
    assert threads.hold("t1")
    assert redis_server.client.exists("{test}:thread:t1:scheduled") == 0


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_a_run_that_is_cancelled_before_it_came_leaves_its_thread_as_it_was(
    storage, redis_server, action
):
    records = records_of(storage)
    admit(records, delay=60)
    admit(records, "r2", delay=60)
    for run_id, status in (("r1", "busy"), ("r2", "idle")):
        assert records.cancel([run_id], action) == 1
        claim, _ = records.claim(LEASE, cancelled=True)
        assert (claim.record.run_id, claim.has_thread) == (run_id, False)
        end = {"undone": action == "rollback", "thread": ThreadEnd("interrupted")}
        records.finish(ended(run_id), b"{}", token=claim.token, **end)
        assert thread_of(redis_server)["status"] == status
    assert admit(records, "r3", strategy="reject").kind == "running"


def test_a_strategy_stops_the_runs_that_are_to_come(storage, redis_server):
    records = records_of(storage)
    admit(records, delay=60)
    token = admit(records, "r2", strategy="interrupt").token
    claim, _ = records.claim(LEASE)
    assert (claim.record.run_id, claim.cancel) == ("r1", "interrupt")
    records.finish(ended(), b"{}", token=claim.token, thread=ThreadEnd("interrupted"))
    assert thread_of(redis_server)["active"] == "r2"
    records.finish(ended("r2"), b"1", token=token, thread=ThreadEnd("idle"))
    assert thread_of(redis_server)["status"] == "idle"


def test_a_thread_is_not_busy_with_a_run_that_redis_lost(storage, redis_server):
    records = records_of(storage)
    admit(records, delay=60)
    redis_server.client.delete("{test}:run:r1", "{test}:ready")
    token = admit(records, "r2").token
    records.finish(ended("r2"), b"1", token=token, thread=ThreadEnd("idle"))
    assert thread_of(redis_server)["status"] == "idle"


def test_what_was_undone_is_seen_only_by_those_who_waited_for_it(storage):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    token = admit(one).token
    assert two.read("r1", follow=True).document is None
    one.finish(ended(), b'"so far"', token=token, undone=True, thread=ThreadEnd("idle"))
    assert one.read("r1") is None
    assert one.read("r1", follow=True) is None
    assert two.read("r1", follow=True).document == b'"so far"'
    assert two.read("r1", follow=True) is None


def test_a_thread_that_is_not_there_is_missing_unless_it_is_to_be_made(storage, redis_server):
    records = records_of(storage)
    assert admit(records, missing="reject").kind == "missing"
    assert redis_server.client.keys("*") == []


def test_an_idle_thread_with_metadata_of_its_own_is_given_the_graphs_once(storage, redis_server):
    records = records_of(storage)
    token = admit(records).token
    records.finish(ended(), b"1", token=token, thread=ThreadEnd("idle"))
    redis_server.client.hset("{test}:thread:t1", mapping={"metadata": '{"own":1}', "graph": ""})
    admission = admit(records, "r2")
    assert (admission.kind, admission.metadata) == ("metadata", b'{"own":1}')
    assert records.read("r2") is None
    assert admit(records, "r2", seen_metadata=b'{"own":2}').kind == "metadata"
    token = admit(records, "r2", seen_metadata=b'{"own":1}').token
    assert thread_of(redis_server)["metadata"] == '{"n": 1}'
    records.finish(ended("r2"), b"1", token=token, thread=ThreadEnd("idle"))
    assert admit(records, "r3").kind == "running"


def test_a_thread_that_was_made_anew_does_not_become_that_of_a_run_on_the_old_one(
    storage, redis_server
):
    records = records_of(storage)
    admit(records)
    threads = ThreadRecords(storage, "test", None)
    threads.cleaned(threads.delete("t1"))
    threads.create("t1", {"n": 2})
    before = thread_of(redis_server)
    assert records.assign_thread(a_run(), NewThread({"n": 1}, ["n=1"], None), b'{"n": 2}') is None
    assert thread_of(redis_server) == before


def test_a_busy_thread_becomes_another_graphs_only_when_that_has_its_turn(storage, redis_server):
    records = records_of(storage)
    token = admit(records).token
    other = replace(a_run("r2"), graph_id="other")
    thread = NewThread({"n": 2}, ["n=2"], None)
    assert records.admit(other, LEASE, may_start=True, thread=thread).kind == "pending"
    assert thread_of(redis_server)["graph"] == "g a1"
    records.finish(ended(), b"1", token=token, thread=ThreadEnd("idle"))
    claim, _ = records.claim(LEASE)
    assert (claim.has_thread, claim.is_graphs) == (True, False)
    assert records.assign_thread(other, thread, b"{}") == b'{"n": 1}'
    assert records.assign_thread(other, thread, b'{"n": 1}') is None
    assert (thread_of(redis_server)["graph"], thread_of(redis_server)["metadata"]) == (
        "other a1",
        '{"n": 2}',
    )
    assert records.assign_thread(other, thread, b"{}") is None


def test_an_admission_sent_twice_is_the_same_as_one(storage, redis_server):
    records = records_of(storage)
    assert admit(records) == admit(records)
    assert admit(records, "r2") == admit(records, "r2")
    assert redis_server.client.llen("{test}:thread:t1:queue") == 1


def test_an_admission_that_is_withdrawn_leaves_nothing_and_frees_the_thread(storage, redis_server):
    records = records_of(storage)
    admit(records)
    admit(records, "r2")
    records.withdraw(a_run("r1"))
    records.withdraw(a_run("r1"))
    assert records.read("r1") is None
    claim, _ = records.claim(LEASE)
    assert claim.record.run_id == "r2"
    records.withdraw(a_run("r2"))
    assert thread_of(redis_server)["status"] == "idle"


def admit_answered(records: RunRecords, run_id: str) -> Verdict:
    key = IdempotencyKey("key", "request", 60.0)
    return records.admit(a_run(run_id), LEASE, may_start=True, key=key, answer=b"the run")


def test_of_an_answered_admission_that_is_withdrawn_the_key_is_free_again(storage, redis_server):
    records = records_of(storage)
    admit_answered(records, "r1")
    records.withdraw(a_run("r1"))
    assert records.read("r1") is None
    assert admit_answered(records, "r2").kind == "running"


def test_an_answered_admission_is_not_withdrawn_once_the_key_has_told_of_it(storage):
    records = records_of(storage)
    admit_answered(records, "r1")
    assert admit_answered(records, "r2").document == b"the run"
    records.withdraw(a_run("r1"))
    # Its process does not know of it: any other may execute it.
    claim, _ = records_of(storage, "two").claim(LEASE)
    assert claim.record.run_id == "r1"
    records.withdraw(a_run("r1"))
    assert claim.cancel is None
    assert records.read("r1") is not None


def several(*names: str) -> list[tuple[RunRecord, float, None]]:
    """Runs of one request, each on a thread of its own."""
    return [(replace(a_run(each), thread_id=f"t{each}"), 0.0, None) for each in names]


def test_runs_of_one_request_that_is_sent_twice_are_there_once(storage, redis_server):
    records = records_of(storage)
    key = IdempotencyKey("key", "request", 60.0)
    # As when the first answer is lost on its way, which is no request that came again.
    for _ in range(2):
        assert records.admit_all(several("r1", "r2"), LEASE, key=key, answer=b"both") == Verdict(
            "pending"
        )
    assert redis_server.client.zcard("{test}:ready") == 2
    again = records.admit_all(several("r3", "r4"), LEASE, key=key, answer=b"others")
    assert (again.kind, again.document, again.admitted) == ("replayed", b"both", None)
    other = replace(key, request="other")
    assert records.admit_all(several("r3"), LEASE, key=other, answer=b"").kind == "other"
    assert redis_server.client.zcard("{test}:ready") == 2


def test_a_key_knows_how_many_runs_of_its_request_are_there(storage, redis_server):
    records = records_of(storage)
    key = IdempotencyKey("key", "request", 60.0)
    runs, others = several(*(f"r{n}" for n in range(5))), several(*(f"s{n}" for n in range(5)))
    for start, there in ((0, 2), (2, 4), (4, None)):
        # Whichever part is sent again, none counts twice.
        for part in (start, start, 0):
            done = records.admit_all(runs, LEASE, start=part, most=2, key=key, answer=b"all")
            assert done.kind == "pending"
        again = records.admit_all(others, LEASE, most=2, key=key, answer=b"others")
        assert (again.document, again.admitted) == (b"all", there)
        assert redis_server.client.zcard("{test}:ready") == (there or 5)


def test_without_a_place_a_run_is_ready_for_any_process(storage):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    assert admit(one, may_start=False).kind == "pending"
    claim, _ = two.claim(LEASE)
    assert (claim.record.run_id, claim.attempt, claim.kept) == ("r1", 1, True)
    assert one.claim(LEASE) == (None, None)


def test_a_claim_says_when_the_next_run_is_due(storage, redis_server):
    records = records_of(storage)
    admit(records, may_start=False)
    redis_server.client.zadd("{test}:ready", {"r1": int(time.time() * 1000) + 60_000})
    claim, due = records.claim(LEASE)
    assert claim is None
    assert 0 < due <= 60


def test_every_process_is_told_that_a_run_is_ready(storage, redis_server):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    listener = listening(redis_server, *two.channels)
    admit(one, may_start=False)
    assert eventually(lambda: listener.get_message(timeout=1))["data"] == b"ready"


def test_a_cancelled_run_that_waits_is_taken_only_to_be_ended(storage):
    records = records_of(storage)
    token = admit(records).token
    admit(records, "r2")
    assert records.cancel(["r2"], "interrupt") == 1
    claim, _ = records.claim(LEASE)
    assert (claim.record.run_id, claim.cancel) == ("r2", "interrupt")
    # The queue is empty: the end of the first makes no other run ready.
    records.finish(ended(), b"1", token=token, thread=ThreadEnd("idle"))
    assert records.claim(LEASE) == (None, None)


def test_runs_are_listed_newest_first_by_page_and_status(storage):
    records = records_of(storage)
    assert records.of_thread("t1", 10, 0, None) is None
    token = admit(records, "r0").token
    for n in range(1, 250):
        admit(records, f"r{n:03}")
    records.finish(ended("r0"), b"1", token=token, thread=ThreadEnd("idle"))
    ids = [each.run_id for each in records.of_thread("t1", 3, 100, None)]
    assert len(ids) == 3
    assert [each.run_id for each in records.of_thread("t1", 10, 0, "success")] == ["r0"]
    pending = records.of_thread("t1", 1000, 0, "pending")
    assert len(pending) == 249
    assert records.of_thread("t1", 10, 245, "pending") == pending[245:]


def test_runs_in_flight_are_found_by_status_and_by_thread(storage):
    records = records_of(storage)
    create(records, replace(a_run("s1"), thread_id="t2"))
    admit(records, "r1")
    admit(records, "r2")
    assert sorted(records.in_flight(None, "all")) == ["r1", "r2", "s1"]
    assert sorted(records.in_flight(None, "running")) == ["r1", "s1"]
    assert records.in_flight(None, "pending") == ["r2"]
    assert sorted(records.in_flight("t1", "all")) == ["r1", "r2"]
    assert records.in_flight("t2", "running") == ["s1"]


def test_only_a_run_that_ended_is_removed(storage):
    records = records_of(storage)
    token = admit(records).token
    assert records.remove("t1", "r1") is False
    assert records.remove("other", "r1") is None
    records.finish(ended(), b"1", token=token, thread=ThreadEnd("idle"))
    assert records.remove("t1", "r1") is True
    assert records.remove("t1", "r1") is None
    assert records.of_thread("t1", 10, 0, None) == []


def test_what_ended_can_be_had_of_a_redis_that_takes_no_writes(storage, configure):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    token = admit(one).token
    one.finish(ended(), b'"right"', token=token, thread=ThreadEnd("idle"))
    configure("min-replicas-to-write", 1)
    assert two.read("r1", follow=True).document == b'"right"'


@pytest.mark.parametrize("removed", ["run", "thread"])
def test_a_run_that_was_removed_is_seen_only_by_those_who_have_yet_to_look_at_its_end(
    storage, redis_server, removed
):
    one, two, three = (records_of(storage, each) for each in ("one", "two", "three"))
    token = admit(one).token
    for each in (two, three):
        assert each.read("r1", follow=True).document is None
    one.finish(ended(), b'"right"', token=token, thread=ThreadEnd("idle"))
    assert three.read("r1", follow=True).document == b'"right"'
    if removed == "run":
        one.remove("t1", "r1")
    else:
        ThreadRecords(storage, "test", None).delete("t1")
    for each in (one, three):
        assert each.read("r1") is None
        assert each.read("r1", follow=True) is None
    assert two.read("r1", follow=True).document == b'"right"'
    assert two.read("r1", follow=True) is None
    assert not redis_server.client.keys("{test}:*r1")


def test_delivered_results_go_sooner_and_never_later(storage, redis_server):
    records = records_of(storage, ttl=300)
    records.finish(ended("r1"), b"1")
    records.finish(ended("r2"), b"1")
    redis_server.client.pexpire("{test}:result:r2", 1000)
    records.shorten(["r1", "r2", "gone"], 25)
    assert redis_server.client.pttl("{test}:result:r1") <= 25_000
    assert redis_server.client.pttl("{test}:result:r2") <= 1000


def test_delivered_results_of_runs_with_logged_events_go_as_late_as_those(storage, redis_server):
    records = records_of(storage, ttl=300)
    token = create(records)
    assert token is not None
    records.finish(ended(), b"1", token=token, events=[("end", b"{}")], event=1)
    records.shorten(["r1"], 25)
    for key in ("run", "result", "events"):
        assert redis_server.client.pttl(f"{{test}}:{key}:r1") > 25_000


@pytest.mark.parametrize("dropped", ["run:r1", "thread:t1", "thread:t1:queue"])
def test_who_waits_for_a_thread_has_its_turn_whatever_key_redis_dropped(
    storage, redis_server, dropped
):
    records = records_of(storage)
    token = admit(records).token
    records.hand_back([("r1", token)])
    assert admit(records, "r2").kind == "pending"
    redis_server.client.delete(f"{{test}}:{dropped}")
    if dropped == "thread:t1:queue":
        claim, _ = records.claim(LEASE)
        records.finish(ended("r1"), b"{}", token=claim.token, thread=ThreadEnd("idle"))
    assert records.tidy([]) == []
    ready = redis_server.client.zrange("{test}:ready", 0, -1)
    assert b"r2" in ready
    while (claim := records.claim(LEASE)[0]).record.run_id != "r2":
        pass
    assert claim.has_thread == (dropped != "thread:t1")


def test_a_run_that_redis_dropped_does_not_keep_its_thread_from_those_that_come(
    storage, redis_server
):
    records = records_of(storage)
    records.hand_back([("r1", admit(records).token)])
    redis_server.client.delete("{test}:run:r1")
    assert admit(records, "r2").kind == "running"


def test_who_follows_a_run_is_told_that_it_ended_or_is_gone(storage, redis_server):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    token = admit(one).token
    for run_id in ("r2", "r3"):
        one.admit(a_run(run_id), LEASE, may_start=False)
    assert two.tidy(["r1", "r2", "r3"]) == []
    one.finish(ended(), b"1", token=token, thread=ThreadEnd("idle"))
    redis_server.client.delete("{test}:run:r2", "{test}:ready")
    assert two.tidy(["r1", "r2", "r3"]) == ["r1", "r2"]
    # Nobody knows any more when it is due.
    claim, _ = one.claim(LEASE)
    assert (claim.record.run_id, claim.cancel) == ("r3", "interrupt")


def test_a_process_keeps_its_runs_where_redis_dropped_all_leases(storage, redis_server):
    records = records_of(storage)
    token = admit(records).token
    redis_server.client.delete("{test}:leases")
    assert records.beat([("r1", token)], LEASE).lost == []
    assert redis_server.client.zscore("{test}:leases", "r1")


def test_nothing_waits_for_redis_to_come_to_a_time_it_had_before_its_clock_was_set_back(
    storage, redis_server
):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    outbox = Outbox(storage, "test")
    two.beat([], LEASE)
    for run_id, options in (("r1", {}), ("r2", {"may_start": False}), ("r3", {"delay": 1000.0})):
        one.admit(a_run(run_id), LEASE, **{"may_start": True, **options})
    outbox.add("r4", "http://a", b"{}")
    # All that is due is ten minutes further away, as after the clock was set back so far.
    client, back = redis_server.client, 600_000
    for key in ("leases", "ready", "outbox", "outbox:a"):
        for member, score in client.zrange(f"{{test}}:{key}", 0, -1, withscores=True):
            client.zadd(f"{{test}}:{key}", {member: score + back})
    for name in ("at", "quiet_until"):
        client.hincrby("{test}:beat", name, back)
    two.beat([], LEASE)
    # By as much as has passed since the last beat, nobody knows better.
    assert eventually(lambda: two.claim(LEASE)[0]).record.run_id == "r2"
    none, due = two.claim(LEASE)
    assert none is None
    assert 500 < due < 1500
    assert eventually(lambda: asyncio.run(outbox.claim(LEASE))[0]).run_id == "r4"
    seconds, _ = client.time()
    assert client.zscore("{test}:leases", "r1") <= (seconds + 1 + LEASE) * 1000
    assert int(client.hget("{test}:beat", "quiet_until")) <= (seconds + 1 + LEASE) * 1000


def test_what_there_is_to_do_is_counted_with_the_age_of_the_oldest(storage):
    records, outbox = records_of(storage), Outbox(storage, "test")
    assert records.queue() == Queue(0, 0, 0, 0, 0.0, 0.0, 0, 0)
    create(records, a_run("executes"))
    records.admit(a_run("due"), LEASE, may_start=False)
    records.admit(a_run("later"), LEASE, may_start=False, delay=3600)
    outbox.add("ended", "http://example.org/", b"{}")
    found = eventually(lambda: got if (got := records.queue()).ready_age else None)
    assert (found.running, found.ready, found.scheduled, found.queued) == (1, 1, 1, 0)
    assert 0 < found.ready_age < 3600
    assert (found.webhooks, found.dead_webhooks) == (1, 0)
    records.cancel(["later"], "interrupt")  # which is ready before all others, to be ended
    assert 0 < records.queue().ready_age < 3600
