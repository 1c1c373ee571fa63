"""A checkpoint that Redis does not take is tried again, and not without end; events come first."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from runwait.runs.event_log import EventLog
from runwait.runs.events import Event
from runwait.runs.request import RunRequest
from runwait.runs.retrying import RetryingRunner
from runwait.runs.run import Run
from runwait.storage.connection import StorageUnavailable
from tests.runs.test_event_log import Logged, Redis
from tests.runs.test_observer import RECORD


class Refusing:
    """A storage that takes everything but what is asked here."""

    def call(self, *_: Any) -> Any:
        raise StorageUnavailable("too large")

    async def acall(self, *_: Any) -> Any:
        self.call()


@pytest.mark.parametrize("on_loop", [False, True])
def test_a_script_that_is_refused_alone_is_given_up_within_a_lease(on_loop: bool) -> None:
    # The beat goes on to renew the lease of the run.
    run = Run(
        RECORD, RunRequest(assistant_id="a", request_id="q"), leased_until=time.monotonic() + 1e6
    )
    storage: Any = Refusing()
    event_log = EventLog(cast(Any, Redis()), Logged())
    runner, script = RetryingRunner(storage, event_log, run, lease=0.3), object()
    with pytest.raises(StorageUnavailable):
        if on_loop:
            asyncio.run(runner.acall(script, [], []))  # type: ignore[arg-type]
        else:
            runner.call(script, [], [])  # type: ignore[arg-type]


@pytest.mark.parametrize("on_loop", [False, True])
def test_a_checkpoint_is_stored_once_the_events_before_it_are_logged(on_loop: bool) -> None:
    run = Run(RECORD, RunRequest(assistant_id="a", request_id="q"))
    told = Logged()
    event_log = EventLog(cast(Any, Redis()), told)
    logged_before: list[int] = []

    class Taking:
        def call(self, *_: Any) -> None:
            logged_before.append(len(told.events))

        async def acall(self, *_: Any) -> None:
            self.call()

    runner = RetryingRunner(cast(Any, Taking()), event_log, run, lease=1)
    script = cast(Any, object())
    event_log.append(run, [Event("values", b"{}", (1, number)) for number in range(3)])
    event_log.start()
    if on_loop:
        asyncio.run(runner.acall(script, [], []))
    else:
        runner.call(script, [], [])
    assert logged_before == [3]
