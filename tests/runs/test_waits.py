"""Waits: what comes first counts."""

from __future__ import annotations

from runwait.runs.waits import Ended, Wait, Waiters


def test_there_is_nothing_until_it_is_given():
    wait = Wait("t", "r")
    assert wait.document(0) is None
    wait.give(b"{}")
    assert wait.document(0) == b"{}"


def test_what_was_given_first_stays():
    wait = Wait("t", "r")
    wait.give(b"1")
    wait.client_gone()
    assert [wait.document(0), wait.document(0)] == [b"1", b"1"]


def test_a_client_that_goes_away_ends_the_wait_and_is_reported():
    wait, reported = Wait("t", "r"), []
    wait.on_gone = lambda: reported.append(True)
    wait.client_gone()
    assert wait.document(0) is Ended.CLIENT_GONE
    assert reported == [True]


def test_closing_twice_is_closing_once():
    wait, closed = Wait("t", "r"), []
    wait.on_close = lambda: closed.append(True)
    wait.close()
    wait.close()
    assert closed == [True]


def test_no_more_may_wait_than_there_are_places():
    waiters = Waiters(2)
    assert [waiters.enter() for _ in range(3)] == [True, True, False]
    waiters.leave()
    assert waiters.enter()
