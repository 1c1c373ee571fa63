"""Claims runs that are ready, whichever process they came to, and starts them here.

Ready are runs whose time or turn has come, that found no place where they came to, or whose process
was lost or gave them back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from runwait.graphs.graph import Graph
from runwait.pool import Sleeper, jittered
from runwait.runs import ending
from runwait.runs.executor import Executor
from runwait.runs.observer import Observer
from runwait.runs.request import RunRequest
from runwait.runs.run import Run
from runwait.runs.runner import TRIES, Runner, thread_of, with_ids
from runwait.settings import Settings
from runwait.storage.connection import StorageUnavailable
from runwait.storage.records import Claim, RunRecord, RunRecords

log = logging.getLogger("runwait.runs")

# Longest wait for a run that is just being claimed, when the process stops.
LAST_SECONDS = 1.0
# A run whose graph this process does not have is tried again after so many seconds, for as long as
# it may take to roll out a new version of the graphs.
GRAPH_PAUSE_SECONDS = 2.0
GRAPH_PATIENCE_SECONDS = 600.0
# A process that is stopped and gives back its run is no fault of the run; but for no run is that
# done without end. So many stops weigh as much as one loss.
STOPS_PER_LOSS = 10


class Claiming(Protocol):
    """Claims a run that is ready, or says in how many seconds the next is due."""

    def __call__(self, *, cancelled: bool = False) -> tuple[Claim | None, float | None]:
        """See `RunRecords.claim`."""


class Worker(Sleeper):
    """A thread that sleeps until a run is ready: woken by a message, or when the next is due.

    A run that was cancelled before it was started is only to be ended: for that no place is needed.
    """

    def __init__(
        self,
        executor: Executor,
        claim: Claiming,
        start_run: Callable[[Claim], None],
        end_run: Callable[[Claim], None],
    ) -> None:
        """Prepare.

        Args:
            executor: where places are reserved.
            claim: claims a run that is ready, or says when the next is due.
            start_run: starts it in the place that was reserved.
            end_run: ends one that was cancelled.
        """
        super().__init__("worker")
        self._executor = executor
        self._claim = claim
        self._start_run = start_run
        self._end_run = end_run
        self._executes = True
        self._starved = False
        executor.on_free = self._freed

    def start(self, *, executes: bool = True) -> None:
        """Claim runs from now on.

        Args:
            executes: whether to claim any to execute; else only those that are to be ended.
        """
        self._executes = executes
        super().start()

    def stop(self, seconds: float = LAST_SECONDS) -> None:
        """Claim no more; what is just being claimed is there on return."""
        super().stop(seconds)

    @property
    def starved(self) -> bool:
        """Whether runs may be ready for which there is no place: a new one must not pass them."""
        return self._starved

    def _freed(self) -> None:
        if self._starved:
            self.wake()

    def _work(self) -> float | None:
        """Claim what is ready; the seconds until the next is due."""
        while not self.stopped:
            # Said before it is tried, so that a place which comes free in between wakes this.
            self._starved = self._executes
            has_place = self._executes and self._executor.reserve()
            if has_place:
                self._starved = False
            claim = due = None
            try:
                claim, due = self._claim(cancelled=not has_place)
            except StorageUnavailable as error:
                log.debug("no run could be claimed: %s", error)  # woken once Redis is back
            finally:
                if has_place and claim is None:
                    self._executor.release()
            if claim is None:
                return None if due is None else jittered(due)
            if has_place:
                self._start_run(claim)
            else:
                self._end_run(claim)
        return None


class Starter:
    """Starts runs that were claimed, or ends those that cannot or must not be started."""

    def __init__(
        self,
        settings: Settings,
        graphs: Mapping[str, Graph],
        records: RunRecords,
        executor: Executor,
        runner: Runner,
        observer: Observer,
    ) -> None:
        """Prepare."""
        self._settings = settings
        self._graphs = graphs
        self._records = records
        self._executor = executor
        self._runner = runner
        self._observer = observer

    def start(self, claim: Claim) -> None:
        """Go on with a run that was ready, in the place that was reserved for it."""
        if self._has_been_postponed(claim) or not self._start(claim):
            self._executor.release()

    def end(self, claim: Claim) -> None:
        """End a run that was cancelled before it was started, which needs no place."""
        self._start(claim)

    def _start(self, claim: Claim) -> bool:
        """Whether it executes here now; not if it was ended, or left."""
        record, problem = claim.record, claim.problem
        try:
            run = _run_of(claim, RunRequest.restored(record))
        except Exception as error:  # whatever stands in a record must not come again and again
            problem = problem or str(error)
            run = _run_of(claim, _what_is_left(claim))
        run.unreadable = problem is not None
        self._runner.enter(run)
        try:
            most = self._settings.run_max_attempts
            # Where even a cancel could not be carried out so often, it is left at ending the run.
            if claim.cancel is not None and claim.losses <= most:
                rolled_back = claim.cancel == "rollback"
                self._runner.stop_run(run, ending.cancelled(None), roll_back=rolled_back)
            elif problem is not None:
                log.error("run %s cannot be executed: %s", record.run_id, problem)
                self._runner.stop_run(run, ending.unreadable(problem))
            elif run.kept and not claim.has_thread:
                self._runner.stop_run(run, ending.state_lost())
            elif claim.losses >= most or claim.stops >= most * STOPS_PER_LOSS:
                self._runner.stop_run(run, ending.given_up(claim.attempt - 1))
            elif record.graph_id not in self._graphs:
                gone = ValueError(f"there is no graph {record.graph_id!r} any more")
                self._runner.stop_run(run, ending.failed(gone))
            else:
                if claim.has_thread and not claim.is_graphs:
                    self._assign_thread(record)
                self._observer.claimed(run)
                self._runner.start_run(run)
                return True
        except StorageUnavailable as error:
            self._runner.leave_unfinished(run, error)
        except Exception as error:
            log.exception("fault at the start of run %s", record.run_id)
            self._runner.finish(run, ending.faulted(), error)
        return False

    def _has_been_postponed(self, claim: Claim) -> bool:
        """Leave a run to others whose graph this process does not have.

        While a new version of the graphs is rolled out, old processes meet runs of new graphs.
        """
        record = claim.record
        if claim.cancel or claim.problem or record.graph_id in self._graphs:
            return False
        try:
            postponed = self._records.postpone(
                record.run_id, claim.token, GRAPH_PAUSE_SECONDS, GRAPH_PATIENCE_SECONDS
            )
        except StorageUnavailable as error:
            log.warning("run %s is left until its lease lapses: %s", record.run_id, error)
            return True
        if postponed:
            self._observer.postponed(record)
        return postponed

    def _assign_thread(self, record: RunRecord) -> None:
        """The thread is that of the run's graph from now on."""
        seen: bytes | None = b""
        thread = thread_of(record, self._settings)
        for _ in range(TRIES):
            seen = self._records.assign_thread(record, thread, seen or b"")
            if seen is None:
                return
            thread = with_ids(seen, record, thread)


def _run_of(claim: Claim, request: RunRequest) -> Run:
    return Run(
        claim.record,
        request,
        token=claim.token,
        attempt=claim.attempt,
        losses=claim.losses,
        has_thread=claim.has_thread,
        logged=claim.listened,
    )


def _what_is_left(claim: Claim) -> RunRequest:
    """As much of a request that cannot be read as it takes to end its run."""
    webhook = claim.record.kwargs.get("webhook")
    return RunRequest(
        assistant_id=claim.record.assistant_id,
        request_id="",
        on_completion="keep" if claim.kept else "delete",
        webhook=webhook if isinstance(webhook, str) else None,
    )
