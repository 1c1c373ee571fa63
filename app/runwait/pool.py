"""Threads that start when there is work for them: pools of them, and one with an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Pool(ThreadPoolExecutor):
    """A pool that makes do with fewer threads where the machine gives no more.

    Python's own refuses work then, and does it all the same once a thread comes free.
    """

    def __init__(self, most: int, name: str) -> None:
        """Prepare; no thread is started before `start`, or before there is work.

        Args:
            most: how many threads there may be.
            name: what their names begin with.
        """
        super().__init__(most, thread_name_prefix=name)

    def start(self) -> None:
        """Start one thread, so that there is one whatever the machine gives later."""
        self.submit(int)

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise


class Loop:
    """An event loop on a thread of its own, from the first time that it has work."""

    def __init__(self, name: str) -> None:
        """Prepare.

        Args:
            name: the thread's.
        """
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, make: Callable[[], Any]) -> Future[Any]:
        """Have the loop await what `make` makes; the future has what that comes to."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name=self._name, daemon=True
                ).start()
        return asyncio.run_coroutine_threadsafe(_guarded(make), self._loop)


async def _guarded(make: Callable[[], Any]) -> Any:
    try:
        return await make()
    except (SystemExit, KeyboardInterrupt) as error:  # would end the loop
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
