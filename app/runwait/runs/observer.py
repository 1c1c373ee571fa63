"""Who hears of each transition of the runs in a process: logs, metrics and traces."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from runwait.runs.ending import Outcome
from runwait.runs.run import Run
from runwait.runs.watch import Block
from runwait.storage.outbox import Webhook, WebhookOutcome
from runwait.storage.records import RunRecord
from runwait.trace_context import id_of

log = logging.getLogger("runwait.runs")


@dataclass(frozen=True)
class Load:
    """What a process does at a moment: runs that execute, who waits for ends and who for events."""

    executing: int
    waiters: int
    streams: int


class Observer:
    """Hears of transitions, on the thread that makes them; it must not block, nor raise.

    This one leaves all of it alone: others say what they make of it.
    """

    def started(self, run: Run) -> None:
        """A run executes here from now on, admitted here or claimed."""

    def claimed(self, run: Run) -> None:
        """The process claimed a run that was ready, and is about to start it."""

    def postponed(self, record: RunRecord) -> None:
        """A claimed run was left to a process that has its graph."""

    def finished(
        self, run: Run, outcome: Outcome, error: BaseException | None, *, stands: bool
    ) -> None:
        """A run ended here; another process has it, or had it, unless the end stands."""

    def left(self, run: Run, error: BaseException) -> None:
        """A run is left to another process."""

    def handed_back(self, run: Run) -> None:
        """The process stops, and gave a run up for others to claim."""

    def cron_started(self, cron_id: str, record: RunRecord, *, late: float, missed: int) -> None:
        """This process started a run of a cron, so many seconds after it was due; so many due
        times before were missed."""

    def blocked(self, block: Block) -> None:
        """A node has kept the event loop from all other asynchronous runs for a second."""

    def beat(self, seconds: float, recovered: int) -> None:
        """Redis took so long for a beat, which made so many runs of lost processes ready again."""

    def loaded(self, load: Load) -> None:
        """What the process does, a few times in the length of a lease."""

    def attempted(self, webhook: Webhook, outcome: WebhookOutcome) -> None:
        """An attempt to deliver a webhook came to its end."""


class Observers(Observer):
    """Tells several observers, in turn."""

    def __init__(self, *observers: Observer) -> None:
        """Those that are to hear."""
        self._observers = observers

    def started(self, run: Run) -> None:
        """See Observer, here and below."""
        for each in self._observers:
            each.started(run)

    def claimed(self, run: Run) -> None:
        for each in self._observers:
            each.claimed(run)

    def postponed(self, record: RunRecord) -> None:
        for each in self._observers:
            each.postponed(record)

    def finished(
        self, run: Run, outcome: Outcome, error: BaseException | None, *, stands: bool
    ) -> None:
        for each in self._observers:
            each.finished(run, outcome, error, stands=stands)

    def left(self, run: Run, error: BaseException) -> None:
        for each in self._observers:
            each.left(run, error)

    def handed_back(self, run: Run) -> None:
        for each in self._observers:
            each.handed_back(run)

    def blocked(self, block: Block) -> None:
        for each in self._observers:
            each.blocked(block)

    def beat(self, seconds: float, recovered: int) -> None:
        for each in self._observers:
            each.beat(seconds, recovered)

    def loaded(self, load: Load) -> None:
        for each in self._observers:
            each.loaded(load)

    def attempted(self, webhook: Webhook, outcome: WebhookOutcome) -> None:
        for each in self._observers:
            each.attempted(webhook, outcome)

    def cron_started(self, cron_id: str, record: RunRecord, *, late: float, missed: int) -> None:
        for each in self._observers:
            each.cron_started(cron_id, record, late=late, missed=missed)


def _extra(run: Run) -> dict[str, object]:
    ids = {"run_id": run.run_id, "request_id": run.request.request_id}
    return {**ids, **_user(run), "attempt": run.attempt, **id_of(run.trace)}


def _user(run: Run) -> dict[str, object]:
    """Whose run it is, if that is known."""
    return {} if run.request.user is None else {"user": run.request.user["identity"]}


class LogLines(Observer):
    """Writes a line for each transition that somebody may look for."""

    def __init__(self) -> None:
        """Nothing was warned of yet."""
        self._blocking: set[tuple[str, str]] = set()

    def started(self, run: Run) -> None:
        """For debugging alone: each run has a line at its end."""
        log.debug("run started", extra=_extra(run))

    def claimed(self, run: Run) -> None:
        """At which attempt it is goes along."""
        log.info("run taken", extra=_extra(run))

    def postponed(self, record: RunRecord) -> None:
        """A warning, since somebody may have forgotten to roll out a graph."""
        log.warning(
            "run %s is left to a process that has the graph %r", record.run_id, record.graph_id
        )

    def finished(
        self, run: Run, outcome: Outcome, error: BaseException | None, *, stands: bool
    ) -> None:
        """One line a run, with all its ids; a warning where the graph raised."""
        record = run.record
        log.log(
            logging.INFO if error is None else logging.WARNING,
            "run ended" if stands else "run ended elsewhere",
            exc_info=error,
            extra={
                "run_id": record.run_id,
                "thread_id": record.thread_id,
                "assistant_id": record.assistant_id,
                "graph": record.graph_id,
                "request_id": run.request.request_id,
                **id_of(run.trace),
                **_user(run),
                "status": str(outcome.status),
                "duration_ms": round((time.monotonic() - run.started) * 1000, 1),
                **({"error": type(error).__name__} if error is not None else {}),
            },
        )

    def left(self, run: Run, error: BaseException) -> None:
        """A warning: it takes longer now."""
        log.warning("run %s goes on elsewhere: %s", run.run_id, error)

    def handed_back(self, run: Run) -> None:
        """It goes on with another line, in another process."""
        log.info("run handed back", extra=_extra(run))

    def cron_started(self, cron_id: str, record: RunRecord, *, late: float, missed: int) -> None:
        """A warning where some were missed."""
        log.log(
            logging.WARNING if missed else logging.INFO,
            "cron started a run",
            extra={
                "cron_id": cron_id,
                "run_id": record.run_id,
                "thread_id": record.thread_id,
                "late_ms": round(late * 1000),
                "missed": missed,
            },
        )

    def blocked(self, block: Block) -> None:
        """One warning for each node, which does it again with every run; others are counted."""
        where = block.graph, block.node
        log.log(
            logging.DEBUG if where in self._blocking else logging.WARNING,
            "node %r of graph %r keeps all asynchronous runs waiting, for more than a second; "
            "what blocks belongs into asyncio.to_thread, or into a plain def:\n%s",
            block.node or "?",
            block.graph or "?",
            block.stack,
            extra={"run_id": block.run_id, "blocks": block.number},
        )
        self._blocking.add(where)
