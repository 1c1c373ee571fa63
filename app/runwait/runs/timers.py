"""Things to do later, on a thread of their own, so that no graph can hold them up."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("runwait.runs")


# A heap smaller than this is not worth tidying.
SMALL = 1000


class Timer:
    """Something that is to happen once, unless it is cancelled."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Have it not happen; harmless once it did."""
        self.action = None


class Timers:
    """One thread that waits for the next timer of the process."""

    def __init__(self) -> None:
        """Prepare; nothing happens before `start`."""
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._tidy_at = SMALL

    def start(self) -> None:
        """Run the timers from now on."""
        threading.Thread(target=self._run, name="timers", daemon=True).start()

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Call `action` once, that many seconds from now; it must not block."""
        timer = Timer(action)
        due = time.monotonic() + seconds
        with self._changed:
            heapq.heappush(self._heap, (due, next(self._order), timer))
            if self._heap[0][2] is timer:
                self._changed.notify()
            if len(self._heap) > self._tidy_at:
                # Most timers are cancelled long before their time.
                self._heap = [each for each in self._heap if each[2].action is not None]
                heapq.heapify(self._heap)
                self._tidy_at = max(SMALL, 2 * len(self._heap))
        return timer

    def __len__(self) -> int:
        """How many are kept; those that were cancelled may be among them."""
        return len(self._heap)

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._heap and self._heap[0][2].action is None:
                    heapq.heappop(self._heap)
                left = self._heap[0][0] - time.monotonic() if self._heap else None
                if left is None or left > 0:
                    self._changed.wait(left)
                    continue
                action = heapq.heappop(self._heap)[2].action
            if action is not None:
                try:
                    action()
                except Exception:
                    log.exception("fault in a timer")
                action = None  # what it has is not kept until the next
