"""Timers: in order, once, and never in each other's way."""

from __future__ import annotations

import queue
import threading

from runwait.runs.timers import SMALL, Timers


def started() -> Timers:
    timers = Timers()
    timers.start()
    return timers


def test_timers_strike_in_the_order_of_their_times_whatever_the_order_of_asking():
    timers, struck = Timers(), queue.SimpleQueue()
    for seconds in (0.03, 0.01, 0.02):
        timers.after(seconds, lambda seconds=seconds: struck.put(seconds))
    timers.start()
    assert [struck.get(timeout=30) for _ in range(3)] == [0.01, 0.02, 0.03]


def test_an_earlier_timer_is_not_held_up_by_a_later_one_that_is_waited_for():
    timers, struck = started(), threading.Event()
    timers.after(3600, lambda: None)
    timers.after(0.01, struck.set)
    assert struck.wait(30)


def test_a_cancelled_timer_does_not_strike():
    timers, struck = Timers(), queue.SimpleQueue()
    timers.after(0.01, lambda: struck.put("first")).cancel()
    timers.after(0.02, lambda: struck.put("second"))
    timers.start()
    assert struck.get(timeout=30) == "second"
    assert struck.empty()


def test_cancelled_timers_do_not_pile_up():
    timers = Timers()
    kept = [timers.after(3600, lambda: None) for _ in range(10)]
    for _ in range(10 * SMALL):
        timers.after(3600, lambda: None).cancel()
    assert len(kept) <= len(timers) <= 2 * SMALL


def test_a_timer_that_fails_does_not_keep_others_from_striking():
    timers, struck = started(), threading.Event()
    timers.after(0, lambda: 1 / 0)
    timers.after(0.01, struck.set)
    assert struck.wait(30)
