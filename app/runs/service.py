"""The service: takes runs in, has them executed, and answers those who wait.

A run's life here: `create` admits it, gives it to the executor and records it in Redis; the
first thing that ends it (the graph, a cancel, the time limit, a shutdown) settles it: the end
is recorded, then everyone who waits is given the document. Nothing of this needs Redis to be
up: what could not be recorded is kept and recorded once it is back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from uuid import uuid4

from uuid_utils.compat import uuid7

from app.graphs.assistants import Assistants
from app.graphs.context import ContextError, coerce_context
from app.graphs.graph import Graph
from app.runs import feedback, outcomes
from app.runs.executor import Execution, Executor, Job, unknown_nodes
from app.runs.outcomes import Outcome
from app.runs.requests import RunRequest
from app.runs.timers import Timer, Timers
from app.runs.waits import Ended, Wait, Waiters
from app.runs.webhooks import WebhookRules, check_target
from app.serialization import dumps
from app.storage.connection import Storage, StorageUnavailable
from app.storage.records import DELIVERED_SECONDS, RunRecord, RunRecords, RunStatus
from app.storage.subscriber import Subscriber
from config.settings import Settings

log = logging.getLogger("runwait.runs")

# A run that ends within this time is recorded once, as ended: nobody has been told of it before.
AT_ONCE_SECONDS = 0.02
# Time for ends that are just being recorded, when the process stops.
LAST_SECONDS = 1.0
# Longest wait for LangSmith, once a run has ended.
FEEDBACK_SECONDS = 2.0


class ConflictingRequest(Exception):
    """The request asks for two things that exclude each other, or for one that needs a thread."""


class UnfitRequest(Exception):
    """The request does not fit the graph; the text names every field that does not."""


class NotSupported(Exception):
    """What the request asks for is valid and not there yet; the text names it."""


class NoRoom(Exception):
    """The process cannot take another run or wait now."""


class RunNotFound(Exception):
    """No such run, or not any more."""


@dataclass(eq=False)
class LiveRun:
    """A run that executes in this process, or whose end is not recorded yet."""

    record: RunRecord
    request: RunRequest
    started: float = field(default_factory=time.monotonic)
    execution: Execution | None = None
    waits: list[Wait] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    created: bool = False
    settled: bool = False
    document: bytes | None = None
    ended_at: float = 0.0
    feedback: Future[dict[str, str]] | None = None
    limit: Timer | None = None

    def attach(self, wait: Wait) -> None:
        """Have the wait given the document, now or when it is there."""
        with self.lock:
            if self.document is None:
                self.waits.append(wait)
                return
            document = self.document
        wait.give(document)

    def answer(self, document: bytes) -> None:
        """Give the document to all who wait."""
        with self.lock:
            self.document = document
            waits, self.waits = self.waits, []
        for wait in waits:
            wait.give(document)


class Service:
    """Runs, for whoever speaks HTTP (or anything else) to the outside."""

    def __init__(self, settings: Settings, graphs: Mapping[str, Graph]) -> None:
        """Prepare; no connection is opened and no thread started before `start`."""
        self.settings = settings
        self.graphs = graphs
        self.process_id = uuid4().hex
        self.assistants = Assistants(graphs)
        self.timers = Timers()
        self._webhook_rules = WebhookRules.parse(
            settings.webhook_base_url,
            settings.webhook_allowed_hosts,
            settings.webhook_require_https,
        )
        self._storage = Storage(settings.storage_url, settings.redis_max_connections - 1)
        self._records = RunRecords(
            self._storage, settings.redis_prefix, self.process_id, settings.result_ttl_seconds
        )
        self._subscriber = Subscriber(
            settings.storage_url, self._records.channel, self._told, self._read_all_again
        )
        self._executor = Executor(settings.run_concurrency)
        self._waiters = Waiters(settings.waiters_max)
        self._live: dict[str, LiveRun] = {}
        self._unrecorded: dict[str, LiveRun] = {}
        self._remote: dict[str, list[Wait]] = {}
        self._remote_lock = threading.Lock()
        self._delivered: list[str] = []
        self._beat_seconds = min(settings.run_lease_seconds / 3, 5.0)
        self._stopping = threading.Event()
        self._idle = threading.Condition()
        self._warned_of_feedback = False

    # Starting and stopping

    def start(self) -> None:
        """Open the connections and start the threads; once, in the process that serves.

        Raises:
            StorageUnsuitable: this Redis cannot be used.
        """
        self._storage.on_up = lambda: self._executor.help(self._catch_up)
        self._storage.start()
        self._subscriber.start()
        self._executor.start()
        self.timers.start()
        threading.Thread(target=self._beat_for_ever, name="beat", daemon=True).start()

    def stop(self, grace: float) -> None:
        """Take nothing more, let runs end, and end what has not after `grace` seconds.

        Returns when every run has ended and everyone who waits has been given something.
        """
        self._stopping.set()
        self._wait_until_idle(grace)
        for live in list(self._live.values()):
            self._strike(live, outcomes.shut_down())
        # Those that others are just settling.
        self._wait_until_idle(LAST_SECONDS)
        with self._remote_lock:
            waits = [wait for waits in self._remote.values() for wait in waits]
        for wait in waits:
            wait.give(Ended.ELSEWHERE)
        self._catch_up()

    def _wait_until_idle(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._idle:
            while self._live and (left := deadline - time.monotonic()) > 0:
                self._idle.wait(left)

    @property
    def stopping(self) -> bool:
        """Whether the process takes no more runs."""
        return self._stopping.is_set()

    def problem(self) -> str | None:
        """Why the service is not ready, or None; asks Redis."""
        if self.stopping:
            return "shutting down"
        try:
            self._storage.ping()
        except StorageUnavailable as error:
            return str(error)
        return None

    @property
    def warning(self) -> str | None:
        """What an operator should mend although the service works, or None."""
        return self._storage.warning

    # What clients ask for

    def create(self, request: RunRequest) -> Wait:
        """Admit a run, start it, and wait for it.

        Returns:
            The wait of the client that asked; it must be closed.

        Raises:
            AssistantNotFound, UnknownGraph: there is no such assistant.
            ConflictingRequest: configurable and context, or a resume without a thread.
            UnfitRequest: the graph lacks a node, or refuses the context.
            WebhookRefused: the webhook's address is not one to call.
            NotSupported: the request is valid, and asks for what is not there yet.
            NoRoom: no place to execute, or to wait; or the process is stopping.
        """
        assistant = self.assistants.resolve(request.assistant_id)
        graph = self.graphs[assistant.graph_id]
        if request.configurable and request.context:
            raise ConflictingRequest("configurable and context: at most one of them may be given")
        if request.resumes:
            raise ConflictingRequest("command.resume: needs a thread")
        if graph.nodes is not None:
            _refuse_what_does_not_fit(request, graph.nodes, graph.context_schema)
        if request.webhook is not None:
            self._check_webhook(request.webhook)
        _refuse_what_is_not_there(request)
        run_id, thread_id = str(uuid7()), str(uuid7())
        record = RunRecord(
            run_id=run_id,
            thread_id=thread_id,
            assistant_id=assistant.assistant_id,
            graph_id=graph.graph_id,
            status=RunStatus.RUNNING,
            metadata=request.record_metadata(assistant),
            kwargs=request.record_kwargs(),
            multitask_strategy=request.multitask_strategy,
        )
        wait = self._new_wait(thread_id, run_id)
        if not self._executor.reserve():
            wait.close()
            raise NoRoom("all places to execute runs are taken")
        live = LiveRun(record, request)
        live.attach(wait)
        if request.on_disconnect == "cancel":
            wait.on_gone = partial(self._cancel_live, live)
        wait.on_delivered = partial(self._note_delivery, run_id)
        self._start(live, graph)
        if wait.document(AT_ONCE_SECONDS) is None:
            self._record_start(live)
        return wait

    def get(self, thread_id: str, run_id: str) -> RunRecord:
        """A run's record.

        Raises:
            RunNotFound: there is none.
            StorageUnavailable: the run is not this process's, and Redis cannot be asked.
        """
        if live := self._here(run_id):
            record = live.record
        else:
            stored = self._records.read(run_id)
            if stored is None:
                raise RunNotFound(run_id)
            record = stored.record
        if record.thread_id != thread_id:
            raise RunNotFound(run_id)
        return record

    def join(self, thread_id: str, run_id: str, *, cancel_on_disconnect: bool = False) -> Wait:
        """Wait for a run, in whichever process it executes.

        Returns:
            The wait of the client that asked; it must be closed.

        Raises:
            RunNotFound, StorageUnavailable: as `get` does.
            NoRoom: no place to wait.
        """
        wait = self._new_wait(thread_id, run_id)
        try:
            if live := self._here(run_id):
                if live.record.thread_id != thread_id:
                    raise RunNotFound(run_id)
                live.attach(wait)
                cancel = partial(self._cancel_live, live)
            else:
                self._join_remote(wait)
                cancel = partial(self._cancel_remote, run_id)
        except Exception:
            wait.close()
            raise
        wait.on_delivered = partial(self._note_delivery, run_id)
        if cancel_on_disconnect:
            wait.on_gone = cancel
        return wait

    # Runs of this process

    def _here(self, run_id: str) -> LiveRun | None:
        return self._live.get(run_id) or self._unrecorded.get(run_id)

    def _new_wait(self, thread_id: str, run_id: str) -> Wait:
        if self.stopping:
            raise NoRoom("the process is shutting down")
        if not self._waiters.enter():
            raise NoRoom("all places to wait are taken")
        wait = Wait(thread_id, run_id)
        wait.on_close = partial(self._close_wait, wait)
        return wait

    def _check_webhook(self, url: str) -> None:
        # A name may take its time to resolve: that is a wait like any other.
        if not self._waiters.enter():
            raise NoRoom("all places to wait are taken")
        try:
            check_target(url, self._webhook_rules)
        finally:
            self._waiters.leave()

    def _close_wait(self, wait: Wait) -> None:
        self._waiters.leave()
        with self._remote_lock:
            waits = self._remote.get(wait.run_id)
            if waits and wait in waits:
                waits.remove(wait)
                if not waits:
                    del self._remote[wait.run_id]

    def _start(self, live: LiveRun, graph: Graph) -> None:
        record, request = live.record, live.request
        self._live[record.run_id] = live
        self._ask_for_feedback_urls(live)
        job = Job(
            graph=graph,
            input=request.graph_input(),
            config=request.graph_config(record),
            context=request.effective_context,
            interrupt_before=request.interrupt_before,
            interrupt_after=request.interrupt_after,
            named_nodes=request.named_nodes,
        )
        if (limit := self.settings.run_timeout_seconds) is not None:
            late = partial(self._executor.help, partial(self._time_out, live))
            live.limit = self.timers.after(limit, late)
        live.execution = self._executor.submit(job, partial(self._returned, live))
        if live.settled:
            self._executor.stop(live.execution)

    def _record_start(self, live: LiveRun) -> None:
        """Record that the run is under way; harmless if it ends meanwhile."""
        try:
            self._records.create(live.record, self.settings.run_lease_seconds)
            live.created = True
        except StorageUnavailable as error:
            # The next beat that finds Redis back records it; so does the run's end.
            log.debug("run %s starts unrecorded: %s", live.record.run_id, error)

    def _returned(self, live: LiveRun, execution: Execution, error: BaseException | None) -> None:
        """The graph returned or raised; called on a thread that may block."""
        if error is not None:
            outcome = outcomes.failed(error)
        elif execution.interrupted:
            outcome = outcomes.interrupted(execution.values, execution.interrupts)
        else:
            outcome = outcomes.succeeded(execution.values)
        self._settle(live, outcome, error)

    def _time_out(self, live: LiveRun) -> None:
        limit = self.settings.run_timeout_seconds
        assert limit is not None
        self._strike(live, outcomes.timed_out(limit))

    def _cancel_live(self, live: LiveRun) -> None:
        def cancel() -> None:
            values = live.execution.values if live.execution else None
            self._strike(live, outcomes.cancelled(values))

        self._executor.help(cancel)

    def _strike(self, live: LiveRun, outcome: Outcome) -> None:
        """End a run from outside; the graph stops as soon as it can."""
        self._settle(live, outcome)
        if live.execution is not None:
            self._executor.stop(live.execution)

    def _settle(self, live: LiveRun, outcome: Outcome, error: BaseException | None = None) -> None:
        """End a run, unless it ended already: record the end, then answer who waits."""
        with live.lock:
            if live.settled:
                return
            live.settled = True
        if live.limit is not None:
            live.limit.cancel()
        try:
            document = dumps(self._with_feedback(live, outcome))
            live.record = live.record.moved_to(outcome.status)
            document = self._record_end(live, document)
        except Exception:
            log.exception("fault at the end of run %s", live.record.run_id)
            outcome = outcomes.faulted()
            document = dumps(outcome.answer)
        self._log_end(live, outcome, error)
        live.answer(document)
        del self._live[live.record.run_id]
        with self._idle:
            self._idle.notify_all()

    def _record_end(self, live: LiveRun, document: bytes) -> bytes:
        """Record the end; the document that counts is returned."""
        run_id = live.record.run_id
        try:
            if not self._records.finish(live.record, document, created=live.created):
                # Another end stands, since this process was taken for dead.
                stored = self._records.read(run_id)
                if stored is not None and stored.document is not None:
                    live.record = stored.record
                    return stored.document
        except StorageUnavailable:
            live.ended_at = time.monotonic()
            live.document = document
            self._unrecorded[run_id] = live
        return document

    def _log_end(self, live: LiveRun, outcome: Outcome, error: BaseException | None) -> None:
        record = live.record
        log.log(
            logging.INFO if error is None else logging.WARNING,
            "run ended",
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

    def _note_delivery(self, run_id: str) -> None:
        if self.settings.result_ttl_seconds > DELIVERED_SECONDS:
            self._delivered.append(run_id)

    # Runs of other processes

    def _join_remote(self, wait: Wait) -> None:
        # Listed before Redis is read: an end that comes in between is then not missed.
        with self._remote_lock:
            self._remote.setdefault(wait.run_id, []).append(wait)
        stored = self._records.read(wait.run_id, wait=True)
        if stored is None or stored.record.thread_id != wait.thread_id:
            raise RunNotFound(wait.run_id)
        if stored.document is not None:
            wait.give(stored.document)
        elif stored.record.status.ended:
            raise RunNotFound(wait.run_id)

    def _cancel_remote(self, run_id: str) -> None:
        def cancel() -> None:
            try:
                self._records.cancel(run_id)
            except StorageUnavailable as error:
                log.warning("run %s could not be cancelled: %s", run_id, error)

        self._executor.help(cancel)

    def _told(self, message: str) -> None:
        """A message on this process's channel."""
        what, _, run_id = message.partition(" ")
        if what == "ended":
            self._executor.help(partial(self._read_again, run_id))
        elif what == "cancel" and (live := self._live.get(run_id)):
            self._cancel_live(live)

    def _read_all_again(self) -> None:
        """Messages may have been lost: see to everything that is waited for."""
        with self._remote_lock:
            run_ids = list(self._remote)
        for run_id in run_ids:
            self._executor.help(partial(self._read_again, run_id))

    def _read_again(self, run_id: str, *, last_time: bool = False) -> None:
        with self._remote_lock:
            if run_id not in self._remote:
                return
        try:
            stored = self._records.read(run_id, wait=True)
        except StorageUnavailable:
            return  # read again once Redis is back
        if stored is not None and stored.document is not None:
            document = stored.document
        elif stored is None and last_time:
            document = dumps(outcomes.lost().answer)
        else:
            if stored is None:
                # Redis lost the record. Whoever executes the run records it again with its beat.
                again = partial(self._read_again, run_id, last_time=True)
                self.timers.after(
                    self.settings.run_lease_seconds, lambda: self._executor.help(again)
                )
            return
        with self._remote_lock:
            waits = self._remote.pop(run_id, [])
        for wait in waits:
            wait.give(document)

    # Keeping Redis and this process in step

    def _beat_for_ever(self) -> None:
        while True:
            time.sleep(self._beat_seconds)
            try:
                self._beat()
            except StorageUnavailable as error:
                log.debug("no beat: %s", error)
            except Exception:
                log.exception("fault in the beat")

    def _beat(self) -> None:
        self._drop_expired()
        lease = self.settings.run_lease_seconds
        live = {run_id: each for run_id, each in list(self._live.items()) if not each.settled}
        beat = self._records.beat(list(live), lease)
        for run_id in beat.missing:
            if not live[run_id].settled:
                self._record_start(live[run_id])
        for run_id in beat.cancelled:
            self._cancel_live(live[run_id])
        for run_id in beat.lapsed:
            self._end_lost(run_id)
        self._shorten_delivered()
        self._record_ends()

    def _end_lost(self, run_id: str) -> None:
        stored = self._records.read(run_id)
        if stored is None or run_id in self._live:
            return
        outcome = outcomes.lost()
        record = stored.record.moved_to(outcome.status)
        if self._records.finish(record, dumps(outcome.answer), created=True, if_lapsed=True):
            log.error("run %s was lost with the process that executed it", run_id)

    def _shorten_delivered(self) -> None:
        delivered, self._delivered = self._delivered, []
        for start in range(0, len(delivered), 500):
            self._records.shorten(
                delivered[start : start + 500], DELIVERED_SECONDS - self._beat_seconds
            )

    def _drop_expired(self) -> None:
        """Do not keep an end that Redis does not take longer than Redis would keep it."""
        oldest = time.monotonic() - self.settings.result_ttl_seconds
        for run_id, live in list(self._unrecorded.items()):
            if live.ended_at < oldest:
                self._unrecorded.pop(run_id, None)

    def _catch_up(self) -> None:
        """Redis is back: record the ends that it did not take, and ask what was waited for."""
        self._record_ends()
        self._read_all_again()

    def _record_ends(self) -> None:
        for run_id, live in list(self._unrecorded.items()):
            assert live.document is not None
            try:
                self._records.finish(live.record, live.document, created=live.created)
            except StorageUnavailable:
                return
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


def _refuse_what_does_not_fit(
    request: RunRequest, nodes: frozenset[str], context_schema: type | None
) -> None:
    problems = unknown_nodes(request.named_nodes, nodes)
    try:
        coerce_context(context_schema, request.effective_context)
    except ContextError as error:
        problems += error.problems
    if problems:
        raise UnfitRequest("; ".join(f"{path}: {text}" for path, text in problems))


def _refuse_what_is_not_there(request: RunRequest) -> None:
    asked: list[tuple[str, Callable[[], bool]]] = [
        ("on_completion: keep", lambda: request.on_completion == "keep"),
        ("after_seconds above 0", lambda: (request.after_seconds or 0) > 0),
        ("webhook", lambda: request.webhook is not None),
        ("Idempotency-Key", lambda: request.idempotency_key is not None),
    ]
    if missing := [name for name, is_asked in asked if is_asked()]:
        raise NotSupported(f"not supported yet: {', '.join(missing)}")
