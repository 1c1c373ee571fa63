"""The service: what clients can ask for, and how the parts that do it are put together.

A run's life: `create` admits it; it executes here, or (on a thread that is busy, or where no place
is free) in whichever process takes it when it is its turn; its end is recorded, and everyone who
waits, in whichever process, is given the document.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from uuid_utils.compat import uuid7

from runwait.assistants.assistants import Assistants
from runwait.graphs.assistants import Assistant
from runwait.graphs.context import ContextError, coerce_context
from runwait.graphs.graph import Graph
from runwait.runs import outcomes, recovery
from runwait.runs.dispatcher import Dispatcher
from runwait.runs.executor import Executor, unknown_nodes
from runwait.runs.fit import StateUnfit
from runwait.runs.live import LiveRun
from runwait.runs.local import TRIES, LocalRuns, thread_of, with_ids
from runwait.runs.remote import RemoteWaits, RunNotFound
from runwait.runs.requests import RunRequest
from runwait.runs.savers import Savers
from runwait.runs.timers import Timers
from runwait.runs.waits import Ended, Wait, Waiters
from runwait.serialization import dumps
from runwait.settings import Settings
from runwait.storage.assistants import AssistantRecords
from runwait.storage.checkpoint import UnrevivableValue
from runwait.storage.connection import InTime, Storage, StorageUnavailable
from runwait.storage.outbox import Outbox
from runwait.storage.records import (
    Action,
    Admission,
    IdempotencyKey,
    RunRecord,
    RunRecords,
    RunStatus,
    StoredRun,
)
from runwait.storage.store import RedisStore
from runwait.storage.subscriber import Subscriber
from runwait.storage.threads import (
    Doomed,
    ThreadBusy,
    ThreadNotFound,
    ThreadRecords,
)
from runwait.threads.states import CheckpointNotFound, States, ThreadStates
from runwait.threads.threads import Threads
from runwait.webhooks.deliveries import Deliveries
from runwait.webhooks.targets import WebhookRules, check_target

log = logging.getLogger("runwait.runs")

# A run that ends within this time is recorded once, as ended: nobody has been told of it before.
AT_ONCE_SECONDS = 0.02
# Time for webhooks that are under way, when the process stops; the rest is for other processes.
LAST_DELIVERIES_SECONDS = 1.0


class ConflictingRequest(Exception):
    """The request asks for two things that exclude each other, or for one that needs a thread."""


class UnfitRequest(Exception):
    """The request does not fit the graph; the text names every field that does not."""


class KeyReused(Exception):
    """The idempotency key was used with another request."""


class KeyInFlight(Exception):
    """The run that the idempotency key was used for has not ended."""

    def __init__(self, thread_id: str, run_id: str) -> None:
        super().__init__(f"Idempotency-Key: its run {run_id} has not ended")
        self.thread_id = thread_id
        self.run_id = run_id


class NoRoom(Exception):
    """The process cannot take another run or wait now."""


class Service:
    """Runs, for whoever speaks HTTP (or anything else) to the outside.

    Attributes:
        assistants, threads, states, store: what else clients can ask for.
    """

    def __init__(self, settings: Settings, graphs: Mapping[str, Graph]) -> None:
        """Prepare; no connection is opened and no thread started before `start`."""
        self.settings = settings
        self.graphs = graphs
        self.process_id = uuid4().hex
        self.timers = Timers()
        self._webhook_rules = WebhookRules.parse(
            settings.webhook_base_url,
            settings.webhook_allowed_hosts,
            settings.webhook_require_https,
        )
        prefix = settings.redis_prefix
        self._storage = Storage(settings.storage_url, settings.redis_max_connections - 1)
        self._executor = Executor(settings.run_concurrency)
        self._waiters = Waiters(settings.waiters_max)
        self._savers = Savers(prefix, settings.langgraph_aes_key)
        in_time = InTime(self._storage)
        self._saver = self._savers.plain(in_time)
        self.store = RedisStore(in_time, prefix)
        self._thread_records = ThreadRecords(self._storage, prefix, settings.thread_ttl_seconds)
        states = self._states = States(
            graphs,
            self._saver,
            self.store,
            self._executor.on_loop,
            lambda graph: self._savers.of(graph, in_time),
        )
        self.states = ThreadStates(
            states,
            thread_of=lambda thread_id: {"metadata": self._thread_records.get(thread_id).metadata},
            hold=self._thread_records.hold,
            note=self._thread_records.note_state,
        )
        self.threads = Threads(self._thread_records, states, self._saver)
        self.assistants = Assistants(
            graphs,
            AssistantRecords(self._storage, prefix),
            self.threads,
            self.store,
            self._executor.on_loop,
            since=settings.langgraph_config.stat().st_mtime,
        )
        self._records = RunRecords(
            self._storage, prefix, self.process_id, settings.result_ttl_seconds
        )
        self._remote = RemoteWaits(
            self._records,
            self._executor,
            self.timers,
            settings.run_lease_seconds,
            self._document_later,
        )
        self._local = LocalRuns(
            settings,
            graphs,
            self._storage,
            self._records,
            self._savers,
            lambda runner: RedisStore(runner, prefix),
            self._executor,
            self.timers,
            self._remote,
        )
        self._deliveries = Deliveries(
            Outbox(self._storage, prefix), self._webhook_rules, settings.webhook_secret
        )
        self._dispatcher = Dispatcher(
            self._executor,
            partial(self._records.claim, settings.run_lease_seconds),
            self._local.adopt,
            self._local.end,
        )
        self._subscriber = Subscriber(
            settings.storage_url, self._records.channels, self._told, self._look_again
        )
        self._stopping = threading.Event()
        # Runs of which it is not known whether Redis took them in; nobody was told of them.
        self._doubtful: list[RunRecord] = []
        # Runs to be cancelled, since their clients went away, as soon as Redis is back.
        self._left_alone: list[str] = []

    # Starting and stopping

    def start(self, *, claims: bool | None = None) -> None:
        """Open the connections and start the threads; once, in the process that serves.

        Args:
            claims: whether it executes runs that are ready; None: as the settings have it.

        Raises:
            StorageUnsuitable: this Redis cannot be used.
        """
        self._storage.on_up = lambda: self._executor.help(self._catch_up)
        self._executor.start()
        self._storage.start()
        self._subscriber.start()
        self.timers.start()
        self._local.on_faults = self._catch_up
        self._local.start()
        self._deliveries.start()
        self._dispatcher.start(takes=self.settings.claim_runs if claims is None else claims)
        threading.Thread(target=self._sweep_for_ever, name="sweep", daemon=True).start()

    def stop(self, grace: float) -> None:
        """Take nothing more, let runs end, and give up what has not after `grace` seconds.

        Returns when no run is left and everyone who waits has been given something.
        """
        self._stopping.set()
        self._dispatcher.stop()
        self._local.stop(grace)
        self._withdraw_doubtful()
        self._remote.end()
        self._deliveries.stop(min(grace, LAST_DELIVERIES_SECONDS))

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

    # Creating runs

    def create(self, request: RunRequest) -> Wait:
        """Admit a run, start it or have it wait for its turn, and wait for it.

        Returns:
            The wait of the client that asked; it must be closed.

        Raises:
            AssistantNotFound, UnknownGraph: there is no such assistant.
            ConflictingRequest: configurable and context, or a resume without a thread.
            UnfitRequest: the graph lacks a node, or refuses the context.
            WebhookRefused: the webhook's address is not one to call.
            KeyReused, KeyInFlight: its idempotency key was used before.
            ThreadNotFound, CheckpointNotFound: there is no such thread, or checkpoint on it.
            ThreadBusy: another run has the thread, and this one is not to wait.
            NothingToResume: no interrupt waits for what the resume brings.
            StateUnfit: the thread is to go on with a node that the graph lacks.
            NoRoom: no place to execute, or to wait; or the process is stopping.
            StorageUnavailable: it needs Redis, which is away.
        """
        assistant = self.assistants.resolve(request.assistant_id)
        graph = self.graphs[assistant.graph_id]
        if request.configurable and request.context:
            raise ConflictingRequest("configurable and context: at most one of them may be given")
        if request.resumes and request.thread_id is None:
            raise ConflictingRequest("command.resume: needs a thread")
        request = request.over(assistant)
        if graph.nodes is not None:
            _refuse_what_does_not_fit(request, graph.nodes, graph.context_schema)
        if request.webhook is not None:
            self._check_webhook(request.webhook)
        key = self._key_of(request)
        if key is not None and (before := self._records.repeated(key)) is not None:
            return self._repeat(before)
        if request.thread_id is not None:
            self._refuse_what_the_thread_cannot(request, graph, request.thread_id)
        record = _new_record(request, assistant)
        wait = self._new_wait(record.thread_id, record.run_id)
        try:
            wait.on_delivered = partial(self._local.note_delivery, record.run_id)
            if request.on_disconnect == "cancel":
                wait.on_gone = self._canceller(record.run_id)
            if request.kept or request.delay > 0 or request.webhook or key is not None:
                before = self._take_in(record, request, wait, key)
                if before is not None:
                    wait.close()
                    return self._repeat(before)
            elif not self._start_at_once(record, request, wait):
                self._wait_for_a_place(record, request, wait)
        except BaseException:
            wait.close()
            raise
        return wait

    def _start_at_once(self, record: RunRecord, request: RunRequest, wait: Wait) -> bool:
        """Start a run that needs no Redis to be answered; False if there is no place for it."""
        # Runs that are ready and wait for a place come first.
        if self._dispatcher.starved or not self._executor.reserve():
            return False
        live = LiveRun(record, request)
        live.attach(wait)
        self._local.start_run(live)
        if wait.document(AT_ONCE_SECONDS) is None:
            self._local.record_start(live)
        return True

    def _wait_for_a_place(self, record: RunRecord, request: RunRequest, wait: Wait) -> None:
        try:
            self._take_in(record, request, wait, None)
        except StorageUnavailable as error:
            raise NoRoom("all places to execute runs are taken") from error

    def _take_in(
        self, record: RunRecord, request: RunRequest, wait: Wait, key: IdempotencyKey | None
    ) -> Admission | None:
        """Have Redis take in a run, and start it if it is its turn.

        Returns:
            What became of the run that the idempotency key stands for, if that is another.
        """
        # Listed before Redis knows of the run, so that its end is not missed.
        self._remote.add([wait])
        may_start = request.delay <= 0 and not self._dispatcher.starved
        may_start = may_start and self._executor.reserve()
        admission = None
        try:
            admission = self._admit(record, request, key, may_start)
        except StorageUnavailable as error:
            if error.doubtful:
                self._doubtful.append(replace(record, metadata={}, kwargs={}, surroundings={}))
                if self._storage.problem is None:
                    # It was back before this was noted.
                    self._executor.help(self._catch_up)
            raise
        finally:
            started = admission is not None and admission.verdict == "running"
            if may_start and not started:
                self._executor.release()
        if admission.verdict == "missing":
            raise ThreadNotFound(record.thread_id)
        if admission.verdict == "busy":
            raise ThreadBusy(record.thread_id)
        if admission.verdict == "running":
            live = LiveRun(record, request, token=admission.token)
            for each in self._remote.take(record.run_id):
                live.attach(each)
            self._local.start_run(live)
        elif admission.verdict != "pending":
            return admission
        return None

    def _admit(
        self, record: RunRecord, request: RunRequest, key: IdempotencyKey | None, may_start: bool
    ) -> Admission:
        thread = thread_of(record, self.settings) if request.kept else None
        create = request.thread_id is None or request.if_not_exists == "create"
        seen = None
        for _ in range(TRIES):
            admission = self._records.admit(
                record,
                self.settings.run_lease_seconds,
                may_start=may_start,
                delay=request.delay,
                key=key,
                thread=thread,
                missing="create" if create else "reject",
                seen_metadata=seen,
            )
            if admission.verdict == "metadata":
                # The thread has metadata of its own, and another graph or none: it gets this run's.
                seen = admission.metadata
                assert seen is not None and thread is not None
                thread = with_ids(seen, record, thread)
            elif admission.verdict == "doomed":
                assert admission.token is not None
                self.threads.clean(Doomed(record.thread_id, admission.token))
            else:
                return admission
        raise ThreadBusy(record.thread_id)

    def _key_of(self, request: RunRequest) -> IdempotencyKey | None:
        if request.idempotency_key is None:
            return None
        # Of one thread or of none: that is what the path tells apart.
        name = f"{request.thread_id or ''} {request.idempotency_key}"
        ttl = self.settings.idempotency_ttl_seconds
        return IdempotencyKey(name, request.fingerprint, ttl)

    def _repeat(self, before: Admission) -> Wait:
        """Answer a request whose idempotency key was used before.

        Raises:
            KeyReused, KeyInFlight.
        """
        if before.verdict == "other":
            raise KeyReused("Idempotency-Key: was used with another body")
        if before.verdict == "in flight":
            raise KeyInFlight(before.thread_id, before.run_id)
        wait = self._new_wait(before.thread_id, before.run_id)
        wait.replayed = True
        wait.give(before.document)
        return wait

    def _refuse_what_the_thread_cannot(
        self, request: RunRequest, graph: Graph, thread_id: str
    ) -> None:
        point = request.starting_point
        if not point and not request.goes_on:
            return
        saver = self._saver
        if graph.compiled is not None:
            saver = self._savers.of(graph.compiled, self._storage)
        try:
            found = saver.get_tuple(_at(thread_id, point))
        except UnrevivableValue:
            return  # for the graph to say, which may know more types once it is made
        if point and found is None:
            self._thread_records.get(thread_id)
            namespace = f"in namespace {point.get('checkpoint_ns', '')!r}"
            raise CheckpointNotFound(point.get("checkpoint_id", namespace))
        if not request.goes_on:
            return
        try:
            recovery.check_start(request, graph.graph_id, found, graph.compiled, saver)
        except (recovery.NothingToResume, StateUnfit):
            # What waits may come with the runs before it; it is looked for again in its turn.
            if point or self._thread_records.get(thread_id).status != "busy":
                raise

    # Asking for runs

    def get(self, thread_id: str, run_id: str) -> RunRecord:
        """A run's record.

        Raises:
            RunNotFound: there is none.
            StorageUnavailable: the run is not this process's, and Redis cannot be asked.
        """
        if live := self._local.get(run_id):
            record = live.record
            gone = live.ending is not None and live.ending.undone
        else:
            stored = self._records.read(run_id)
            if stored is None:
                raise RunNotFound(run_id)
            record, gone = stored.record, False
        if record.thread_id != thread_id or gone:
            raise RunNotFound(run_id)
        return record

    def _has(self, thread_id: str, run_id: str) -> bool:
        try:
            self.get(thread_id, run_id)
        except RunNotFound:
            return False
        return True

    def of_thread(
        self, thread_id: str, limit: int, offset: int, status: str | None
    ) -> list[RunRecord]:
        """A thread's runs, newest first.

        Raises:
            ThreadNotFound, StorageUnavailable.
        """
        found = self._records.of_thread(thread_id, limit, offset, status)
        if found is None:
            raise ThreadNotFound(thread_id)
        return found

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
            live = self._local.get(run_id)
            if live is not None and live.record.thread_id != thread_id:
                raise RunNotFound(run_id)
            wait.on_delivered = partial(self._local.note_delivery, run_id)
            if cancel_on_disconnect:
                wait.on_gone = self._canceller(run_id)
            if live is None or not live.attach(wait):
                self._remote.join(wait)
        except BaseException:
            wait.close()
            raise
        return wait

    def cancel(self, thread_id: str, run_id: str, action: Action, *, wait: bool = False) -> None:
        """Stop a run, wherever it is.

        Args:
            action: `interrupt` leaves what was checkpointed; `rollback` leaves nothing of the run.
            wait: return only when nothing that it does can reach its thread any more.

        Raises:
            RunNotFound: there is none, or it ended.
            StorageUnavailable: the run is not this process's, and Redis cannot be asked.
            NoRoom: no place to wait.
        """
        if self.get(thread_id, run_id).status.ended:
            raise RunNotFound(run_id)
        end = self.join(thread_id, run_id) if wait else None
        try:
            if not self._cancel(run_id, action):
                raise RunNotFound(run_id)
            if end is not None and isinstance(end.result(), Ended):
                raise NoRoom("the process is shutting down")
        finally:
            if end is not None:
                end.close()

    def cancel_all(
        self,
        action: Action,
        thread_id: str | None,
        run_ids: list[str] | None,
        status: Literal["pending", "running", "all"] | None,
    ) -> None:
        """Stop several runs: of a thread those that are named, or all that stand so.

        Raises:
            RunNotFound: none of those that are named is there and has not ended.
            StorageUnavailable: Redis cannot be asked.
        """
        if run_ids is None:
            meant = self._records.in_flight(thread_id, status or "all")
        else:
            assert thread_id is not None
            meant = [each for each in run_ids if self._has(thread_id, each)]
        cancelled = [self._cancel(run_id, action) for run_id in meant]
        if run_ids and not any(cancelled):
            raise RunNotFound(", ".join(run_ids))

    def delete(self, thread_id: str, run_id: str) -> None:
        """Remove a run's record; a run that has not ended is cancelled first.

        Raises:
            RunNotFound, StorageUnavailable, NoRoom.
        """
        removed = self._records.remove(thread_id, run_id)
        cancelled = False
        if removed is False:
            # It may just end by itself.
            with contextlib.suppress(RunNotFound):
                self.cancel(thread_id, run_id, "interrupt", wait=True)
                cancelled = True
            removed = self._records.remove(thread_id, run_id)
        if removed is False:
            raise StorageUnavailable("its end is not recorded yet")
        # One whose result nobody is to have any more went with its end.
        if removed is None and not cancelled:
            raise RunNotFound(run_id)

    # Waits

    def _new_wait(self, thread_id: str, run_id: str) -> Wait:
        if self.stopping:
            raise NoRoom("the process is shutting down")
        if not self._waiters.enter():
            raise NoRoom("all places to wait are taken")
        wait = Wait(thread_id, run_id)
        wait.on_close = partial(self._close_wait, wait)
        return wait

    def _canceller(self, run_id: str) -> Callable[[], None]:
        # On another thread: who notices that a client is gone must not wait for Redis.
        return partial(self._executor.help, partial(self._cancel_for_the_gone, run_id))

    def _close_wait(self, wait: Wait) -> None:
        self._waiters.leave()
        self._remote.remove(wait)

    def _check_webhook(self, url: str) -> None:
        # A name may take its time to resolve: that is a wait like any other.
        if not self._waiters.enter():
            raise NoRoom("all places to wait are taken")
        try:
            check_target(url, self._webhook_rules)
        finally:
            self._waiters.leave()

    def _cancel(self, run_id: str, action: Action) -> bool:
        live = self._local.get(run_id)
        if live is not None and not live.settled:
            self._local.cancel(live, action)
            return True
        return self._records.cancel([run_id], action) > 0

    def _cancel_for_the_gone(self, run_id: str) -> None:
        try:
            self._cancel(run_id, "interrupt")
        except StorageUnavailable as error:
            log.warning("run %s is cancelled later: %s", run_id, error)
            self._left_alone.append(run_id)

    def _document_later(self, stored: StoredRun) -> bytes:
        """The document of a kept run, when its result is not there any more."""
        if stored.error is not None:
            return dumps({outcomes.ERROR: stored.error})
        record = stored.record
        values, interrupts = self._states.output(record.thread_id, record.graph_id, record.run_id)
        return dumps(outcomes.interrupted(values, interrupts).answer)

    # Keeping up with the others

    def _told(self, message: str) -> None:
        """A message from another process, or from this one."""
        what, *rest = message.split(" ")
        if what == "ready":
            self._dispatcher.wake()
        elif what == "webhook":
            self._deliveries.wake()
        elif what == "ended":
            self._remote.told(rest[0])
        elif what == "cancel":
            self._local.told_to_cancel(rest[0], "rollback" if "rollback" in rest else "interrupt")

    def _look_again(self) -> None:
        """Messages may have been lost."""
        self._dispatcher.wake()
        self._deliveries.wake()
        self._remote.look_at_all()

    def _catch_up(self) -> None:
        """Redis is back, or takes calls again of which it refused some."""
        self._local.record_ends()
        if not self._withdraw_doubtful():
            return
        left, self._left_alone = self._left_alone, []
        for run_id in left:
            self._cancel_for_the_gone(run_id)
        self._look_again()

    def _withdraw_doubtful(self) -> bool:
        """Take back what may have been taken in although its clients were told that it was not."""
        while self._doubtful:
            record = self._doubtful.pop()
            try:
                self._records.withdraw(record)
            except StorageUnavailable:
                self._doubtful.append(record)
                return False
        return True

    def _sweep_for_ever(self) -> None:
        """Remove what expired, with whatever its removal still lacks."""
        pause = self.settings.run_lease_seconds
        while not self._stopping.wait(pause):
            try:
                self.store.sweep()
                self.threads.sweep()
            except StorageUnavailable as error:
                log.debug("nothing was swept: %s", error)
            except Exception:
                log.exception("fault while sweeping")


def _new_record(request: RunRequest, assistant: Assistant) -> RunRecord:
    return RunRecord(
        run_id=str(uuid7()),
        thread_id=request.thread_id or str(uuid7()),
        assistant_id=assistant.assistant_id,
        graph_id=assistant.graph_id,
        status=RunStatus.RUNNING,
        metadata=request.record_metadata(assistant),
        kwargs=request.record_kwargs(),
        surroundings=request.record_surroundings(),
        multitask_strategy=request.multitask_strategy,
    )


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


def _at(thread_id: str, point: dict[str, Any]) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", **point}}
