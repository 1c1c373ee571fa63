"""A run while a process has it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from runwait.runs.executor import Execution
from runwait.runs.protocol.events import PROTOCOL, ProtocolTranslation
from runwait.runs.request import RunRequest
from runwait.runs.timers import Timer
from runwait.runs.translation import Pair, Translation
from runwait.storage.events import EventId
from runwait.storage.outbox import NewWebhook
from runwait.storage.records import RunRecord, ThreadEnd, now

# How far apart this process's clock and Redis's may be for the times of events, in microseconds.
SKEW = 5_000_000


class Phase(Enum):
    """Where a run stands in this process."""

    EXECUTING = auto()
    ENDING = auto()  # what ends it is decided, and is being recorded
    ENDED = auto()  # its document is there
    LEFT = auto()  # it is another process's, or is to be


@dataclass(frozen=True)
class Ending:
    """How a run ended, for as long as that is not recorded.

    Attributes:
        document: the answer, JSON.
        stopped: it was ended from outside, so that the graph may still be at work.
        rolled_back: nothing of it is to be left.
        refused: a channel refused what its last step wrote, which is to be taken back.
        thread: what becomes of its thread, if that outlives it.
        webhook: whom to notify of it, of what, and in which trace.
        events: the last events of its stream, names and data.
        ids: their places in its log, if there is one.
        at: when, by the monotonic clock, in seconds.
    """

    document: bytes
    stopped: bool
    rolled_back: bool
    thread: ThreadEnd | None
    webhook: NewWebhook | None
    refused: bool = False
    events: Sequence[Pair] = ()
    ids: Sequence[EventId] | Sequence[None] = ()
    at: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class Run:
    """A run that executes in this process, or whose end is not recorded yet.

    Attributes:
        token: its fencing token; None while Redis knows nothing of it.
        attempt: how often it was started, this time included.
        losses: how often it was lost before.
        has_thread: whether it is its turn on a kept thread.
        phase: where it stands here.
        unreadable: its record in Redis cannot be read.
        record_lost: Redis lost its record, while it executed.
        leased_until: until when, by the monotonic clock, no other process can have claimed it.
        logged: whether its events are logged, so that they can be read in all processes.
        has_logged_values: whether values were among those that are.
        translation: makes its events.
        span: OpenTelemetry's, of this attempt, if there is one.
        trace: the trace context of what comes of it.
        enter: called in the context that the graph runs in.
        settled: ends it, once the graph that was stopped is; None otherwise.
    """

    record: RunRecord
    request: RunRequest
    token: int | None = None
    attempt: int = 1
    losses: int = 0
    has_thread: bool = True
    started: float = field(default_factory=time.monotonic)
    started_at: str = field(default_factory=now)
    execution: Execution | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    phase: Phase = Phase.EXECUTING
    ending: Ending | None = None
    feedback: Future[dict[str, str]] | None = None
    limit: Timer | None = None
    unreadable: bool = False
    record_lost: bool = False
    leased_until: float = 0.0
    logged: bool = False
    has_logged_values: bool = False
    span: Any = None
    trace: Mapping[str, str] = field(default_factory=dict)
    enter: Callable[[], object] = lambda: None
    settled: Callable[[], None] | None = None
    _numbered: int = 0

    def __post_init__(self) -> None:
        """Prepare to make its events."""
        asked = self.request
        self.trace = self.trace or asked.trace
        self.logged = self.logged or asked.stream_resumable
        if PROTOCOL in asked.stream_mode:
            answers = (asked.command or {}).get("resume")
            self.translation: Translation = ProtocolTranslation(
                answers if isinstance(answers, dict) else ()
            )
        else:
            modes = [each for each in asked.stream_mode if each != "events" or not asked.waits]
            self.translation = Translation(modes, subgraphs=asked.stream_subgraphs)

    def next_ids(self, count: int) -> list[EventId] | list[None]:
        """The places of its next events in the log, if there is one; with its lock held."""
        if not self.logged or self.token is None:
            return [None] * count
        since = int((time.monotonic() - self.started) * 1e6)
        # By this process's clock, as the times of checkpoints are, unless it is far from Redis's.
        by_clock = time.time_ns() // 1000 - self.token
        first = max(min(by_clock, since + SKEW), since - SKEW, self._numbered + 1)
        self._numbered = first + count - 1
        return [(self.token, each) for each in range(first, first + count)]

    @property
    def lacks_values(self) -> bool:
        """Whether its log has yet to be given the values that were asked for."""
        asked = self.request.stream_mode or ["values"]
        return self.logged and not self.has_logged_values and "values" in asked

    @property
    def run_id(self) -> str:
        """Its id."""
        return self.record.run_id

    @property
    def kept(self) -> bool:
        """Whether its thread outlives it."""
        return self.request.kept

    @property
    def executing(self) -> bool:
        """Whether nothing has ended it yet."""
        return self.phase is Phase.EXECUTING

    @property
    def values(self) -> Any:
        """The graph's values so far; None before the first."""
        return self.execution.values if self.execution is not None else None

    def decide(self, phase: Phase) -> bool:
        """Decide what becomes of it, unless that is decided; whether this call did."""
        with self.lock:
            if self.phase is not Phase.EXECUTING:
                return False
            self.phase = phase
        if self.limit is not None:
            self.limit.cancel()
        return True
