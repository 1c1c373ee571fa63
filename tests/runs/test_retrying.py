"""A checkpoint that Redis does not take is tried again, and not without end."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from runwait.runs.request import RunRequest
from runwait.runs.retrying import RetryingRunner
from runwait.runs.run import Run
from runwait.storage.connection import StorageUnavailable
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
    runner, script = RetryingRunner(storage, run, lease=0.3), object()
    with pytest.raises(StorageUnavailable):
        if on_loop:
            asyncio.run(runner.acall(script, [], []))  # type: ignore[arg-type]
        else:
            runner.call(script, [], [])  # type: ignore[arg-type]
