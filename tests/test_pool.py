"""Threads for work that comes and goes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from runwait.pool import Pool, Turns
from tests.servers import PATIENCE

TURN = 60.0


class Later:
    """What is to be done some seconds later, which the test says."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.due: list[Callable[[], None]] = []

    def __call__(self, seconds: float, action: Callable[[], None]) -> None:
        assert seconds == TURN
        self.due.append(action)
        self.asked.release()

    def a_turn_goes_by(self) -> None:
        """Once somebody waits for that."""
        assert self.asked.acquire(timeout=PATIENCE)
        self.due.pop(0)()


class Work:
    """Something that lasts until it is told to end."""

    def __init__(self) -> None:
        self.begun, self.may_end, self.ended = (threading.Event() for _ in range(3))

    def __call__(self) -> None:
        self.begun.set()
        assert self.may_end.wait(PATIENCE)
        self.ended.set()

    def begins(self) -> bool:
        return self.begun.wait(PATIENCE)


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool with threads enough."""
    with Pool(10, "turn") as pool:
        yield pool


def test_in_turns_one_begins_when_another_has_ended(pool):
    turns = Turns(pool, TURN, Later())
    first, second = Work(), Work()
    turns.submit(first)
    turns.submit(second)
    assert first.begins()
    assert not second.begun.is_set()
    first.may_end.set()
    assert second.begins()
    assert first.ended.is_set()
    second.may_end.set()


def test_what_lasts_for_a_turn_keeps_no_other_from_beginning(pool):
    later = Later()
    turns = Turns(pool, TURN, later)
    works = [Work() for _ in range(4)]
    for each in works:
        turns.submit(each)
    for each, following in pairwise(works):
        assert each.begins()
        assert not following.begun.is_set()
        later.a_turn_goes_by()
    assert works[-1].begins()
    for each in works:
        each.may_end.set()


def test_a_turn_that_ended_in_time_is_not_taken_for_a_long_one(pool):
    later = Later()
    turns = Turns(pool, TURN, later)
    first, second, third = Work(), Work(), Work()
    for each in (first, second, third):
        turns.submit(each)
    first.may_end.set()
    assert second.begins()
    # The first one's time is up, while the second has just begun.
    later.a_turn_goes_by()
    assert not third.begun.is_set()
    later.a_turn_goes_by()
    assert third.begins()
    second.may_end.set()
    third.may_end.set()


def test_a_fault_in_one_turn_is_logged_and_the_next_begins(pool, caplog):
    turns = Turns(pool, TURN, Later())
    blocks, last = Work(), Work()
    turns.submit(blocks)

    def fails() -> None:
        raise ValueError("as asked")

    turns.submit(fails)
    turns.submit(last)
    blocks.may_end.set()
    assert last.begins()
    assert "as asked" in caplog.text
    last.may_end.set()


def test_turns_begin_again_after_all_were_done(pool):
    turns = Turns(pool, TURN, Later())
    for _ in range(3):
        work = Work()
        turns.submit(work)
        assert work.begins()
        work.may_end.set()
        assert work.ended.wait(PATIENCE)
