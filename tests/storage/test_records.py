"""Runs in Redis: what the scripts promise, on a real server."""

from __future__ import annotations

import time

import pytest

from app.storage.connection import Storage
from app.storage.records import RunRecord, RunRecords, RunStatus
from tests.servers import RedisServer, eventually

LEASE = 15.0


@pytest.fixture
def storage(redis_server: RedisServer) -> Storage:
    storage = Storage(redis_server.url, 1)
    storage.start()
    return storage


def records_of(storage: Storage, process: str = "one", ttl: float = 300) -> RunRecords:
    return RunRecords(storage, "test", process, ttl)


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
    records.create(created, LEASE)
    stored = records_of(storage, "two").read("r1")
    assert stored.record == created
    assert stored.document is None


def test_an_unknown_run_is_none(storage):
    assert records_of(storage).read("nope") is None


def test_a_finished_run_has_its_document_for_the_time_to_live(storage, redis_server):
    records = records_of(storage, ttl=300)
    records.create(a_run(), LEASE)
    assert records.finish(a_run().moved_to(RunStatus.SUCCESS), b'{"x":1}', created=True)
    stored = records.read("r1")
    assert stored.document == b'{"x":1}'
    assert stored.record.status is RunStatus.SUCCESS
    for key in redis_server.client.keys("*r1*"):
        assert 290_000 < redis_server.client.pttl(key) <= 300_000
    assert redis_server.client.zcard("{test}:leases") == 0


def test_a_finish_sent_twice_is_the_same_as_one(storage):
    records = records_of(storage)
    records.create(a_run(), LEASE)
    ended = a_run().moved_to(RunStatus.SUCCESS)
    assert records.finish(ended, b"1", created=True)
    assert records.finish(ended, b"1", created=True)


def test_the_first_end_stands_against_another_process(storage):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    one.create(a_run(), LEASE)
    assert one.finish(a_run().moved_to(RunStatus.SUCCESS), b'"first"', created=True)
    assert not two.finish(a_run().moved_to(RunStatus.ERROR), b'"second"', created=True)
    assert one.read("r1").document == b'"first"'


def test_a_create_that_arrives_after_the_end_changes_nothing(storage, redis_server):
    records = records_of(storage)
    records.finish(a_run().moved_to(RunStatus.SUCCESS), b"1", created=True)
    records.create(a_run(), LEASE)
    assert records.read("r1").record.status is RunStatus.SUCCESS
    assert redis_server.client.zcard("{test}:leases") == 0


def test_a_run_that_was_never_created_is_recorded_by_its_end(storage):
    records = records_of(storage)
    assert records.finish(a_run().moved_to(RunStatus.SUCCESS), b"1", created=True)
    assert records.read("r1").document == b"1"


def test_without_a_time_to_live_nothing_is_left_where_nobody_waits(storage, redis_server):
    records = records_of(storage, ttl=0)
    records.create(a_run(), LEASE)
    assert records.finish(a_run().moved_to(RunStatus.SUCCESS), b"1", created=True)
    assert redis_server.client.keys("*r1*") == []


def test_without_a_time_to_live_the_result_stays_until_every_waiting_process_has_read_it(
    storage, redis_server
):
    one = records_of(storage, "one", ttl=0)
    two, three = records_of(storage, "two", ttl=0), records_of(storage, "three", ttl=0)
    one.create(a_run(), LEASE)
    assert two.read("r1", wait=True).document is None
    assert three.read("r1", wait=True).document is None
    one.finish(a_run().moved_to(RunStatus.SUCCESS), b"1", created=True)
    assert two.read("r1", wait=True).document == b"1"
    assert three.read("r1", wait=True).document == b"1"
    assert redis_server.client.keys("*r1*") == []


def test_a_waiting_process_is_told_of_the_end_on_its_channel_and_no_other(storage, redis_server):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    one.create(a_run(), LEASE)
    listener = redis_server.client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(one.channel, two.channel)
    two.read("r1", wait=True)
    one.finish(a_run().moved_to(RunStatus.SUCCESS), b"1", created=True)
    message = eventually(lambda: listener.get_message(timeout=1))
    assert (message["channel"].decode(), message["data"]) == (two.channel, b"ended r1")
    assert listener.get_message() is None


def test_a_cancel_is_told_to_the_owner_and_found_in_its_next_beat(storage, redis_server):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    one.create(a_run(), LEASE)
    listener = redis_server.client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(one.channel)
    two.cancel("r1")
    assert eventually(lambda: listener.get_message(timeout=1))["data"] == b"cancel r1"
    assert one.beat(["r1"], LEASE).cancelled == ["r1"]


def test_a_cancel_of_what_ended_or_never_was_changes_nothing(storage, redis_server):
    records = records_of(storage)
    records.finish(a_run().moved_to(RunStatus.SUCCESS), b"1", created=True)
    records.cancel("r1")
    records.cancel("nope")
    assert redis_server.client.hget("{test}:run:r1", "cancel") is None
    assert not redis_server.client.exists("{test}:run:nope")


def test_a_beat_renews_leases_and_names_runs_that_redis_lost(storage, redis_server):
    records = records_of(storage)
    records.create(a_run("r1"), 1.0)
    before = redis_server.client.zscore("{test}:leases", "r1")
    beat = records.beat(["r1", "r2"], LEASE)
    assert beat.missing == ["r2"]
    assert redis_server.client.zscore("{test}:leases", "r1") > before + 10_000


def let_lease_lapse(redis_server: RedisServer, run_id: str) -> None:
    redis_server.client.zadd("{test}:leases", {run_id: 1})


def test_a_lapsed_lease_is_found_only_after_a_lease_of_steady_beats(storage, redis_server):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    one.create(a_run(), LEASE)
    let_lease_lapse(redis_server, "r1")
    assert (
        two.beat([], LEASE).lapsed == []
    )  # the first beat ever: who knows how long Redis was away
    assert two.beat([], LEASE).lapsed == []
    redis_server.client.hset("{test}:beat", "quiet_until", 1)
    assert two.beat([], LEASE).lapsed == ["r1"]


def test_a_pause_in_all_beats_puts_off_the_taking_of_lapsed_leases(storage, redis_server):
    records = records_of(storage)
    records.create(a_run(), LEASE)
    let_lease_lapse(redis_server, "r1")
    long_ago = round(time.time() * 1000) - round(LEASE * 1000)
    redis_server.client.hset("{test}:beat", mapping={"quiet_until": 1, "at": long_ago})
    assert records.beat([], LEASE).lapsed == []


def test_a_run_is_ended_as_lost_only_while_its_lease_has_lapsed(storage, redis_server):
    one, two = records_of(storage, "one"), records_of(storage, "two")
    one.create(a_run(), LEASE)
    lost = a_run().moved_to(RunStatus.ERROR)
    assert not two.finish(lost, b'"lost"', created=True, if_lapsed=True)
    assert one.read("r1").document is None
    let_lease_lapse(redis_server, "r1")
    assert two.finish(lost, b'"lost"', created=True, if_lapsed=True)
    assert not one.finish(a_run().moved_to(RunStatus.SUCCESS), b'"late"', created=True)
    assert one.read("r1").document == b'"lost"'


def test_delivered_results_go_sooner_and_never_later(storage, redis_server):
    records = records_of(storage, ttl=300)
    records.finish(a_run("r1").moved_to(RunStatus.SUCCESS), b"1", created=True)
    records.finish(a_run("r2").moved_to(RunStatus.SUCCESS), b"1", created=True)
    redis_server.client.pexpire("{test}:result:r2", 1000)
    records.shorten(["r1", "r2", "gone"], 25)
    assert redis_server.client.pttl("{test}:result:r1") <= 25_000
    assert redis_server.client.pttl("{test}:result:r2") <= 1000
