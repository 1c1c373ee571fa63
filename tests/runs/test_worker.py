from __future__ import annotations

import queue
import threading

import pytest

from runwait.runs.executor import Executor
from runwait.runs.timers import Timers
from runwait.runs.worker import Worker
from runwait.storage.records import Action, Claim
from tests.runs.records import a_record
from tests.servers import PATIENCE


def claim_of(run_id: str, cancel: Action | None = None) -> Claim:
    record = a_record(run_id)
    return Claim(
        record, token=1, attempt=1, cancel=cancel, kept=False, has_thread=True, is_graphs=True
    )


def test_a_stop_waits_for_the_run_that_is_just_being_taken() -> None:
    asked, answered = threading.Event(), threading.Event()
    taken = []

    def claim(*, cancelled: bool = False) -> tuple[Claim, float]:
        asked.set()
        answered.wait(PATIENCE)
        return claim_of("r"), 0.0

    worker = Worker(Executor(1, Timers().after), claim, taken.append, lambda _: None)
    worker.start()
    assert asked.wait(PATIENCE)
    stop = threading.Thread(target=worker.stop)
    stop.start()
    answered.set()
    stop.join(PATIENCE)
    assert [each.record.run_id for each in taken] == ["r"]
    # Having stopped, it takes no other.
    asked.clear()
    worker.wake()
    assert not asked.is_set()


@pytest.mark.parametrize("takes", [True, False], ids=["no place", "takes none"])
def test_without_a_place_only_cancelled_runs_are_taken_and_ended(takes: bool) -> None:
    ended: queue.SimpleQueue[Claim] = queue.SimpleQueue()
    cancelled_ones = [claim_of("r", "interrupt")]
    asked = []

    def claim(*, cancelled: bool = False) -> tuple[Claim | None, None]:
        asked.append(cancelled)
        return (cancelled_ones.pop() if cancelled_ones else None), None

    def start(claim: Claim) -> None:
        raise AssertionError("there is no place for it")

    executor = Executor(1, Timers().after)
    assert not takes or executor.reserve()
    worker = Worker(executor, claim, start, ended.put)
    worker.start(executes=takes)
    assert ended.get(timeout=PATIENCE).record.run_id == "r"
    worker.stop()
    assert set(asked) == {True}
    assert worker.starved is takes


def test_one_that_was_never_started_stops_at_once() -> None:
    def claim(*, cancelled: bool = False) -> tuple[None, None]:
        return None, None

    Worker(Executor(1, Timers().after), claim, lambda _: None, lambda _: None).stop()
