"""Threads that start when there is work for them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor


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
