"""The runs that this process has: it starts them, and sees each to its end.

The first thing that ends a run (the graph, a cancel, the time limit, a shutdown) settles it: the
end is recorded, then everyone who waits is given the document. A run on a thread of its own needs
no Redis for that: what could not be recorded is kept and recorded once Redis is back.

A process can be taken for dead while it only slept. Then another has the run; whatever this one
still records or writes to the thread is refused by the fencing token, and those who wait here
are answered with what the other one makes of it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from langgraph.store.base import BaseStore

from runwait.graphs.graph import Graph
from runwait.runs import feedback, outcomes, recovery
from runwait.runs.executor import Execution, Executor, Job
from runwait.runs.fit import StateUnfit, raised_in
from runwait.runs.live import Ending, LiveRun
from runwait.runs.outcomes import Outcome
from runwait.runs.patience import Patient
from runwait.runs.remote import RemoteWaits
from runwait.runs.requests import RunRequest
from runwait.runs.savers import Savers
from runwait.runs.timers import Timers
from runwait.runs.waits import Ended
from runwait.serialization import dumps
from runwait.settings import Settings
from runwait.storage.checkpoint import Fenced, ScriptRunner
from runwait.storage.connection import Storage, StorageUnavailable
from runwait.storage.metadata import index_terms
from runwait.storage.records import (
    DELIVERED_SECONDS,
    Action,
    Beat,
    Claim,
    NewThread,
    RunRecord,
    RunRecords,
    RunStatus,
    ThreadEnd,
    UnreadableRecord,
)

log = logging.getLogger("runwait.runs")

# Beats in the time of a lease. One may fail or come late, and half a lease pass without Redis (see
# lua/runs/beat.lua), before it lapses.
LEASE_BEATS = 4
# Time for ends that are just being recorded, when the process stops.
LAST_SECONDS = 1.0
# How often the metadata of a thread may change while a run on it is taken in.
TRIES = 5
# A run whose graph this process does not have is tried again after so many seconds, for as long as
# it may take to roll out a new version of the graphs.
GRAPH_PAUSE_SECONDS = 2.0
GRAPH_PATIENCE_SECONDS = 600.0
# Longest wait for LangSmith, once a run has ended.
FEEDBACK_SECONDS = 2.0


class LocalRuns:
    """The runs of this process, by their ids."""

    def __init__(
        self,
        settings: Settings,
        graphs: Mapping[str, Graph],
        storage: Storage,
        records: RunRecords,
        savers: Savers,
        store: Callable[[ScriptRunner], BaseStore],
        executor: Executor,
        timers: Timers,
        remote: RemoteWaits,
    ) -> None:
        """Prepare; nothing runs before `start`."""
        self._settings = settings
        self._graphs = graphs
        self._storage = storage
        self._records = records
        self._savers = savers
        self._store = store
        self._executor = executor
        self._timers = timers
        self._remote = remote
        self._live: dict[str, LiveRun] = {}
        self._unrecorded: dict[str, LiveRun] = {}
        # Runs that are to be cancelled and are not here, or not yet.
        self._early: deque[tuple[str, Action]] = deque(maxlen=100)
        # Runs that stopped here unfinished and are to go on wherever there is a place.
        self._left: dict[str, LiveRun] = {}
        self._faults = storage.faults
        self.on_faults: Callable[[], None] = lambda: None
        self._delivered: list[str] = []
        self._beat_seconds = min(settings.run_lease_seconds / LEASE_BEATS, 5.0)
        self._idle = threading.Condition()
        self._warned_of_feedback = False

    def get(self, run_id: str) -> LiveRun | None:
        """A run that this process has, or whose end only it knows."""
        return self._live.get(run_id) or self._unrecorded.get(run_id)

    # Starting

    def start(self) -> None:
        """Renew leases from now on."""
        threading.Thread(target=self._beat_for_ever, name="beat", daemon=True).start()

    def start_run(self, live: LiveRun) -> None:
        """Execute a run in the place that was reserved for it."""
        record, request = live.record, live.request
        with live.lock:
            # One that was ended since it was taken has been forgotten already, for good.
            if not live.settled:
                self._enter(live)
        self._ask_for_feedback_urls(live)
        checkpointer = prepare = None
        live.sure_until = time.monotonic() + self._settings.run_lease_seconds
        patient = Patient(self._storage, live)
        if live.kept:
            assert live.token is not None
            checkpointer = partial(self._savers.of, runner=patient, token=live.token)
            if live.attempt > 1 or request.goes_on:
                prepare = partial(
                    recovery.start,
                    request=request,
                    run_id=record.run_id,
                    thread_id=record.thread_id,
                    graph_id=record.graph_id,
                    attempt=live.attempt,
                )
        graph = self._graphs[record.graph_id]
        job = Job(
            graph=graph,
            input=request.graph_input(),
            config=request.graph_config(record),
            context=request.effective_context,
            interrupt_before=request.interrupt_before,
            interrupt_after=request.interrupt_after,
            named_nodes=request.named_nodes,
            store=self._store(patient),
            checkpointer=checkpointer,
            durability=request.effective_durability,
            prepare=prepare,
        )
        if (limit := self._settings.run_timeout_seconds) is not None:
            late = partial(self._executor.help, partial(self._time_out, live))
            live.limit = self._timers.after(limit, late)
        live.execution = self._executor.submit(job, partial(self._returned, live))
        if live.settled:
            self._executor.stop(live.execution)

    def adopt(self, claim: Claim) -> None:
        """Go on with a run that was ready, in the place that was reserved for it."""
        if self._has_been_postponed(claim) or not self._take(claim):
            self._executor.release()

    def end(self, claim: Claim) -> None:
        """End a run that was cancelled before it was started, which takes no place."""
        self._take(claim)

    def _take(self, claim: Claim) -> bool:
        """Whether it is executed here now; not if it was ended, or left."""
        record, problem = claim.record, claim.problem
        try:
            request = RunRequest.restored(record)
        except UnreadableRecord as error:
            problem = problem or str(error)
            request = _what_is_left(claim)
        live = LiveRun(
            record,
            request,
            token=claim.token,
            attempt=claim.attempt,
            has_thread=claim.has_thread,
            unreadable=problem is not None,
        )
        for wait in self._remote.take(record.run_id):
            live.attach(wait)
        self._enter(live)
        try:
            most = self._settings.run_max_attempts
            # Where even a cancel could not be carried out so often, it is left at ending the run.
            if claim.cancel is not None and claim.losses <= most:
                self._strike(live, outcomes.cancelled(None), undo=claim.cancel == "rollback")
            elif problem is not None:
                log.error("run %s cannot be executed: %s", record.run_id, problem)
                self._strike(live, outcomes.unreadable(problem))
            elif claim.losses >= most:
                self._strike(live, outcomes.given_up(claim.losses))
            elif record.graph_id not in self._graphs:
                gone = ValueError(f"there is no graph {record.graph_id!r} any more")
                self._strike(live, outcomes.failed(gone))
            else:
                if claim.has_thread and not claim.is_graphs:
                    self._become(record)
                log.info("run taken", extra={"run_id": record.run_id, "attempt": claim.attempt})
                self.start_run(live)
                return True
        except StorageUnavailable as error:
            self._leave(live, error)
        except Exception as error:
            log.exception("fault at the start of run %s", record.run_id)
            self._settle(live, outcomes.faulted(), error)
        return False

    def _enter(self, live: LiveRun) -> None:
        """From now on it is one of this process's."""
        self._live[live.record.run_id] = live
        for run_id, action in list(self._early):
            if run_id == live.record.run_id:
                self.cancel(live, action)

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
            log.warning(
                "run %s is left to a process that has the graph %r", record.run_id, record.graph_id
            )
        return postponed

    def _become(self, record: RunRecord) -> None:
        """The thread is that of the run's graph from now on."""
        seen: bytes | None = b""
        thread = thread_of(record, self._settings)
        for _ in range(TRIES):
            seen = self._records.become(record, thread, seen or b"")
            if seen is None:
                return
            thread = with_ids(seen, record, thread)

    def record_start(self, live: LiveRun) -> None:
        """Record that a run is under way; harmless if it ends meanwhile."""
        lease = self._settings.run_lease_seconds
        try:
            admission = self._records.admit(live.record, lease, may_start=True)
            live.token = admission.token or live.token
        except StorageUnavailable as error:
            # The next beat that finds Redis back records it; so does the run's end.
            log.debug("run %s starts unrecorded: %s", live.record.run_id, error)

    # Ending

    def cancel(self, live: LiveRun, action: Action = "interrupt") -> None:
        """End a run with its values so far; those who wait are answered at once."""

        def cancel() -> None:
            self._strike(live, outcomes.cancelled(live.values), undo=action == "rollback")

        self._executor.help(cancel)

    def told_to_cancel(self, run_id: str, action: Action) -> None:
        """A message asks for one of this process's runs to be stopped."""
        if run_id not in self._live:
            # It may just be taken.
            self._early.append((run_id, action))
        if live := self._live.get(run_id):
            self.cancel(live, action)

    def drop(self, live: LiveRun) -> None:
        """End a run whose thread was removed: there is nothing to be recorded any more."""
        if not live.settle():
            return
        if live.execution is not None:
            self._executor.stop(live.execution)
        outcome = outcomes.cancelled(live.values)
        live.answer(dumps(outcome.answer))
        self._log_end(live, outcome, None, refused=False)
        self._forget(live)

    def _returned(self, live: LiveRun, execution: Execution, error: BaseException | None) -> None:
        """The graph returned or raised; called on a thread that may block."""
        if isinstance(error, recovery.EndedBefore):
            self._settle(live, error.outcome)
        elif isinstance(error, Fenced | StorageUnavailable):
            self._leave(live, error)
        elif error is not None:
            # On a thread that was there, it may be what an earlier version of the graph left.
            channel = raised_in(error) if live.request.thread_id is not None else None
            self._settle(live, outcomes.failed(error, channel), error)
        elif execution.interrupted:
            self._settle(live, outcomes.interrupted(execution.values, execution.interrupts))
        else:
            self._settle(live, outcomes.succeeded(execution.values))

    def _time_out(self, live: LiveRun) -> None:
        limit = self._settings.run_timeout_seconds
        assert limit is not None
        self._strike(live, outcomes.timed_out(limit))

    def _strike(self, live: LiveRun, outcome: Outcome, *, undo: bool = False) -> None:
        """End a run from outside; the graph stops as soon as it can."""
        self._settle(live, outcome, struck=True, undo=undo)
        if live.execution is not None:
            self._executor.stop(live.execution)

    def _settle(
        self,
        live: LiveRun,
        outcome: Outcome,
        error: BaseException | None = None,
        *,
        struck: bool = False,
        undo: bool = False,
    ) -> None:
        """End a run, unless it ended already: record the end, then answer who waits."""
        if not live.settle():
            return
        refused = False
        try:
            document = dumps(self._with_feedback(live, outcome))
        except Exception:
            log.exception("fault at the end of run %s", live.record.run_id)
            outcome = outcomes.faulted()
            document = dumps(outcome.answer)
        live.record = live.record.moved_to(outcome.status)
        thread = _thread_end(outcome, error, undo) if live.kept else None
        webhook = self._webhook(live, outcome, document)
        live.ending = Ending(document, struck, undo, thread, webhook)
        try:
            refused = not self._seal(live)
        except StorageUnavailable:
            self._unrecorded[live.record.run_id] = live
        except Exception:
            # Its lease lapses, and another process ends it.
            log.exception("fault while recording the end of run %s", live.record.run_id)
        self._log_end(live, outcome, error, refused)
        if refused:
            # Another process has the run, or had it: its end is the one that counts.
            self._remote.look_soon(live.take_waits())
        else:
            live.answer(document)
        self._forget(live)

    def _webhook(
        self, live: LiveRun, outcome: Outcome, document: bytes
    ) -> tuple[str, bytes] | None:
        """Whom to tell of the end, and what (contract section 5)."""
        url = live.request.webhook
        if url is None:
            return None
        record = live.record
        fields = {
            **record.public(),
            "run_started_at": live.started_at,
            "run_ended_at": record.updated_at,
            **({"error": outcome.error} if outcome.error is not None else {}),
        }
        values = document if outcome.error is None else dumps(live.values or {})
        return url, dumps(fields)[:-1] + b',"values":' + values + b"}"

    def _seal(self, live: LiveRun) -> bool:
        """Make a run's end last; may be repeated. Whether this end stands.

        Raises:
            StorageUnavailable: not all of it was done.
        """
        ending, record = live.ending, live.record
        assert ending is not None
        if live.kept and live.has_thread and ending.struck and live.token is not None:
            # What the graph still writes must not reach the thread, nor mix with what is undone.
            fence = live.token + 1
            saver = self._savers.plain(self._storage, fence)
            # If somebody has the thread, or it was removed, that was done before.
            with contextlib.suppress(Fenced):
                saver.raise_fence(record.thread_id, fence)
                if ending.undone:
                    saver.delete_for_runs([record.run_id], thread_id=record.thread_id)
        if self._finish(live, ending):
            return True
        # Refused; or Redis has lost the run since, and has to be told of it first.
        lost = live.kept and self._records.read(record.run_id) is None
        return lost and self._record_again(live) and self._finish(live, ending)

    def _finish(self, live: LiveRun, ending: Ending) -> bool:
        return self._records.finish(
            live.record,
            ending.document,
            token=live.token,
            undone=ending.undone,
            thread=ending.thread,
            webhook=ending.webhook,
            rewritten=live.unreadable,
        )

    def _leave(self, live: LiveRun, error: BaseException) -> None:
        """Stop a run unfinished, for want of Redis or of its thread; it is to go on elsewhere."""
        if isinstance(error, Fenced) and (action := self._asked_to_stop(live)):
            # Its thread was removed, and the message that says so is still on its way.
            self._strike(live, outcomes.cancelled(live.values), undo=action == "rollback")
        elif self._abandon(live, error):
            self._left[live.record.run_id] = live
            self._executor.help(self._give_back)

    def _asked_to_stop(self, live: LiveRun) -> Action | None:
        """In which way a run is to be cancelled, as far as Redis can be asked."""
        with contextlib.suppress(StorageUnavailable):
            for _, action in self._beat_of(live).cancelled:
                return action
        return None

    def _beat_of(self, live: LiveRun) -> Beat:
        assert live.token is not None
        ours = [(live.record.run_id, live.token)]
        return self._records.beat(ours, self._settings.run_lease_seconds)

    def _give_back(self) -> None:
        """Have the runs that stopped here unfinished go on, wherever there is a place."""
        for run_id in list(self._left):
            live = self._left.pop(run_id, None)
            if live is None or run_id in self._live:
                continue
            try:
                self._give_back_one(live)
            except StorageUnavailable:
                self._left[run_id] = live
                return

    def _give_back_one(self, live: LiveRun) -> None:
        record = live.record
        if live.kept and not live.forgotten:
            live.forgotten = bool(self._beat_of(live).missing)
        gone = live.kept and live.forgotten and self._has_lost_its_state(live)
        # As it may be: recorded still, lost by Redis, or another process's by now.
        if not self._record_again(live):
            if live.forgotten:
                # Its thread was removed.
                document = dumps(outcomes.cancelled(live.values).answer)
                for wait in self._remote.take(record.run_id):
                    wait.give(document)
        elif gone:
            outcome = outcomes.state_lost()
            live.record = record.moved_to(outcome.status)
            document = dumps(outcome.answer)
            thread = _thread_end(outcome, None, False)
            webhook = self._webhook(live, outcome, document)
            live.ending = Ending(document, False, False, thread, webhook)
            self._finish(live, live.ending)
            self._remote.told(record.run_id)
        elif live.token is not None:
            self._records.hand_back([(record.run_id, live.token)])

    def _has_lost_its_state(self, live: LiveRun) -> bool:
        """Whether nothing is left of the thread that a run was asked to go on with."""
        if live.request.thread_id is None:
            return False
        return recovery.latest(self._savers.plain(self._storage), live.record.thread_id) is None

    def _abandon(self, live: LiveRun, error: BaseException) -> bool:
        """Leave a run to the process that has it now, or will have; False if it ended before."""
        if not live.settle():
            return False
        log.warning("run %s goes on elsewhere: %s", live.record.run_id, error)
        self._remote.look_soon(live.take_waits())
        self._forget(live)
        if live.execution is not None:
            self._executor.stop(live.execution)
        return True

    def _forget(self, live: LiveRun) -> None:
        self._live.pop(live.record.run_id, None)
        with self._idle:
            self._idle.notify_all()

    def _log_end(
        self, live: LiveRun, outcome: Outcome, error: BaseException | None, refused: bool
    ) -> None:
        record = live.record
        log.log(
            logging.INFO if error is None else logging.WARNING,
            "run ended" if not refused else "run ended elsewhere",
            exc_info=error,
            extra={
                "run_id": record.run_id,
                "thread_id": record.thread_id,
                "assistant_id": record.assistant_id,
                "graph": record.graph_id,
                "request_id": live.request.request_id,
                "status": str(outcome.status),
                "duration_ms": round((time.monotonic() - live.started) * 1000, 1),
                **({"error": type(error).__name__} if error is not None else {}),
            },
        )

    # Stopping

    def stop(self, grace: float) -> None:
        """Let runs end, and give back after `grace` seconds those that have not.

        Returns when every run has ended or was given back, and everyone who waits has been given
        something.
        """
        self._wait_until_idle(grace)
        for live in list(self._live.values()):
            if live.token is None:
                self.record_start(live)
        self._hand_back()
        # Those that others are just settling.
        self._wait_until_idle(LAST_SECONDS)
        self.record_ends()

    def _hand_back(self) -> None:
        """Have others go on with the runs, from their last checkpoint or from the start."""
        given = [live for live in list(self._live.values()) if live.settle()]
        for live in given:
            if live.execution is not None:
                self._executor.stop(live.execution)
        try:
            self._records.hand_back(
                (live.record.run_id, live.token) for live in given if live.token is not None
            )
        except StorageUnavailable as error:
            log.warning("%d runs were not handed back: %s", len(given), error)
        for live in given:
            for wait in live.take_waits():
                # Not a document: the client joins, and is answered by the run's next process. One
                # whose run Redis did not take is told there that it is not to be found.
                wait.give(Ended.ELSEWHERE)
            self._forget(live)

    def _wait_until_idle(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._idle:
            while self._live and (left := deadline - time.monotonic()) > 0:
                self._idle.wait(left)

    # Keeping Redis and this process in step

    def note_delivery(self, run_id: str) -> None:
        """A run's document was written whole to a client."""
        if self._settings.result_ttl_seconds > DELIVERED_SECONDS:
            self._delivered.append(run_id)

    def record_ends(self) -> None:
        """Record the ends that Redis did not take before."""
        for run_id, live in list(self._unrecorded.items()):
            try:
                self._seal(live)
            except StorageUnavailable:
                if self._storage.problem is not None:
                    return
                # One that Redis refuses does not keep the others from it.
                continue
            self._unrecorded.pop(run_id, None)
        self._give_back()

    def _beat_for_ever(self) -> None:
        pause = self._beat_seconds
        while True:
            time.sleep(pause)
            pause = self._beat_seconds
            try:
                self._beat()
            except StorageUnavailable as error:
                log.debug("no beat: %s", error)
                # Processes whose beats happen to fall around an absence of Redis have not noticed
                # it, and will take what this one does not renew in time.
                pause /= LEASE_BEATS
            except Exception:
                log.exception("fault in the beat")

    def _beat(self) -> None:
        faults = self._storage.faults
        self._drop_expired()
        lease = self._settings.run_lease_seconds
        live = {run_id: each for run_id, each in list(self._live.items()) if not each.settled}
        for each in live.values():
            if each.token is None:
                self.record_start(each)
        before = time.monotonic()
        ours = [(run_id, each.token) for run_id, each in live.items() if each.token is not None]
        beat = self._records.beat(ours, lease)
        for run_id in beat.missing:
            each = live.pop(run_id)
            if not each.kept:
                self.record_start(each)
            elif self._record_again(each):
                each.forgotten = True
            else:
                self.drop(each)
        for run_id in beat.lost:
            self._abandon(live.pop(run_id), Fenced("another process took it"))
        for run_id, action in beat.cancelled:
            self.cancel(live[run_id], action)
        for each in live.values():
            each.sure_until = before + lease
        self._shorten_delivered()
        self.record_ends()
        if faults != self._faults:
            # Messages come with connections; of calls that were refused alone, nobody else tells.
            self._faults = faults
            self.on_faults()

    def _record_again(self, live: LiveRun) -> bool:
        """Tell Redis of a run that it lost; whether the run is this process's, again or still."""
        admission = self._records.admit(
            replace(live.record, status=RunStatus.RUNNING),
            self._settings.run_lease_seconds,
            may_start=True,
            thread=thread_of(live.record, self._settings) if live.kept else None,
            missing="again",
        )
        if admission.token is None:
            return False
        live.token = admission.token
        return True

    def _shorten_delivered(self) -> None:
        delivered, self._delivered = self._delivered, []
        for start in range(0, len(delivered), 500):
            self._records.shorten(
                delivered[start : start + 500], DELIVERED_SECONDS - self._beat_seconds
            )

    def _drop_expired(self) -> None:
        """Do not keep an end that Redis does not take longer than Redis would keep it."""
        oldest = time.monotonic() - self._settings.result_ttl_seconds
        for run_id, live in list(self._unrecorded.items()):
            # One that Redis was told of would be executed again.
            if live.ending is not None and live.ending.at < oldest and live.token is None:
                self._unrecorded.pop(run_id, None)

    # Feedback

    def _ask_for_feedback_urls(self, live: LiveRun) -> None:
        keys = live.request.feedback_keys
        if not keys:
            return
        if not feedback.configured():
            if not self._warned_of_feedback:
                self._warned_of_feedback = True
                log.warning("feedback_keys are of no effect: LangSmith is not configured")
            return
        live.feedback = feedback.ask(live.record.run_id, keys)

    def _with_feedback(self, live: LiveRun, outcome: Outcome) -> object:
        answer = outcome.answer
        if live.feedback is None or not isinstance(answer, dict):
            return answer
        try:
            urls = live.feedback.result(FEEDBACK_SECONDS)
        except TimeoutError:
            return answer
        return {**answer, "__feedback__": urls} if urls else answer


def _what_is_left(claim: Claim) -> RunRequest:
    """As much of a request that cannot be read as it takes to end its run."""
    webhook = claim.record.kwargs.get("webhook")
    return RunRequest(
        assistant_id=claim.record.assistant_id,
        request_id="",
        on_completion="keep" if claim.kept else "delete",
        webhook=webhook if isinstance(webhook, str) else None,
    )


def thread_of(record: RunRecord, settings: Settings) -> NewThread:
    """The thread of a run, where it has to be made."""
    metadata = {
        **record.metadata,
        "graph_id": record.graph_id,
        "assistant_id": record.assistant_id,
    }
    ttl = settings.thread_ttl_seconds
    return NewThread(metadata, index_terms(metadata), None if ttl is None else round(ttl * 1000))


def with_ids(stored: bytes, record: RunRecord, thread: NewThread) -> NewThread:
    """A thread's own metadata, with what it is run with now."""
    ids = {"graph_id": record.graph_id, "assistant_id": record.assistant_id}
    metadata = {**json.loads(stored), **ids}
    return NewThread(metadata, index_terms(metadata), thread.ttl_ms)


def _thread_end(outcome: Outcome, error: BaseException | None, undone: bool) -> ThreadEnd:
    if undone or isinstance(error, recovery.NothingToResume | StateUnfit):
        return ThreadEnd(error=outcome.error)  # it stands as before
    if outcome.error is not None:
        return ThreadEnd("error", outcome.error)
    return ThreadEnd("interrupted" if outcome.status is RunStatus.INTERRUPTED else "idle")
