"""The events of runs in Redis: what the scripts promise, on a real server."""

from __future__ import annotations

from typing import Any

import pytest

from runwait.runs.events import Event
from runwait.storage import events as events_module
from runwait.storage.connection import Storage
from runwait.storage.events import (
    Batch,
    EventRecords,
    FollowedThread,
    ForgottenEvent,
    UnknownEvent,
    text_of,
)
from runwait.storage.records import RunRecords, ThreadEnd
from runwait.storage.threads import ThreadRecords
from tests.servers import RedisServer, eventually
from tests.storage.test_records import LEASE, a_run, admit, ended, listening, records_of


@pytest.fixture
def storage(redis_server: RedisServer) -> Storage:
    storage = Storage(redis_server.url, 1)
    storage.start()
    return storage


def logs_of(storage: Storage, process: str = "one", most: int = 1000) -> EventRecords:
    return EventRecords(storage, "test", process, most)


def told(listener: Any) -> str:
    """The next message."""
    data: bytes = eventually(lambda: listener.get_message(timeout=1))["data"]
    return data.decode()


def batch(token: int, *names: str, first: int = 1, run_id: str = "r1") -> Batch:
    made = [
        Event(name, b'{"n": "\x00\xc3\xbc"}', (token, number))
        for number, name in enumerate(names, first)
    ]
    return Batch(run_id, token, 1, made)


def logged(logs: EventRecords, after: tuple[int, int] = (0, 0)) -> list[str]:
    return [each.name for each in logs.after("r1", after)[0]]


def running(records: RunRecords) -> int:
    token = records.admit(a_run(), LEASE, may_start=True).token
    assert token is not None
    return token


class TestLog:
    def test_has_events_in_order_as_they_were(self, storage):
        token, logs = running(records_of(storage)), logs_of(storage)
        assert logs.append([batch(token, "metadata", "values|a")]) == [True]
        found, to_the_end = logs.after("r1", (0, 0))
        assert to_the_end
        assert [(each.name, each.data, each.id) for each in found] == [
            ("metadata", b'{"n": "\x00\xc3\xbc"}', (token, 1)),
            ("values|a", b'{"n": "\x00\xc3\xbc"}', (token, 2)),
        ]
        assert logged(logs, (token, 1)) == ["values|a"]

    def test_takes_nothing_twice_although_it_is_sent_twice(self, storage):
        token, logs = running(records_of(storage)), logs_of(storage)
        for _ in range(2):
            assert logs.append([batch(token, "metadata", "values")]) == [True]
        assert logged(logs) == ["metadata", "values"]

    def test_takes_nothing_of_who_lost_the_run(self, storage, redis_server):
        one, two, logs = records_of(storage), records_of(storage, "two"), logs_of(storage)
        token = running(one)
        logs.append([batch(token, "metadata")])
        one.hand_back([("r1", token)])
        claim, _ = two.claim(LEASE)
        assert logs.append([batch(token, "late", first=2)]) == [False]
        assert logs.append([batch(claim.token, "metadata")]) == [True]
        assert logged(logs) == ["metadata", "metadata"]

    def test_takes_nothing_after_the_end(self, storage):
        records, logs = records_of(storage), logs_of(storage)
        token = running(records)
        records.finish(ended(), b"1", token=token, events=[("end", b"{}")], event=1)
        assert logs.append([batch(token, "late", first=2)]) == [False]
        assert logged(logs) == ["end"]

    def test_of_several_runs_is_written_at_once_each_for_itself(self, storage):
        records, logs = records_of(storage), logs_of(storage)
        token = running(records)
        other = records.admit(a_run("r2"), LEASE, may_start=True).token
        assert other is not None
        batches = [batch(1, "x"), batch(other, "y", run_id="r2"), batch(token, "z")]
        assert logs.append(batches) == [False, True, True]
        assert logged(logs) == ["z"]
        assert [each.name for each in logs.after("r2", (0, 0))[0]] == ["y"]

    def test_keeps_only_so_many(self, storage):
        token, logs = running(records_of(storage)), logs_of(storage, most=1)
        for number in range(1, 1000, 100):
            logs.append([batch(token, *["values"] * 100, first=number)])
        # About so many: Redis drops whole blocks.
        assert len(logs.after("r1", (0, 0))[0]) < 200

    def test_is_read_in_pages(self, storage, monkeypatch):
        monkeypatch.setattr(events_module, "PAGE", 2)
        token, logs = running(records_of(storage)), logs_of(storage)
        logs.append([batch(token, "a", "b", "c")])
        first, to_the_end = logs.after("r1", (0, 0))
        assert ([each.name for each in first], to_the_end) == (["a", "b"], False)
        assert logs.after("r1", first[-1].id)[1]

    def test_lives_as_long_as_the_result_and_goes_with_the_run(self, storage, redis_server):
        records, logs = records_of(storage), logs_of(storage)
        token = running(records)
        logs.append([batch(token, "metadata")])
        assert redis_server.client.pttl("{test}:events:r1") > 86_400_000
        records.finish(ended(), b"1", token=token, events=[("end", b"{}")], event=2)
        assert 0 < redis_server.client.pttl("{test}:events:r1") <= 300_000
        records.remove("t1", "r1")
        assert logged(logs) == []


class TestFollowing:
    def test_has_the_process_told_of_events_and_the_owner_log_them(self, storage, redis_server):
        token = running(records_of(storage))
        one = listening(redis_server, "{test}:told:one")
        two = listening(redis_server, "{test}:told:two")
        found = logs_of(storage, "two").follow("r1", None)
        assert (found.attempt, found.logged, found.after) == (1, False, (0, 0))
        assert told(one) == "listen r1"
        logs_of(storage).append([batch(token, "values")])
        assert told(two) == "events r1"

    def test_begins_where_it_is_asked_to(self, storage):
        token, logs = running(records_of(storage)), logs_of(storage, "two")
        logs_of(storage).append([batch(token, "metadata", "values")])
        for after, expected in ((None, (token, 2)), ((0, 0), (0, 0)), ((token, 1), (token, 1))):
            found = logs.follow("r1", after)
            assert (found.after, found.logged, found.begins) == (expected, True, True)
            assert found.at_the_end == (after is None)

    @pytest.mark.parametrize("event", [(5, 5), (2**62, 1)])
    def test_an_event_that_never_was_is_unknown(self, storage, event):
        token = running(records_of(storage))
        logs_of(storage).append([batch(token, "metadata")])
        with pytest.raises(UnknownEvent):
            logs_of(storage, "two").follow("r1", event)

    def test_an_event_that_is_not_kept_is_told_with_the_first_that_is(self, storage):
        token, logs = running(records_of(storage)), logs_of(storage, most=1)
        for number in range(1, 1000, 100):
            logs.append([batch(token, *["values"] * 100, first=number)])
        with pytest.raises(ForgottenEvent) as caught:
            logs.follow("r1", (token, 1))
        assert caught.value.first == text_of(logs.after("r1", (0, 0))[0][0].id)

    def test_a_run_that_is_not_there_is_not_found(self, storage):
        assert logs_of(storage).follow("nope", None) is None

    def test_what_is_only_for_those_who_waited_is_not_there(self, storage):
        records = records_of(storage, ttl=0)
        token = running(records)
        records_of(storage, "two").read("r1", follow=True)
        records.finish(ended(), b"1", token=token)
        assert logs_of(storage, "three").follow("r1", None) is None


class TestThreads:
    def test_who_follows_a_thread_is_told_of_its_runs_as_they_begin(self, storage, redis_server):
        records = records_of(storage)
        ThreadRecords(storage, "test", None).create("t1", {})
        logs = logs_of(storage, "two")
        assert logs.follow_thread("t1") == FollowedThread(None, [], (0, 0))
        messages = listening(redis_server, "{test}:told:two")
        verdict = admit(records, seen_metadata=b"{}")
        assert (verdict.kind, verdict.listened) == ("running", True)
        assert told(messages) == "run t1 r1"
        logs_of(storage).append([batch(verdict.token, "metadata")])
        assert told(messages) == "events r1"
        records.finish(ended(), b"1", token=verdict.token, thread=ThreadEnd("idle"))
        logged = [("r1", (verdict.token, 1))]
        assert logs.follow_thread("t1") == FollowedThread(None, logged, (0, 0))

    def test_the_run_that_has_it_is_among_them(self, storage):
        verdict = admit(records_of(storage))
        found = logs_of(storage, "two").follow_thread("t1")
        assert found == FollowedThread(("r1", (0, 0)), [], (0, 0))
        assert verdict.listened is False

    def test_the_latest_run_is_named_if_it_left_nothing_in_a_log(self, storage):
        records, logs = records_of(storage), logs_of(storage)
        token = admit(records).token
        assert logs.follow_thread("t1").silent is None
        records.finish(ended(), b"1", token=token, thread=ThreadEnd("idle"))
        assert logs.follow_thread("t1").silent == "r1"

    def test_a_thread_that_is_not_there_is_not_found(self, storage):
        assert logs_of(storage).follow_thread("nope") is None

    def test_of_those_who_watch_it_one_is_told_how_the_latest_run_ended(self, storage):
        records, logs = records_of(storage), logs_of(storage)
        token = admit(records).token
        logs.append([batch(token, "metadata")])
        # Who follows it is no watcher.
        assert logs.follow_thread("t1").unwanted == (0, 0)
        records.finish(ended(), b"1", token=token, thread=ThreadEnd("idle"))
        unwanted = [logs.follow_thread("t1", watches=True).unwanted for _ in range(2)]
        assert unwanted == [(0, 0), (token, 1)]

    def test_who_watches_the_run_that_has_it_is_told_of_its_end(self, storage):
        records, logs = records_of(storage), logs_of(storage)
        token = admit(records).token
        logs.append([batch(token, "metadata")])
        assert logs.follow_thread("t1", watches=True).unwanted == (0, 0)
        records.finish(ended(), b"1", token=token, thread=ThreadEnd("idle"))
        assert logs.follow_thread("t1", watches=True).unwanted == (token, 1)
