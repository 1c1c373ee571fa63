"""Checkpoints of a run that outlast a short absence of Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from runwait.runs.run import Run
from runwait.storage.connection import AnyScript, Storage, StorageUnavailable, pauses

LONGEST_PAUSE_SECONDS = 1.0


class RetryingRunner:
    """Runs the scripts of a run's checkpointer, again and again while Redis is away.

    Only for as long as no other process can have taken the run; then it raises StorageUnavailable,
    and the run is for others to go on with.
    """

    def __init__(self, storage: Storage, run: Run) -> None:
        self._storage = storage
        self._run = run

    def call(
        self, script: AnyScript, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """`Storage.call`."""
        waiting = pauses(LONGEST_PAUSE_SECONDS)
        while True:
            try:
                return self._storage.call(script, keys, args)
            except StorageUnavailable:
                if self._is_over():
                    raise
            time.sleep(next(waiting))

    async def acall(
        self, script: AnyScript, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """`Storage.acall`."""
        waiting = pauses(LONGEST_PAUSE_SECONDS)
        while True:
            try:
                return await self._storage.acall(script, keys, args)
            except StorageUnavailable:
                if self._is_over():
                    raise
            await asyncio.sleep(next(waiting))

    def _is_over(self) -> bool:
        return not self._run.executing or time.monotonic() >= self._run.leased_until
