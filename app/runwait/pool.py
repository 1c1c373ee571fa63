"""Threads for work that comes and goes: pools, an event loop on one, one that sleeps meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

log = logging.getLogger("runwait.runs")

# A thread cannot wait for any number of seconds.
LONGEST_PAUSE_SECONDS = 3600.0
# For a second thread to start.
STARTING_SECONDS = 1.0
# After a fault.
AGAIN_SECONDS = 1.0
# Processes that wait for the same thing do not all ask at the same moment.
JITTER_SECONDS = 0.005


_calling = threading.local()


@contextlib.contextmanager
def putting_off() -> Iterator[Callable[[], Callable[[], object] | None]]:
    """Put off, in this thread, what follows on what it does: no other has to be woken for that.

    Yields:
        To be called at the end: gives what is to be done then, if there is anything.
    """
    put_off: list[tuple[Pool, Callable[[], object]]] = []
    _calling.put_off = put_off
    try:
        yield lambda: put_off.pop()[1] if put_off else None
    finally:
        _calling.put_off = None
        while put_off:
            pool, work = put_off.pop()
            pool.submit(work)


def put_nothing_off() -> None:
    """This thread is about to wait, perhaps for what it has put off: others are to do that."""
    put_off = getattr(_calling, "put_off", None)
    while put_off:
        pool, work = put_off.pop()
        pool.submit(work)


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

    def submit_or_put_off(self, work: Callable[[], object]) -> None:
        """Have it done by the calling thread, if that puts things off (`putting_off`) and has put
        off nothing yet; else by one of these."""
        put_off: list[tuple[Pool, Callable[[], object]]] | None = getattr(_calling, "put_off", None)
        if put_off is None or put_off:
            self.submit(work)
        else:
            put_off.append((self, work))

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise


class Turns:
    """Work that nobody waits for takes turns on a pool's threads: one begins when another has
    ended, or has lasted for a turn.

    A burst of short work so leaves the processor to those who are waited for, and work that waits
    itself, for minutes perhaps, keeps no other from beginning.
    """

    def __init__(
        self, pool: Pool, seconds: float, after: Callable[[float, Callable[[], None]], object]
    ) -> None:
        """Prepare.

        Args:
            pool: whose threads do it.
            seconds: how long a turn is.
            after: does something that does not block, some seconds later.
        """
        self._pool = pool
        self._seconds = seconds
        self._after = after
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], object]] = deque()
        # How many there were, the one that is taken included.
        self._turns = 0
        self._is_taken = self._is_watched = False

    def submit(self, work: Callable[[], object]) -> None:
        """Have it done, in its turn."""
        with self._lock:
            self._waiting.append(work)
            if self._is_taken:
                self._watch()
            else:
                self._is_taken = True
                self._begin()

    def _begin(self) -> None:
        """Have another thread begin a turn; with the lock."""
        self._turns += 1
        self._pool.submit(self._take_turns, self._turns)

    def _take_turns(self, mine: int) -> None:
        """Do what waits, one after the other, unless another thread has the turn meanwhile."""
        while True:
            with self._lock:
                if not self._waiting:
                    if self._turns == mine:
                        self._is_taken = False
                    return
                work = self._waiting.popleft()
                self._watch()
            try:
                work()
            except Exception:
                log.exception("fault in what took its turn")
            del work
            with self._lock:
                if self._turns != mine:
                    return
                self._turns = mine = mine + 1

    def _watch(self) -> None:
        """Look in time whether this turn is over, if somebody waits for the next; with the lock."""
        if self._waiting and not self._is_watched:
            self._is_watched = True
            self._after(self._seconds, partial(self._look, self._turns))

    def _look(self, turn: int) -> None:
        with self._lock:
            self._is_watched = False
            if self._turns != turn:
                self._watch()
            elif self._waiting:
                self._begin()


class LendingPool(Pool):
    """A pool of which half the threads may be lent to longer work, but for one that is left."""

    def __init__(self, most: int, name: str) -> None:
        """Prepare, as `Pool`."""
        super().__init__(most, name)
        self._lock = threading.Lock()
        self._lent = 0

    def start(self) -> None:
        """Start two threads, if the machine gives them: the one can be lent."""
        both = threading.Barrier(2, timeout=STARTING_SECONDS)
        for _ in range(2):
            self.submit(both.wait)

    @contextlib.contextmanager
    def lent(self) -> Iterator[bool]:
        """Whether the calling thread may do longer work within the `with`."""
        with self._lock:
            lent = self._lent < min(len(self._threads) - 1, self._max_workers // 2)
            self._lent += lent
        try:
            yield lent
        finally:
            if lent:
                with self._lock:
                    self._lent -= 1


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


class Sleeper:
    """A thread that does all there is to do, and sleeps until it is woken or until more is due."""

    def __init__(self, name: str) -> None:
        """Prepare; `name` is the thread's."""
        self.stopped = False
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Work from now on."""
        self._thread.start()

    def wake(self) -> None:
        """There may be something to do."""
        self._awake.set()

    def stop(self, seconds: float = 0.0) -> None:
        """Begin nothing more; wait so long for what is under way."""
        self.stopped = True
        self._awake.set()
        if seconds and self._thread.is_alive():
            self._thread.join(seconds)

    def _work(self) -> float | None:
        """Do all there is to do, until `stopped`; the seconds until more is, None if unknown."""
        raise NotImplementedError

    def _run(self) -> None:
        pause: float | None = 0.0
        while not self.stopped:
            self._awake.wait(None if pause is None else min(pause, LONGEST_PAUSE_SECONDS))
            self._awake.clear()
            try:
                pause = self._work()
            except Exception:
                log.exception("fault in the thread %s", self._thread.name)
                pause = AGAIN_SECONDS


def jittered(seconds: float) -> float:
    """The time until something is due, for one of those who wait for it."""
    return seconds + random.uniform(0, JITTER_SECONDS)  # nosec B311 # no secret
