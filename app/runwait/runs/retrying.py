"""Checkpoints of a run that outlast a short absence of Redis, and come after its events."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any

from runwait.runs.event_log import EventLog
from runwait.runs.run import Run
from runwait.storage.connection import AnyScript, Storage, StorageUnavailable, pauses

LONGEST_PAUSE_SECONDS = 1.0


class RetryingRunner:
    """Runs the scripts of a run's checkpointer, again and again while Redis is away.

    Only for as long as no other process can have taken the run, and no longer than a lease, since
    it may be this script alone that Redis does not take. Then it raises StorageUnavailable, and the
    run is for others to go on with.

    They do so from its last checkpoint, and nothing before that happens again: so a checkpoint is
    stored once the events before it are logged, if they are to be.
    """

    def __init__(self, storage: Storage, event_log: EventLog, run: Run, lease: float) -> None:
        self._storage = storage
        self._event_log = event_log
        self._run = run
        self._lease = lease

    def call(
        self, script: AnyScript, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """`Storage.call`."""
        waiting, until = pauses(LONGEST_PAUSE_SECONDS), math.inf
        while True:
            try:
                if not getattr(script, "large", False):  # those only read
                    self._event_log.flush(self._run)
                return self._storage.call(script, keys, args)
            except StorageUnavailable:
                until = min(until, time.monotonic() + self._lease)
                if self._is_over(until):
                    raise
            time.sleep(next(waiting))

    async def acall(
        self, script: AnyScript, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """`Storage.acall`."""
        waiting, until = pauses(LONGEST_PAUSE_SECONDS), math.inf
        while True:
            try:
                if not getattr(script, "large", False):
                    await self._event_log.aflush(self._run)
                return await self._storage.acall(script, keys, args)
            except StorageUnavailable:
                until = min(until, time.monotonic() + self._lease)
                if self._is_over(until):
                    raise
            await asyncio.sleep(next(waiting))

    def _is_over(self, until: float) -> bool:
        now = time.monotonic()
        return not self._run.executing or now >= min(until, self._run.leased_until)
