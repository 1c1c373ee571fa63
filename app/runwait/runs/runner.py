"""Executes the runs that this process has, and sees each to its end.

What ends a run first (the graph, a cancel, the time limit) decides: the end is recorded, then all
who follow the run are given it. A run on a thread of its own needs no Redis for that: what could
not be recorded is kept, and recorded once Redis is back.

A process can count as dead while it only slept. Then another has claimed the run; whatever this one
still records or writes to the thread is refused by the fencing token, and those who follow the run
here are given what the other one makes of it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from langgraph.store.base import BaseStore

from runwait.changed import changed
from runwait.graphs.graph import Graph
from runwait.memory import Collector
from runwait.runs import ending, feedback, resume
from runwait.runs.ending import Outcome
from runwait.runs.event_log import EventLog
from runwait.runs.events import Cut, End, Event, Hub, last_events, metadata_of
from runwait.runs.executor import Execution, Executor, Job
from runwait.runs.observer import Observer
from runwait.runs.request import RunRequest
from runwait.runs.retrying import RetryingRunner
from runwait.runs.run import Ending, Phase, Run
from runwait.runs.savers import Savers
from runwait.runs.timers import Timers
from runwait.runs.translation import Namespace, Pair
from runwait.serialization import dumps
from runwait.settings import Settings
from runwait.storage.checkpoint import Fenced, RedisSaver, ScriptRunner
from runwait.storage.connection import Storage, StorageUnavailable
from runwait.storage.metadata import index_terms
from runwait.storage.records import (
    Action,
    NewThread,
    RunRecord,
    RunRecords,
    RunStatus,
)
from runwait.threads.compatibility import raised_in
from runwait.trace_context import id_of

log = logging.getLogger("runwait.runs")

# How often the metadata of a thread may change while a run on it is taken in.
TRIES = 5
# Longest wait for LangSmith, once a run has ended.
FEEDBACK_SECONDS = 2.0
# Longest wait for what a run that is stopped has told of, and has yet to store.
SETTLING_SECONDS = 0.5


class Runner:
    """The runs of this process, by their ids."""

    def __init__(
        self,
        settings: Settings,
        graphs: Mapping[str, Graph],
        storage: Storage,
        records: RunRecords,
        savers: Savers,
        store: Callable[[ScriptRunner, RunRequest], BaseStore],
        executor: Executor,
        timers: Timers,
        hub: Hub,
        event_log: EventLog,
        observer: Observer,
        *,
        calls_webhooks: bool = True,
    ) -> None:
        """Prepare; nothing executes before the executor is started.

        `calls_webhooks` is false where nobody is told of a run's end, whatever it asked when it
        was accepted.
        """
        self._settings = settings
        self._graphs = graphs
        self._storage = storage
        self._records = records
        self._savers = savers
        self._store = store
        self._executor = executor
        self._timers = timers
        self._hub = hub
        self._event_log = event_log
        self._observer = observer
        self._calls_webhooks = calls_webhooks
        self._runs: dict[str, Run] = {}
        self._unrecorded: dict[str, Run] = {}
        # Runs that are to be cancelled and are not here, or not yet.
        self._early: deque[tuple[str, Action]] = deque(maxlen=100)
        self._collector = Collector(executor.help, timers.after)
        self._idle = threading.Condition()
        self._warned_of_feedback = False
        # What is done with a run that stopped here unfinished; and once Redis takes calls again.
        self.on_left: Callable[[Run], None] = lambda run: None
        self.on_faults: Callable[[], None] = lambda: None
        # The values that a run's thread holds; None if it holds none.
        self.values_of: Callable[[RunRecord], Any] = lambda record: None
        hub.is_here = self._is_here

    def get(self, run_id: str) -> Run | None:
        """A run that this process has, or whose end only it knows."""
        return self._runs.get(run_id) or self._unrecorded.get(run_id)

    @property
    def executing(self) -> list[Run]:
        """The runs that nothing has ended yet."""
        return [run for run in list(self._runs.values()) if run.executing]

    @property
    def held(self) -> list[Run]:
        """The runs that others must not take: they execute, or their end is to be recorded."""
        return [*list(self._runs.values()), *list(self._unrecorded.values())]

    def _is_here(self, run_id: str) -> bool:
        run = self.get(run_id)
        return run is not None and run.phase is not Phase.LEFT

    # Starting

    def start_run(self, run: Run, *, is_awaited: bool = True) -> None:
        """Execute a run in the place that was reserved for it.

        Args:
            run: the run.
            is_awaited: whether somebody waits for it, so that it begins at once.
        """
        record, request = run.record, run.request
        with run.lock:
            # One that was ended since it was claimed has been forgotten already, for good.
            if run.executing:
                self.enter(run)
        self._observer.started(run)
        if run.attempt > 1:
            self._hub.catch_up(run.run_id)
        if run.logged or self._hub.streams(run.run_id):
            more = {"graph_name": record.graph_id} if run.translation.is_protocol else {}
            begun = metadata_of(record.thread_id, record.run_id, run.attempt, **more)
            self._emit_all(run, [(begun.name, begun.data)])
        self._ask_for_feedback_urls(run)
        checkpointer = prepare = None
        lease = self._settings.run_lease_seconds
        run.leased_until = time.monotonic() + lease
        retrying = RetryingRunner(self._storage, self._event_log, run, lease)
        if run.kept:
            assert run.token is not None
            # What was begun before goes on from where it stands.
            named = request.named_checkpoints
            elsewhere = run.attempt == 1 and named.get("") is not None
            checkpointer = partial(
                self._savers.of, runner=retrying, token=run.token, from_elsewhere=elsewhere
            )
            if run.attempt > 1 or request.goes_on or named:
                prepare = partial(
                    resume.start,
                    request=request,
                    run_id=record.run_id,
                    thread_id=record.thread_id,
                    graph_id=record.graph_id,
                    attempt=run.attempt,
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
            store=self._store(retrying, request),
            checkpointer=checkpointer,
            durability=request.effective_durability,
            prepare=prepare,
            modes=run.translation.modes,
            subgraphs=run.translation.subgraphs,
            wants_events=run.translation.wants_events,
            is_protocol=run.translation.is_protocol,
            emit=partial(self._emit, run),
            enter=run.enter,
            ids=id_of(run.trace),
        )
        if (limit := self._settings.run_timeout_seconds) is not None:
            late = partial(self._executor.help, partial(self._time_out, run))
            run.limit = self._timers.after(limit, late)
        ended = partial(self._returned, run)
        run.execution = self._executor.submit(job, ended, is_awaited=is_awaited)
        if not run.executing:
            self._executor.stop(run.execution)

    def enter(self, run: Run) -> None:
        """From now on it is one of this process's."""
        self._runs[run.run_id] = run
        for run_id, action in list(self._early):
            if run_id == run.run_id:
                self.cancel(run, action)

    def record_start(self, run: Run) -> None:
        """Record that a run is under way; harmless if it ends meanwhile."""
        lease = self._settings.run_lease_seconds
        try:
            admission = self._records.admit(run.record, lease, may_start=True, losses=run.losses)
            run.token = admission.token or run.token
            if run.ending is not None and admission.token is not None:
                # Its end was recorded first, and may have left nothing that says so.
                self.record_end(run)
        except StorageUnavailable as error:
            # The next beat that finds Redis back records it; so does the run's end.
            log.debug("run %s starts unrecorded: %s", run.run_id, error)
            if run.ending is not None:
                self._unrecorded[run.run_id] = run

    def record_starts(self) -> None:
        """Record the runs under way that Redis was not told of."""
        for run in self.executing:
            if run.token is None:
                self.record_start(run)

    def record_again(self, run: Run) -> bool:
        """Tell Redis of a run that it lost; whether the run is this process's, again or still."""
        admission = self._records.admit(
            replace(run.record, status=RunStatus.RUNNING),
            self._settings.run_lease_seconds,
            may_start=True,
            thread=thread_of(run.record, self._settings) if run.kept else None,
            missing="again",
            losses=run.losses,
        )
        if admission.token is None:
            return False
        run.token = admission.token
        return True

    # Events

    def listen(self, run_id: str) -> None:
        """A message asks for a run's events to be logged, since another process follows it."""
        if run := self._runs.get(run_id):
            with run.lock:
                run.logged = run.token is not None

    def _emit(self, run: Run, namespace: Namespace, mode: str, payload: Any) -> None:
        """The graph streamed something; called on the thread or the loop that runs it."""
        translation = run.translation
        if run.logged:
            self._event_log.check_room()
        if run.logged or translation.is_stateful or self._hub.streams(run.run_id):
            self._emit_all(run, list(translation.events(namespace, mode, payload)))

    def _emit_all(self, run: Run, pairs: Sequence[Pair]) -> None:
        with run.lock:
            if not run.executing:
                return
            ids = run.next_ids(len(pairs))
            events = [Event(*pair, at) for pair, at in zip(pairs, ids, strict=True)]
            if run.logged and events:
                self._event_log.append(run, events)
                run.has_logged_values |= any(name == "values" for name, _ in pairs)
                return
        self._hub.append(run.run_id, events)

    # Ending

    def cancel(self, run: Run, action: Action = "interrupt") -> None:
        """End a run with its values so far; those who wait for it are answered at once."""

        def cancel() -> None:
            roll_back = action == "rollback"
            self._stop(run, lambda: ending.cancelled(run.values), roll_back=roll_back)

        self._executor.help(cancel)

    def cancel_if_here(self, run_id: str, action: Action) -> None:
        """A message asks for one of this process's runs to be stopped."""
        if run_id not in self._runs:
            # It may just be claimed.
            self._early.append((run_id, action))
        if run := self._runs.get(run_id):
            self.cancel(run, action)

    def stop_run(self, run: Run, outcome: Outcome, *, roll_back: bool = False) -> None:
        """End a run from outside; the graph stops as soon as it can."""
        self.finish(run, outcome, stopped=True, roll_back=roll_back)
        if run.execution is not None:
            self._executor.stop(run.execution)

    def _stop(self, run: Run, outcome: Callable[[], Outcome], *, roll_back: bool = False) -> None:
        """Stop a graph that is at work, and end its run.

        A page, which goes on with what it was told, hears of the end once the graph has stored
        that: its last checkpoints are stored behind its back, and would be refused. It would show a
        message that the thread does not have, or lose one. A node that does not stop is not waited
        for. Who waits for an answer is answered at once, and so is who undoes the run.
        """
        if roll_back or not run.translation.is_protocol:
            self.stop_run(run, outcome(), roll_back=roll_back)
            return
        if not run.decide(Phase.ENDING):
            return

        def settle() -> None:
            self._settle(run)

        run.settled = lambda: self._end(run, outcome(), stopped=True)
        if run.execution is None:
            settle()
        else:
            self._executor.stop(run.execution)
            self._timers.after(SETTLING_SECONDS, partial(self._executor.help, settle))

    def _settle(self, run: Run) -> bool:
        """End a run that was stopped, unless that was done; whether this call did."""
        with run.lock:
            end, run.settled = run.settled, None
        if end is not None:
            end()
        return end is not None

    def _values_on_thread(self, run: Run) -> Any:
        """What the thread of a run that was stopped holds, for good."""
        with contextlib.suppress(Fenced, StorageUnavailable):
            if run.has_thread:
                self._raise_fence(run)
            return self.values_of(run.record)
        return run.values

    def _raise_fence(self, run: Run) -> RedisSaver:
        """What a run's graph still writes is not to reach its thread; what may write there now.

        Raises:
            Fenced: somebody has the thread, or it was removed.
            StorageUnavailable: it was not done.
        """
        assert run.token is not None
        saver = self._savers.plain(self._storage, run.token + 1)
        saver.raise_fence(run.record.thread_id, run.token + 1)
        return saver

    def drop(self, run: Run) -> None:
        """End a run whose thread was removed: there is nothing to be recorded any more."""
        if not run.decide(Phase.ENDING):
            return
        if run.execution is not None:
            self._executor.stop(run.execution)
        outcome = ending.cancelled(run.values)
        run.ending = Ending(dumps(outcome.answer), True, False, None, None)
        self._observer.finished(run, outcome, None, stands=True)
        self._event_log.drop(run)
        last = last_events(run.run_id, "interrupted", None)
        run.ending = replace(run.ending, events=last, ids=[None] * len(last))
        self._publish(run)
        self._forget(run)

    def leave(self, run: Run, error: BaseException) -> bool:
        """Leave a run to the process that has it now, or will have; False if it ended before."""
        if not run.decide(Phase.LEFT):
            return False
        self._observer.left(run, error)
        self._event_log.drop(run)
        self._hub.look(run.run_id)
        self._forget(run)
        if run.execution is not None:
            self._executor.stop(run.execution)
        return True

    def leave_unfinished(self, run: Run, error: BaseException) -> None:
        """Stop a run, for want of Redis or of its thread; it is to go on elsewhere."""
        if isinstance(error, Fenced) and (action := self._asked_to_stop(run)):
            # Its thread was removed, and the message that says so is still on its way.
            self.stop_run(run, ending.cancelled(run.values), roll_back=action == "rollback")
        elif self.leave(run, error):
            self.on_left(run)

    def _returned(self, run: Run, execution: Execution, error: BaseException | None) -> None:
        """The graph returned or raised; called on a thread that may block."""
        if self._settle(run):
            return
        if isinstance(error, resume.EndedBefore):
            self.finish(run, error.outcome)
        elif isinstance(error, Fenced | StorageUnavailable):
            self.leave_unfinished(run, error)
        elif error is not None:
            # On a thread that was there, it may be what an earlier version of the graph left.
            channel = raised_in(error) if run.request.thread_id is not None else None
            self.finish(run, ending.failed(error, channel), error)
        elif execution.interrupted:
            self.finish(run, ending.interrupted(execution.values, execution.interrupts))
        else:
            self.finish(run, ending.succeeded(execution.values))

    def _time_out(self, run: Run) -> None:
        limit = self._settings.run_timeout_seconds
        assert limit is not None
        self._stop(run, lambda: ending.timed_out(limit))

    def finish(
        self,
        run: Run,
        outcome: Outcome,
        error: BaseException | None = None,
        *,
        stopped: bool = False,
        roll_back: bool = False,
    ) -> None:
        """End a run, unless it ended already: record the end, then answer those who follow it."""
        if run.decide(Phase.ENDING):
            self._end(run, outcome, error, stopped=stopped, roll_back=roll_back)

    def _end(
        self,
        run: Run,
        outcome: Outcome,
        error: BaseException | None = None,
        *,
        stopped: bool = False,
        roll_back: bool = False,
    ) -> None:
        urls = self._feedback_urls(run) if isinstance(outcome.answer, dict) else None
        try:
            document = values = dumps(outcome.answer)
            if urls:
                document = dumps({**outcome.answer, "__feedback__": urls})
        except Exception:
            log.exception("fault at the end of run %s", run.run_id)
            outcome = ending.faulted()
            document = values = dumps(outcome.answer)
        if len(document) > self._settings.max_value_bytes:
            outcome = ending.too_large(outcome, len(document), self._settings.max_value_bytes)
            document = values = dumps(outcome.answer)
        run.record = run.record.moved_to(outcome.status)
        made = ending.of(run, outcome, document, error, stopped=stopped, rolled_back=roll_back)
        interrupts = outcome.answer[ending.INTERRUPT] if outcome.has_interrupts else ()
        if stopped and run.translation.is_protocol:
            # A page goes on with what it was told, and is to show what the thread holds.
            held = None if roll_back or run.token is None else self._values_on_thread(run)
            events = [] if held is None else [("values", dumps(held))]
        else:
            failed = outcome.error is not None
            events = list(run.translation.last(interrupts, values, failed=failed))
        if run.lacks_values and not events and not stopped and outcome.error is None:
            # Its last ones came before it was logged, or before this attempt.
            events = [("values", values)]
        events += [("feedback", dumps(urls))] if urls else []
        status = "rollback" if roll_back else str(outcome.status)
        events += last_events(run.run_id, status, outcome.error)
        with run.lock:
            run.ending = changed(made, events=events, ids=run.next_ids(len(events)))
        stands = True
        try:
            stands = self.record_end(run)
        except StorageUnavailable:
            self._unrecorded[run.run_id] = run
        except Exception:
            # Its lease lapses, and another process ends it.
            log.exception("fault while recording the end of run %s", run.run_id)
        self._observer.finished(run, outcome, error, stands=stands)
        if stands:
            self._publish(run)
        else:
            # Another process has the run, or had it: its end is the one that counts.
            run.phase = Phase.LEFT
            self._hub.look(run.run_id)
        self._forget(run)
        self._collector.note(len(document))

    def record_end(self, run: Run) -> bool:
        """Record a run's end; may be repeated. Whether this end stands.

        Raises:
            StorageUnavailable: not all of it was done.
        """
        made, record = run.ending, run.record
        assert made is not None
        if run.has_thread and (made.stopped or made.refused) and run.kept and run.token is not None:
            # What the graph still writes must not mix with what is undone. If somebody has the
            # thread, or it was removed, that was done before.
            with contextlib.suppress(Fenced):
                saver = self._raise_fence(run)
                if made.rolled_back:
                    saver.delete_for_runs([record.run_id], thread_id=record.thread_id)
                elif made.refused:
                    # At its exit all that a run wrote was stored as one, with what was refused.
                    whole = run.request.effective_durability == "exit"
                    saver.take_back_refused(record.thread_id, record.run_id, whole=whole)
        self._event_log.flush(run)
        if self._finish(run, made):
            return True
        # Refused; or Redis has lost the run since, and has to be told of it first.
        lost = run.kept and self._records.read(record.run_id) is None
        return lost and self.record_again(run) and self._finish(run, made)

    def record_ends(self) -> None:
        """Record the ends that Redis did not take before."""
        for run_id, run in list(self._unrecorded.items()):
            try:
                stands = self.record_end(run)
            except StorageUnavailable:
                if self._storage.problem is not None:
                    return
                # One that Redis refuses does not keep the others from it.
                continue
            self._unrecorded.pop(run_id, None)
            if run.ending is not None:
                self._collector.note(len(run.ending.document))
            if stands:
                self._publish(run)
            else:
                self._hub.look(run_id)

    def drop_expired_ends(self) -> None:
        """Do not keep an end that Redis does not take longer than Redis would keep it."""
        oldest = time.monotonic() - self._settings.result_ttl_seconds
        for run_id, run in list(self._unrecorded.items()):
            # One that Redis was told of would be executed again.
            if run.ending is not None and run.ending.at < oldest and run.token is None:
                self._unrecorded.pop(run_id, None)

    def finish_lost(self, run: Run) -> None:
        """End a run that was left, since Redis lost what its thread held."""
        outcome = ending.state_lost()
        run.record = run.record.moved_to(outcome.status)
        run.ending = ending.of(run, outcome, dumps(outcome.answer), None)
        self._finish(run, run.ending)
        self._hub.look(run.run_id)

    def _finish(self, run: Run, made: Ending) -> bool:
        return self._records.finish(
            run.record,
            made.document,
            token=run.token,
            undone=made.rolled_back,
            thread=made.thread,
            webhook=made.webhook if self._calls_webhooks else None,
            rewritten=run.unreadable,
            attempt=run.attempt,
            events=made.events if made.ids and made.ids[0] is not None else (),
            event=made.ids[0][1] if made.ids and made.ids[0] is not None else 0,
        )

    def _publish(self, run: Run) -> None:
        made = run.ending
        assert made is not None
        run.phase = Phase.ENDED
        events = [Event(*pair, at) for pair, at in zip(made.events, made.ids, strict=True)]
        if run.logged and run.run_id in self._unrecorded:
            events = []  # given once they are logged
        self._hub.publish(run.run_id, End(made.document, events))

    def _forget(self, run: Run) -> None:
        self._runs.pop(run.run_id, None)
        with self._idle:
            self._idle.notify_all()

    def _asked_to_stop(self, run: Run) -> Action | None:
        """In which way a run is to be cancelled, as far as Redis can be asked."""
        assert run.token is not None
        lease = self._settings.run_lease_seconds
        with contextlib.suppress(StorageUnavailable):
            for _, action in self._records.beat([(run.run_id, run.token)], lease).cancelled:
                return action
        return None

    def wait_until_idle(self, seconds: float) -> None:
        """Block until no run is left, for so long at most."""
        deadline = time.monotonic() + seconds
        with self._idle:
            while self._runs and (left := deadline - time.monotonic()) > 0:
                self._idle.wait(left)

    def hand_back(self) -> None:
        """Have others go on with all runs, from their last checkpoint or from the start."""
        self.record_starts()
        given = [run for run in self.executing if run.decide(Phase.LEFT)]
        for run in given:
            if run.execution is not None:
                self._executor.stop(run.execution)
        try:
            self._records.hand_back(
                (run.run_id, run.token) for run in given if run.token is not None
            )
        except StorageUnavailable as error:
            if given:
                log.warning("%d runs were not handed back: %s", len(given), error)
        for run in given:
            # Not an end: the client joins, and is answered by the run's next process. One whose run
            # Redis did not take is told there that it is not to be found.
            self._hub.publish(run.run_id, Cut.ELSEWHERE)
            self._observer.handed_back(run)
            self._forget(run)

    # Feedback

    def _ask_for_feedback_urls(self, run: Run) -> None:
        keys = run.request.feedback_keys
        if not keys:
            return
        if not feedback.configured():
            if not self._warned_of_feedback:
                self._warned_of_feedback = True
                log.warning("feedback_keys are of no effect: LangSmith is not configured")
            return
        run.feedback = feedback.ask(run.run_id, keys)

    def _feedback_urls(self, run: Run) -> dict[str, str] | None:
        if run.feedback is None:
            return None
        try:
            return run.feedback.result(FEEDBACK_SECONDS)
        except TimeoutError:
            return None


def thread_of(record: RunRecord, settings: Settings) -> NewThread:
    """The thread of a run, where it has to be made."""
    metadata = {
        **record.metadata,
        "graph_id": record.graph_id,
        "assistant_id": record.assistant_id,
    }
    ttl = settings.thread_ttl_seconds
    life = None if ttl is None else round(ttl * 1000)
    prunes = settings.thread_ttl_strategy == "keep_latest"
    return NewThread(metadata, index_terms(metadata), life, prunes)


def with_ids(stored: bytes, record: RunRecord, thread: NewThread) -> NewThread:
    """A thread's own metadata, with what it is run with now."""
    ids = {"graph_id": record.graph_id, "assistant_id": record.assistant_id}
    metadata = {**json.loads(stored), **ids}
    return NewThread(metadata, index_terms(metadata), thread.ttl_ms, thread.prunes)
