"""Those who follow runs: what they are given, in what order, from whichever process."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from runwait.runs.events import (
    BACKLOG_BYTES,
    Cut,
    End,
    Event,
    Follower,
    Hub,
    NoRoom,
    Room,
    RunNotFound,
    ThreadFollower,
)
from runwait.runs.executor import Executor
from runwait.runs.timers import Timers
from runwait.storage.connection import StorageUnavailable
from runwait.storage.events import EventId, EventRecords, FollowedThread, LoggedEvent
from runwait.storage.records import RunRecords, StoredRun
from tests.runs.records import a_record
from tests.servers import PATIENCE


class Redis:
    """A record that is read as the test has it; `reads` are those of followers."""

    def __init__(self, *answers: StoredRun | Exception | None) -> None:
        self.answers = list(answers)
        self.reads = 0
        self.gone = False
        self.back_since = -math.inf

    def read(self, run_id: str, *, follow: bool = False, streams: bool = False) -> StoredRun | None:
        assert follow
        self.reads += 1
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def is_gone(self, thread_id: str) -> bool:
        return self.gone


class Log(Redis):
    """A log of the run's events."""

    def __init__(self, *events: Event) -> None:
        super().__init__()
        self.events = list(events)

    def after(self, run_id: str, event: EventId) -> tuple[list[Event], bool]:
        return [each for each in self.events if each.id is not None and each.id > event], True


class Threads(Log):
    """A log that counts how often this process did not want to be told any more."""

    unfollowed = 0
    found = FollowedThread()

    def follow_thread(self, thread_id: str, *, watches: bool = False) -> FollowedThread:
        return self.found

    def unfollow(self, thread_id: str) -> None:
        self.unfollowed += 1


class AtOnce:
    """Does at once what is to be done soon, and when it is time."""

    def help(self, work: Callable[[], None]) -> None:
        work()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        action()


def stored(document: bytes | None, *, status: str = "success", thread_id: str = "t") -> StoredRun:
    record = a_record(thread_id=thread_id, status=status)
    return StoredRun(record, document)


def hub_of(redis: Redis | None = None, places: int = 100, patience: float = 60.0) -> Hub:
    def document_of(stored: StoredRun) -> bytes:
        raise AssertionError("the result is there")

    fakes: tuple[Any, ...] = (redis or Redis(), AtOnce())
    return Hub(
        cast(RunRecords, fakes[0]),
        cast(EventRecords, fakes[0]),
        cast(Executor, fakes[1]),
        cast(Timers, fakes[1]),
        places,
        patience,
        document_of,
    )


def given(follower: Follower) -> list[Any]:
    return follower.take()


class TestFollower:
    def test_has_nothing_until_it_is_given(self):
        follower = Follower("t", "r")
        assert not follower.wait(0)
        follower.give(End(b"{}"))
        assert follower.wait(0)
        assert given(follower) == [End(b"{}")]
        assert given(follower) == []

    def test_keeps_the_order_in_which_it_is_given_events(self):
        follower = Follower("t", "r")
        follower.give(End(b"1"))
        follower.client_gone()
        assert follower.wait(None)
        assert given(follower) == [End(b"1"), Cut.CLIENT_GONE]

    def test_wakes_who_listens_for_each_event_and_for_those_before(self):
        follower, woken = Follower("t", "r"), []
        follower.give(End(b"1"))
        follower.listen(lambda: woken.append(given(follower)))
        follower.give(Cut.ELSEWHERE)
        assert woken == [[End(b"1")], [Cut.ELSEWHERE]]

    def test_tells_that_its_client_is_gone(self):
        follower, told = Follower("t", "r"), []
        follower.on_gone = lambda: told.append(True)
        follower.client_gone()
        assert follower.result() is Cut.CLIENT_GONE
        assert told == [True]

    def test_that_is_closed_twice_is_closed_once(self):
        follower, closed = Follower("t", "r"), []
        follower.on_close = lambda: closed.append(True)
        follower.close()
        follower.close()
        assert closed == [True]

    def test_blocks_until_another_thread_gives_it_an_event(self):
        follower = Follower("t", "r")
        thread = threading.Thread(target=follower.give, args=(End(b"1"),))
        thread.start()
        assert follower.result() == End(b"1")
        thread.join(PATIENCE)


class TestFollowing:
    def test_all_who_follow_a_run_are_given_its_end_and_nobody_else(self):
        hub = hub_of()
        first, second, other = hub.follow("t", "r"), hub.follow("t", "r"), hub.follow("t", "x")
        hub.publish("r", End(b"1"))
        assert [given(each) for each in (first, second, other)] == [[End(b"1")], [End(b"1")], []]

    def test_one_who_left_is_given_nothing(self):
        hub = hub_of()
        follower = hub.follow("t", "r")
        follower.close()
        hub.publish("r", End(b"1"))
        assert given(follower) == []

    def test_no_more_may_follow_than_there_are_places(self):
        hub = hub_of(places=2)
        first = hub.follow("t", "r")
        with hub.place(), pytest.raises(NoRoom, match="places to wait"):
            hub.follow("t", "r")
        second = hub.follow("t", "r")
        with pytest.raises(NoRoom), hub.place():
            pass
        second.close()
        hub.follow("t", "r")
        first.close()

    def test_a_process_that_stops_lets_nobody_in_and_sends_all_elsewhere(self):
        hub = hub_of()
        follower = hub.follow("t", "r")
        hub.close()
        with pytest.raises(NoRoom, match="shutting down"):
            hub.follow("t", "r")
        hub.stop()
        assert given(follower) == [Cut.ELSEWHERE]


class TestReading:
    def test_what_one_reads_is_for_all_who_follow_in_the_process(self):
        hub = hub_of(Redis(stored(b"1")))
        early, late = hub.follow("t", "r"), hub.follow("t", "r")
        hub.read(late)
        hub.look("r")
        assert (given(early), given(late)) == ([End(b"1")], [End(b"1")])

    def test_what_is_for_those_alone_who_waited_is_not_for_who_reads_it_first(self):
        hub = hub_of(Redis(replace(stored(b"1"), once=True)))
        waited, late = hub.follow("t", "r"), hub.follow("t", "r")
        with pytest.raises(RunNotFound):
            hub.read(late)
        assert given(waited) == [End(b"1")]

    def test_who_comes_after_all_have_it_finds_nothing(self):
        hub = hub_of(Redis(stored(b"1")))
        early = hub.follow("t", "r")
        hub.look("r")
        assert given(early) == [End(b"1")]
        with pytest.raises(RunNotFound):
            hub.read(hub.follow("t", "r"))

    def test_a_run_is_said_to_be_none_a_lease_after_redis_was_away(self):
        redis = Redis()
        hub = hub_of(redis, patience=60)
        redis.back_since = time.monotonic() - 1
        with pytest.raises(StorageUnavailable, match="away a moment ago"):
            hub.read(hub.follow("t", "r"))
        redis.back_since = time.monotonic() - 61
        with pytest.raises(RunNotFound):
            hub.read(hub.follow("t", "r"))

    def test_a_run_of_another_thread_is_not_found(self):
        hub = hub_of(Redis(stored(None, status="running", thread_id="other")))
        with pytest.raises(RunNotFound):
            hub.read(hub.follow("t", "r"))

    def test_an_ended_run_without_a_result_is_not_found(self):
        hub = hub_of(Redis(stored(None)))
        with pytest.raises(RunNotFound):
            hub.read(hub.follow("t", "r"))

    def test_a_run_that_has_not_ended_is_followed_until_it_has(self):
        hub = hub_of(Redis(stored(None, status="running"), stored(b"1")))
        follower = hub.follow("t", "r")
        hub.read(follower)
        assert given(follower) == []
        hub.look("r")
        assert given(follower) == [End(b"1")]


class TestLooking:
    def test_at_all_reads_each_run_that_is_followed_once_and_none_of_this_process(self):
        redis = Redis(stored(None, status="running"))
        hub = hub_of(redis)
        hub.is_here = lambda run_id: run_id == "here"
        for run_id in ("r", "r", "here"):
            hub.follow("t", run_id)
        hub.look_at_all()
        assert redis.reads == 1

    def test_for_a_run_that_nobody_follows_asks_nobody(self):
        redis = Redis()
        hub_of(redis).look("r")
        assert redis.reads == 0

    def test_while_redis_is_away_leaves_those_who_follow_waiting(self):
        hub = hub_of(Redis(StorageUnavailable("away"), stored(b"1")))
        follower = hub.follow("t", "r")
        hub.look("r")
        assert given(follower) == []
        hub.look_at_all()
        assert given(follower) == [End(b"1")]

    def test_for_a_run_that_stays_unknown_to_redis_says_that_it_is_lost(self):
        hub = hub_of(Redis(None, None))
        follower = hub.follow("t", "r")
        hub.look("r")
        assert b'"RunLost"' in given(follower)[0].document

    def test_for_a_run_that_went_with_its_thread_says_that_it_was_cancelled(self):
        redis = Redis(None)
        redis.gone = True
        hub = hub_of(redis)
        follower = hub.follow("t", "r")
        hub.look("r")
        assert given(follower) == [End(b"{}")]


def test_a_run_that_is_still_on_its_way_to_redis_is_not_lost():
    redis = Redis(None, None)
    hub = hub_of(redis)
    follower = hub.follow("t", "r")
    follower.is_early = True
    hub.look_at_all()
    assert redis.reads == 1
    assert given(follower) == []


class TestStreaming:
    def test_gives_all_events_to_who_streams_and_the_end_alone_to_who_waits(self):
        hub = hub_of()
        streams, waits = hub.follow("t", "r", streams=True), hub.follow("t", "r")
        first, last = Event("values", b"1"), Event("end", b"{}")
        hub.append("r", [first])
        hub.publish("r", End(b"{}", [last]))
        assert given(streams) == [first, last]
        assert given(waits) == [End(b"{}")]

    def test_gives_no_logged_event_twice_whichever_way_it_comes(self):
        follower = Follower("t", "r", streams=True)
        one, two = Event("a", b"1", (7, 1)), Event("b", b"2", (7, 2))
        follower.give(one)
        follower.catch_up("r", [one, two], to_the_end=True)
        follower.give(two)
        assert given(follower) == [one, two]

    def test_leaves_to_the_log_what_comes_while_it_is_read(self):
        follower = Follower("t", "r", streams=True)
        follower.fall_behind()
        one, two = Event("a", b"1", (7, 1)), Event("b", b"2", (7, 2))
        follower.give(two)
        assert given(follower) == []
        # There is more than was read.
        assert follower.catch_up("r", [one], to_the_end=True)
        assert not follower.catch_up("r", [two], to_the_end=True)
        assert given(follower) == [one, two]

    def test_reads_on_from_the_log_once_a_slow_client_has_read(self):
        follower = Follower("t", "r", streams=True)
        drained: list[bool] = []
        follower.on_drained = lambda: drained.append(True)
        large = b"1" * (BACKLOG_BYTES // 2 + 1)
        events = [Event("a", large, (7, each)) for each in (1, 2)]
        for event in events:
            follower.give(event)
        assert given(follower) == events[:1]
        assert drained
        follower.catch_up("r", events[1:], to_the_end=True)
        assert given(follower) == events[1:]

    def test_goes_on_reading_logs_although_one_could_not_be_read(self):
        class Logs(Redis):
            def after(self, run_id: str, event: Any) -> Any:
                if run_id == "bad":
                    raise ValueError("no such event")
                return [LoggedEvent("values", b"1", (7, 1))], True

        hub = hub_of(Logs())
        _, good = (hub.follow("t", each, streams=True) for each in ("bad", "good"))
        with contextlib.suppress(ValueError):
            hub.look_at_events("bad")
        hub.look_at_events("good")
        assert given(good) == [Event("values", b"1", (7, 1))]

    def test_cuts_off_a_slow_client_whose_events_are_nowhere_else(self):
        follower = Follower("t", "r", streams=True)
        large = Event("a", b"1" * (BACKLOG_BYTES // 2 + 1))
        for _ in range(2):
            follower.give(large)
        assert given(follower) == [large, Cut.TOO_SLOW]

    def test_keeps_more_for_a_client_where_others_leave_room_for_that(self):
        large = Event("a", b"1" * (BACKLOG_BYTES // 2 + 1))
        room = Room(2 * len(large.data))
        first, second = (Follower("t", "r", streams=True) for _ in range(2))
        first.room = second.room = room
        for _ in range(3):
            first.give(large)
        for _ in range(2):
            second.give(large)
        assert given(second) == [large, Cut.TOO_SLOW]
        # What was taken, and who has gone, leave room for others.
        assert given(first) == [large] * 3
        for _ in range(3):
            first.give(large)
        first.close()
        assert room.take(2 * len(large.data))

    def test_gives_who_joins_nothing_that_is_logged_before_it_is_known_where_it_goes_on(self):
        one, two, three = (Event("a", b"1", (7, each)) for each in (1, 2, 3))
        redis = Log(one, two)
        hub = hub_of(redis)
        follower = hub.follow("t", "r", streams=True, placed=False)
        # Others in this process follow the same run.
        hub.look_at_events("r")
        hub.append("r", [two])
        assert given(follower) == []
        follower.place((7, 1))
        hub.look_at_events("r")
        redis.events.append(three)
        hub.append("r", [three])
        assert given(follower) == [two, three]

    def test_follows_the_runs_of_a_thread_in_turn(self):
        follower = ThreadFollower("t")
        ends: list[bool] = []
        follower.on_run_end = lambda: ends.append(True)
        # It is not known yet what came before it.
        assert not follower.begins("r2")
        follower.place_before((6, 0), ["r1"])
        assert follower.next_run("") == "r1"
        assert follower.next_run("") is None
        assert not follower.begins("r1")
        follower.catch_up("r1", [Event("end", b"{}", (7, 1))], to_the_end=True)
        assert ends
        assert follower.next_run("r1") == "r2"
        # What is told late of a run that is over is no run.
        assert not follower.begins("r1")
        assert follower.next_run("r2") is None
        assert follower.begins("r3")

    def test_misses_nothing_of_a_run_since_another_reads_the_log_of_the_one_before(self):
        follower = ThreadFollower("t")
        follower.place_before((6, 0), ["r1", "r2"])
        follower.next_run("")
        end, first, last = Event("end", b"{}", (7, 9)), Event("a", b"1", (8, 1)), (8, 2)
        follower.catch_up("r1", [end], to_the_end=True)
        assert follower.next_run("r1") == "r2"
        # It was read at the same time, and is told late.
        assert not follower.catch_up("r1", [end], to_the_end=True)
        follower.give(Event("end", b"{}", last))
        assert given(follower) == [end]
        assert follower.catch_up("r2", [first], to_the_end=True)
        assert given(follower) == [first]

    def test_has_one_read_a_log_at_a_time(self):
        held: list[bool] = []

        class Slow(Log):
            def after(self, run_id: str, event: EventId) -> tuple[list[Event], bool]:
                held.append(any(each.locked() for each in hub._read))
                return super().after(run_id, event)

        hub = hub_of(Slow(Event("a", b"1", (7, 1))))
        follower = hub.follow("t", "r", streams=True)
        hub.look_at_events("r")
        assert given(follower) == [Event("a", b"1", (7, 1))]
        assert held == [True]

    @pytest.mark.parametrize(
        ("status", "document", "names"),
        [
            ("success", b"1", ["values", "end"]),
            ("success", None, ["end"]),
            ("interrupted", b"1", ["end"]),
            ("running", None, []),
        ],
    )
    @pytest.mark.parametrize("after", [0, 7, (0, 0), None])
    def test_tells_who_wants_all_of_a_thread_how_its_latest_run_ended(
        self, monkeypatch, status, document, names, after
    ):
        monkeypatch.setattr(AtOnce, "help", lambda _, work: None)
        log = Threads()
        log.found = FollowedThread(silent="r")
        log.read = lambda run_id: stored(document, status=status)  # type: ignore[method-assign]
        follower = hub_of(log).follow_thread("t", after)
        assert follower is not None
        assert [each.name for each in given(follower)] == (names if after == 0 else [])

    def test_looks_at_each_run_of_a_thread_which_may_be_over_by_then(self, monkeypatch):
        put_off: list[Callable[[], None]] = []
        monkeypatch.setattr(AtOnce, "help", lambda _, work: put_off.append(work))
        log = Threads()
        log.found = FollowedThread(active=("r", (0, 0)))
        log.answers = [stored(b"1")]
        follower = hub_of(log).follow_thread("t", 0)
        assert follower is not None
        while put_off:
            put_off.pop(0)()
        assert [each.name for each in given(follower)] == ["values", "end"]


def test_who_follows_a_thread_as_another_leaves_it_goes_on_being_told(monkeypatch):
    put_off: list[Callable[[], None]] = []
    monkeypatch.setattr(AtOnce, "help", lambda _, work: put_off.append(work))
    log = Threads()
    hub = hub_of(log)
    first = hub.follow_thread("t", None)
    assert first is not None
    first.close()
    second = hub.follow_thread("t", None)
    assert second is not None
    for each in put_off:  # that nobody follows any more comes late
        each()
    assert log.unfollowed == 0
    put_off.clear()
    second.close()
    for each in put_off:
        each()
    assert log.unfollowed == 1
