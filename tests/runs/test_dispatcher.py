from __future__ import annotations

import threading

from app.runs.dispatcher import Dispatcher
from app.runs.executor import Executor
from app.storage.records import Claim, RunRecord, RunStatus
from tests.servers import PATIENCE


def claim_of(run_id: str) -> Claim:
    record = RunRecord(
        run_id=run_id,
        thread_id="t",
        assistant_id="a",
        graph_id="g",
        metadata={},
        status=RunStatus.RUNNING,
        kwargs={},
    )
    return Claim(
        record, token=1, attempt=1, cancel=None, kept=False, has_thread=True, is_graphs=True
    )


def test_a_stop_waits_for_the_run_that_is_just_being_taken() -> None:
    asked, answered = threading.Event(), threading.Event()
    taken = []

    def claim() -> tuple[Claim, float]:
        asked.set()
        answered.wait(PATIENCE)
        return claim_of("r"), 0.0

    dispatcher = Dispatcher(Executor(1), claim, taken.append)
    dispatcher.start()
    assert asked.wait(PATIENCE)
    stop = threading.Thread(target=dispatcher.stop)
    stop.start()
    answered.set()
    stop.join(PATIENCE)
    assert [each.record.run_id for each in taken] == ["r"]
    # Having stopped, it takes no other.
    asked.clear()
    dispatcher.wake()
    assert not asked.is_set()


def test_one_that_was_never_started_stops_at_once() -> None:
    Dispatcher(Executor(1), lambda: (None, None), lambda _: None).stop()
