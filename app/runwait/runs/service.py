"""The service: what clients can ask for of runs, and how the parts that do it are put together.

A run's life: `admission` takes it in; `runner` executes it here, or (on a thread that is busy, or
where no place is free) `worker` claims it in whichever process has a place; its end is recorded,
and everyone who follows it through the `events` hub of any process is given the document.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from langgraph.store.base import BaseStore
from langgraph.types import Interrupt

from runwait import memory
from runwait.assistants.assistants import Assistants
from runwait.assistants.tools import Tools
from runwait.auth.access import Access
from runwait.auth.errors import AuthBusy, AuthFailed, Refused
from runwait.auth.filters import Filters
from runwait.auth.scoped_store import ScopedStore, identity_of_caller
from runwait.crons.crons import Crons
from runwait.crons.scheduler import Scheduler
from runwait.graphs.assistants import AssistantNotFound, UnknownGraph
from runwait.graphs.graph import Graph
from runwait.options.store import StoreOptions
from runwait.options.webhooks import WebhookOptions
from runwait.runs import ending
from runwait.runs.admission import Admission, Replay
from runwait.runs.event_log import EventLog
from runwait.runs.events import (
    AT_ONCE_SECONDS,
    Cut,
    End,
    Event,
    Follower,
    Hub,
    NoRoom,
    RunNotFound,
    metadata_of,
    replay_of,
)
from runwait.runs.executor import Executor
from runwait.runs.leases import Leases
from runwait.runs.observer import LogLines, Observer, Observers
from runwait.runs.permission import Permission
from runwait.runs.protocol.commands import Commands
from runwait.runs.request import RunRequest
from runwait.runs.run import Phase, Run
from runwait.runs.runner import Runner
from runwait.runs.savers import Savers
from runwait.runs.timers import Timers
from runwait.runs.worker import Starter, Worker
from runwait.serialization import dumps
from runwait.settings import Settings
from runwait.storage.assistants import AssistantRecords
from runwait.storage.checkpoint import ScriptRunner
from runwait.storage.cluster import storage_of
from runwait.storage.connection import InTime, StorageUnavailable
from runwait.storage.crons import CronRecords
from runwait.storage.events import EventId, EventRecords, ForgottenEvent, UnknownEvent
from runwait.storage.outbox import DeadLetter, Outbox
from runwait.storage.records import (
    Action,
    Queue,
    RunRecord,
    RunRecords,
    RunStatus,
    StoredRun,
    UnreadableRecord,
)
from runwait.storage.store import RedisStore
from runwait.storage.subscriber import Subscriber
from runwait.storage.threads import ThreadNotFound, ThreadRecords
from runwait.threads.states import States, ThreadStates
from runwait.threads.threads import Threads
from runwait.webhooks.deliveries import Deliveries
from runwait.webhooks.targets import WebhookRules

if TYPE_CHECKING:
    from runwait.storage.limits import Counters

log = logging.getLogger("runwait.runs")

# Time for ends that are just being recorded, when the process stops.
LAST_SECONDS = 1.0
# Time for webhooks that are under way, when the process stops; the rest is for other processes.
LAST_DELIVERIES_SECONDS = 1.0
# How many requests may block a thread at once until a run has ended, for `cancel` and `delete`.
BLOCKING = 12
# How many may at once have the store embed something, or search by meaning.
EMBEDDING = 8
_DEAD_AT_ONCE = 100
# How many of a thread's runs are looked at for the last one that started.
_LOOKED_AT = 10


class Service:
    """Runs, for whoever speaks HTTP (or anything else) to the outside.

    Attributes:
        assistants, tools, threads, states, store, protocol, crons: what else clients can ask for.
        observer: is to be told of what happens.
    """

    def __init__(
        self,
        settings: Settings,
        graphs: Mapping[str, Graph],
        store: StoreOptions | None = None,
        webhooks: WebhookOptions | None = None,
        observers: Sequence[Observer] = (),
        access: Access | None = None,
    ) -> None:
        """Prepare; no connection is opened and no thread started before `start`.

        Args:
            settings: what the environment says, completed by the project.
            graphs: the project's, by their names.
            store, webhooks: what the project says of them; None: nothing.
            observers: hear of what becomes of runs, beside the log.
            access: who says what callers may do; None: everybody may do everything.
        """
        store, webhooks = store or StoreOptions(), webhooks or WebhookOptions(WebhookRules())
        self.settings = settings
        self.graphs = graphs
        self.process_id = uuid4().hex
        self.timers = Timers()
        observer = self.observer = Observers(LogLines(), *observers)
        prefix = settings.redis_prefix
        storage = self._storage = storage_of(
            settings.storage_url,
            settings.redis_max_connections - 1,
            prefix,
            settings.redis_wait_replicas,
        )
        executor = self._executor = Executor(settings.run_concurrency, self.timers.after)
        executor.on_blocked = observer.blocked
        savers = Savers(prefix, settings.langgraph_aes_key, settings.max_value_bytes)
        in_time = InTime(storage)
        saver = savers.plain(in_time)
        thread_records = self._thread_records = ThreadRecords(
            storage, prefix, settings.thread_ttl_seconds, settings.thread_ttl_strategy
        )
        records = self._records = RunRecords(
            storage, prefix, self.process_id, settings.result_ttl_seconds
        )

        # What else there is.
        self._all_items = RedisStore(in_time, prefix, store.index, store.ttl, EMBEDDING)
        isolates = access is not None and access.isolates
        self.store: RedisStore | ScopedStore = self._all_items
        if isolates:
            self.store = ScopedStore(self._all_items, identity_of_caller)
        states = self._states = States(
            graphs,
            saver,
            self.store,
            executor.on_loop,
            lambda graph: savers.of(graph, in_time),
            self._made_with,
        )
        self.states = ThreadStates(
            states,
            thread_of=thread_records.get,
            hold=thread_records.hold,
            note=thread_records.note_state,
        )
        self.threads = Threads(thread_records, states, saver)
        self.assistants = Assistants(
            graphs,
            AssistantRecords(storage, prefix),
            self.threads,
            self.store,
            executor.on_loop,
            since=settings.langgraph_config.stat().st_mtime,
        )

        self.tools = Tools(self.assistants)

        # Runs.
        permission = self._permission = Permission(access, thread_records)
        logs = EventRecords(storage, prefix, self.process_id, settings.stream_events_max)
        self._hub = Hub(
            records,
            logs,
            executor,
            self.timers,
            settings.waiters_max,
            settings.run_lease_seconds,
            self._document_later,
        )
        self._event_log = EventLog(logs, self._hub.append)

        def store_of(runner: ScriptRunner, request: RunRequest) -> BaseStore:
            items = RedisStore(runner, prefix, store.index, store.ttl)
            if not isolates:
                return items
            assert request.user is not None  # admission refuses who has none
            return ScopedStore(items, partial(str, request.user["identity"]))

        self._runner = Runner(
            settings,
            graphs,
            storage,
            records,
            savers,
            store_of,
            executor,
            self.timers,
            self._hub,
            self._event_log,
            observer,
            calls_webhooks=not webhooks.rules.off,
        )
        self._leases = Leases(
            settings, storage, records, savers, executor, self._runner, self._hub, observer
        )
        starter = Starter(settings, graphs, records, executor, self._runner, observer)
        self._worker = Worker(
            executor,
            partial(records.claim, settings.run_lease_seconds),
            starter.start,
            starter.end,
        )
        self._admission = Admission(
            settings,
            graphs,
            storage,
            self.assistants,
            self.threads,
            thread_records,
            records,
            savers,
            executor,
            self._runner,
            self._worker,
            self._hub,
            webhooks.rules,
            permission,
        )
        self.protocol = Commands(self._admission, thread_records, records, logs)
        cron_records = CronRecords(storage, prefix, records)
        self.crons = Crons(cron_records, self._admission)
        self._scheduler = Scheduler(
            settings, cron_records, self.assistants, self.threads, observer, permission
        )
        self.outbox = Outbox(storage, prefix)
        self._deliveries = Deliveries(
            self.outbox,
            webhooks.rules,
            settings.webhook_secret,
            webhooks.headers,
            observer.attempted,
        )
        self._subscriber = Subscriber(
            settings.storage_url, records.channels, self._hear, self._look_again, prefix
        )
        self._stopping = threading.Event()
        self._blocking = threading.Semaphore(BLOCKING)
        # Runs to be cancelled, since their clients went away, as soon as Redis is back.
        self._left_alone: list[str] = []

    def _made_with(self, thread_id: str) -> Mapping[str, Any]:
        """What the graph of a thread was made with: by its last run, or else by its assistant."""
        with contextlib.suppress(UnreadableRecord):
            for place in range(_LOOKED_AT):
                for record in self._records.of_thread(thread_id, 1, place, None) or ():
                    if record.status is not RunStatus.PENDING:
                        request = RunRequest.restored(record)
                        return request.configurable or request.context
        try:
            metadata = self._thread_records.get(thread_id).metadata
            config = self.assistants.get(str(metadata.get("assistant_id"))).config
        except (ThreadNotFound, AssistantNotFound, UnknownGraph):
            return {}
        return config.get("configurable") or {}

    def counters(self) -> Counters:
        """What requests are counted with, by the connections that all else uses."""
        from runwait.storage.limits import Counters

        return Counters(self._storage, self.settings.redis_prefix)

    # Starting and stopping

    def start(self, *, claims: bool | None = None) -> None:
        """Open the connections and start the threads; once, in the process that serves.

        Args:
            claims: whether it executes runs that are ready; None: as the settings have it.

        Raises:
            StorageUnsuitable: this Redis cannot be used.
        """
        memory.set_up()
        self._storage.on_up = self._hear_again
        self._runner.on_faults = self._catch_up
        self._runner.values_of = lambda run: self._states.summary(run.thread_id, run.graph_id)[0]
        self._executor.start()
        self._storage.start()
        self._event_log.start()
        self._subscriber.start()
        self.timers.start()
        self._leases.start()
        self._deliveries.start()
        self._worker.start(executes=self.settings.claim_runs if claims is None else claims)
        if self.settings.cron_enabled:
            self._scheduler.start()
        threading.Thread(target=self._sweep_for_ever, name="sweep", daemon=True).start()

    def _hear_again(self) -> None:
        self._subscriber.renew()
        self._executor.help(self._catch_up)

    def stop(
        self, grace: float, take_last_requests: Callable[[float], None] = lambda seconds: None
    ) -> None:
        """Take nothing more, let runs end, and give up what has not after `grace` seconds.

        Returns when no run is left and everyone who follows one has been given something.

        Args:
            grace: seconds for runs to end.
            take_last_requests: blocks until clients ask for nothing more, for so many seconds at
                most; what they ask for after that is refused.
        """
        deadline = time.monotonic() + grace
        self._stopping.set()
        self._scheduler.stop()
        self._worker.stop()
        take_last_requests(grace)
        self._hub.close()
        self._runner.wait_until_idle(deadline - time.monotonic())
        self._runner.hand_back()
        # Those whose end is just being recorded.
        self._runner.wait_until_idle(LAST_SECONDS)
        self._runner.record_ends()
        self._leases.give_back()
        self._admission.withdraw_doubtful()
        self._hub.stop()
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
            self._storage.write()
        except StorageUnavailable as error:
            return str(error)
        return self._subscriber.problem

    def queue(self) -> Queue:
        """What there is to do, in all processes.

        Raises:
            StorageUnavailable.
        """
        return self._records.queue()

    @property
    def warning(self) -> str | None:
        """What an operator should mend although the service works, or None."""
        return self._storage.warning

    def help(self, do: Callable[[], None]) -> None:
        """Do short work that may block, such as a call to Redis, on a thread of its own. Where it
        fails, that is in the log alone."""
        self._executor.help(do)

    # Waiting for runs

    def wait(self, request: RunRequest) -> tuple[Follower, bool]:
        """Admit a run, and follow it.

        Returns:
            Who follows it, which must be closed; and whether it was the request's idempotency key
            that found an earlier answer.

        Raises:
            Exception: all that `Admission.check` and `Admission.admit` raise.
            NoRoom: no place to wait, or the process is stopping.
        """
        return self._create(request, streams=False)

    def stream(self, request: RunRequest, *, document: bool = False) -> tuple[Follower, bool]:
        """Admit a run, and follow all its events.

        Args:
            request: what is asked.
            document: whether the follower is given the run's document too, at its end.

        Returns:
            As `wait` does.

        Raises:
            Exception: all that `Admission.check` and `Admission.admit` raise.
            NoRoom: no place to wait, or the process is stopping.
        """
        return self._create(request, streams=True, document=document)

    def _create(
        self, request: RunRequest, *, streams: bool, document: bool = False
    ) -> tuple[Follower, bool]:
        replay = self._replay_stream if streams else self._replay
        candidate = self._admission.check(request)
        if isinstance(candidate, Replay):
            return replay(candidate), True
        record, on_disconnect = candidate.record, candidate.request.on_disconnect
        # Before the run is there, so that nothing of it is missed.
        follower = self._follow(record.thread_id, record.run_id, on_disconnect, streams=streams)
        try:
            follower.wants_document, follower.is_early = document, True
            admitted = self._admission.admit(candidate, streamed=streams)
            follower.is_early = False
            if isinstance(admitted, Replay):
                follower.close()
                return replay(admitted), True
            if admitted is not None and admitted.token is None:
                record_start = partial(self._record_start, admitted)
                if streams:
                    self.timers.after(AT_ONCE_SECONDS, partial(self._executor.help, record_start))
                else:
                    follower.on_lasting = record_start
        except BaseException:
            follower.close()
            raise
        return follower, False

    def _record_start(self, run: Run) -> None:
        """A run that did not end at once: others may be asked for it."""
        if run.executing and run.token is None:
            self._runner.record_start(run)

    def start_in_background(self, request: RunRequest) -> tuple[tuple[str, str], bytes, bool]:
        """Admit a run that nobody waits for.

        Returns:
            The ids of its thread and its own; the answer, JSON; and whether it was given to the
            same request before.

        Raises:
            Exception: all that `Admission.check` and `Admission.admit` raise.
        """
        candidate = self._admission.check(request)
        if not isinstance(candidate, Replay):
            record = candidate.record
            answer = dumps(_accepted(record))
            admitted = self._admission.admit(candidate, followed=False, answer=answer)
            if not isinstance(admitted, Replay):
                return (record.thread_id, record.run_id), answer, False
            candidate = admitted
        return (candidate.thread_id, candidate.run_id), candidate.document, True

    def start_batch(
        self, requests: Sequence[RunRequest], key: str | None, fingerprint: str
    ) -> tuple[bytes, bool]:
        """Admit runs that nobody waits for: all of them or none.

        Args:
            requests: what is asked; none on a thread that is there already.
            key, fingerprint: of the request's Idempotency-Key.

        Returns:
            The answer, JSON; and whether it was given to the same request before.

        Raises:
            Exception: all that `Admission.check` and `Admission.admit` raise; the text of what is
                wrong with one of them begins with its place.
        """
        candidates = []
        for place, request in enumerate(requests):
            try:
                candidate = self._admission.check(request)
            except (Refused, AuthFailed, AuthBusy):
                raise
            except Exception as error:
                error.args = (f"{place}: {error}",)
                raise
            assert not isinstance(candidate, Replay)
            candidates.append(candidate)
        answer = dumps([_accepted(each.record) for each in candidates])
        user = requests[0].user if requests else None
        repeated = self._admission.key_of(key, fingerprint, user=user)
        replay = self._admission.admit_all(candidates, repeated, answer)
        return (answer, False) if replay is None else (replay.document, True)

    def join_stream(
        self,
        thread_id: str | None,
        run_id: str,
        after: EventId | None,
        *,
        cancel_on_disconnect: bool = False,
    ) -> Follower:
        """Follow a run's events, in whichever process it executes.

        Args:
            thread_id: its thread; None for whichever it is.
            run_id: the run.
            after: the event after which to go on; (0, 0) for all that is kept; None for what
                comes from now on.
            cancel_on_disconnect: whether to cancel it when the client goes away.

        Returns:
            Who follows it, which must be closed.

        Raises:
            RunNotFound, StorageUnavailable: as `get` does.
            UnknownEvent, ForgottenEvent: there is no such event.
            NoRoom: no place to wait.
        """
        record = self.get(thread_id, run_id)
        follower = self._follow(
            record.thread_id,
            run_id,
            "cancel" if cancel_on_disconnect else "",
            streams=True,
            placed=False,
        )
        try:
            run = self._runner.get(run_id)
            if run is not None and not run.logged and run.phase is not Phase.LEFT:
                if after not in (None, (0, 0)):
                    raise UnknownEvent(run_id)
                if run.phase is Phase.ENDED:
                    self._refuse_who_did_not_wait(run)
                if follower.place((0, 0)):
                    self._hub.look_at_events(run_id)
                follower.give(metadata_of(record.thread_id, run_id, run.attempt))
                if run.phase is Phase.ENDED:
                    assert run.ending is not None
                    document, status = run.ending.document, str(run.record.status)
                    for event in replay_of(run_id, document, status, None):
                        follower.give(event)
            else:
                self._hub.read_stream(follower, after)
        except ForgottenEvent as error:
            follower.close()
            if error.first is None and not record.kwargs.get("resumable"):
                raise UnknownEvent(run_id) from None  # it never had any
            raise
        except BaseException:
            follower.close()
            raise
        return follower

    def join(self, thread_id: str, run_id: str, *, cancel_on_disconnect: bool = False) -> Follower:
        """Follow a run, in whichever process it executes.

        Returns:
            Who follows it, which must be closed.

        Raises:
            RunNotFound, StorageUnavailable: as `get` does.
            NoRoom: no place to wait.
        """
        follower = self._follow(thread_id, run_id, "cancel" if cancel_on_disconnect else "")
        try:
            run = self._runner.get(run_id)
            if run is not None and run.record.thread_id != thread_id:
                raise RunNotFound(run_id)
            if run is None or run.phase is Phase.LEFT:
                self._hub.read(follower)
            elif run.phase is Phase.ENDED:
                assert run.ending is not None
                self._refuse_who_did_not_wait(run)
                follower.give(End(run.ending.document))
        except BaseException:
            follower.close()
            raise
        return follower

    def _follow(
        self,
        thread_id: str,
        run_id: str,
        on_disconnect: str,
        *,
        streams: bool = False,
        placed: bool = True,
    ) -> Follower:
        follower = self._hub.follow(thread_id, run_id, streams=streams, placed=placed)
        follower.on_delivered = partial(self._leases.note_delivery, run_id)
        if on_disconnect == "cancel":
            follower.on_gone = self._canceller(run_id)
        return follower

    def stream_thread(
        self, thread_id: str, after: EventId | None, filters: Filters | None = None
    ) -> Follower:
        """Follow the runs of a thread, one after the other, until the client goes.

        Args:
            thread_id: the thread.
            after: the event after which to go on; (0, 0) for all that is kept, None for now.
            filters: what the thread's metadata must contain, also when its later runs begin.

        Returns:
            Who follows it, which must be closed.

        Raises:
            ThreadNotFound, StorageUnavailable.
            NoRoom: no place to wait.
        """
        self._permission.thread(thread_id, filters)
        follower = self._hub.follow_thread(thread_id, after, permits=self._permits(filters))
        if follower is None:
            raise ThreadNotFound(thread_id)
        # Its events have ids, wherever it executes.
        self._runner.listen(follower.run_id)
        return follower

    def follow_thread(
        self, thread_id: str, after: int | None, filters: Filters | None = None
    ) -> Follower:
        """Follow the runs of a thread, which may be made later, until the client goes.

        Args:
            thread_id: the thread.
            after: the sum of an event's id, after which to go on; 0 for all that is kept; None
                for what begins, and what no other such follower was told of.
            filters: as of `stream_thread`.

        Returns:
            Who follows it, which must be closed.

        Raises:
            ThreadNotFound: it is there, but not for whom these filters are.
            StorageUnavailable.
            NoRoom: no place to wait.
        """
        self._permission.thread(thread_id, filters, may_be_made=True)
        follower = self._hub.follow_thread(
            thread_id,
            after or 0,
            later=True,
            watches=after is None,
            permits=self._permits(filters),
        )
        assert follower is not None
        return follower

    def _permits(self, filters: Filters | None) -> Callable[[str], bool] | None:
        """Whether a thread is there for a caller, once its next run begins."""
        return None if filters is None else partial(self._permission.has, filters=filters)

    def _tell_of_state(self, thread_id: str) -> None:
        if self._hub.follows_thread(thread_id):
            with contextlib.suppress(StorageUnavailable, ThreadNotFound):
                state = {"state": self.states.get(thread_id), "thread_id": thread_id}
                self._hub.tell_thread(thread_id, Event("state_update", dumps(state)))

    def _refuse_who_did_not_wait(self, run: Run) -> None:
        """Raise RunNotFound where a run's end is only for those who followed it before."""
        assert run.ending is not None
        if run.ending.rolled_back or not (run.kept or self.settings.result_ttl_seconds):
            raise RunNotFound(run.run_id)

    def _replay(self, replay: Replay) -> Follower:
        follower = self._hub.follow(replay.thread_id, replay.run_id)
        follower.give(End(replay.document))
        return follower

    def _replay_stream(self, replay: Replay) -> Follower:
        with contextlib.suppress(RunNotFound, StorageUnavailable):
            return self.join_stream(replay.thread_id, replay.run_id, (0, 0))
        follower = self._hub.follow(replay.thread_id, replay.run_id, streams=True)
        for event in replay_of(replay.run_id, replay.document, None, None):
            follower.give(event)
        return follower

    # Asking for runs

    def get(self, thread_id: str | None, run_id: str) -> RunRecord:
        """A run's record; on whichever thread, without one.

        Raises:
            RunNotFound: there is none.
            StorageUnavailable: the run is not this process's, and Redis cannot be asked, or may
                not know of it yet.
        """
        if run := self._runner.get(run_id):
            record = run.record
            gone = run.ending is not None and run.ending.rolled_back
        else:
            stored = self._records.read(run_id)
            if stored is None:
                raise self._hub.missing(run_id)
            record, gone = stored.record, False
        if gone or thread_id not in (None, record.thread_id):
            raise RunNotFound(run_id)
        return record

    def waiting_on(self, thread_id: str, assistant_id: str) -> list[Interrupt]:
        """What a thread waits for answers to; see Admission.waiting_on."""
        return self._admission.waiting_on(thread_id, assistant_id)

    def at_breakpoint(self, record: RunRecord) -> bool:
        """Whether a run stopped at a breakpoint; see Admission.at_breakpoint."""
        return self._admission.at_breakpoint(record)

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
        with contextlib.ExitStack() as stack:
            follower = None
            if wait:
                if not self._blocking.acquire(blocking=False):
                    raise NoRoom("all places to wait for a cancel are taken")
                stack.callback(self._blocking.release)
                follower = self.join(thread_id, run_id)
                stack.callback(follower.close)
            if not self._cancel(run_id, action):
                raise RunNotFound(run_id)
            if follower is not None and isinstance(follower.result(), Cut):
                raise NoRoom("the process is shutting down")

    def cancel_all(
        self,
        action: Action,
        thread_id: str | None,
        run_ids: list[str] | None,
        status: Literal["pending", "running", "all"] | None,
        filters: Filters | None = None,
    ) -> None:
        """Stop several runs: of a thread those that are named, or all that stand so.

        Those whose threads' metadata do not pass the filters are not there.

        Raises:
            RunNotFound: none of those that are named is there and has not ended.
            StorageUnavailable: Redis cannot be asked.
        """
        if run_ids is None:
            meant = self._records.in_flight(thread_id, status or "all")
            if filters is not None:
                meant = [each for each in meant if self._has(None, each, filters)]
        else:
            assert thread_id is not None
            meant = [each for each in run_ids if self._has(thread_id, each, filters)]
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
            raise self._hub.missing(run_id)

    def dead_webhooks(self, limit: int, offset: int, filters: Filters) -> list[DeadLetter]:
        """Webhooks that were given up, the last one first, of runs that pass the filters."""
        found: list[DeadLetter] = []
        for start in itertools.count(0, _DEAD_AT_ONCE):
            page = self.outbox.dead(_DEAD_AT_ONCE, start)
            found += [each for each in page if self._has(None, each.run_id, filters)]
            if len(found) >= offset + limit or len(page) < _DEAD_AT_ONCE:
                break
        return found[offset : offset + limit]

    def require_thread(self, thread_id: str, filters: Filters | None) -> None:
        """Raise ThreadNotFound where a thread is not there for whom these filters are."""
        self._permission.thread(thread_id, filters)

    def require_run(self, thread_id: str | None, run_id: str, filters: Filters | None) -> None:
        """Raise RunNotFound where a run is not there for whom these filters are."""
        if filters is not None and not self._has(thread_id, run_id, filters):
            raise RunNotFound(run_id)

    def _has(self, thread_id: str | None, run_id: str, filters: Filters | None) -> bool:
        try:
            return self._permission.record(self.get(thread_id, run_id), filters)
        except RunNotFound:
            return False

    def _cancel(self, run_id: str, action: Action) -> bool:
        run = self._runner.get(run_id)
        if run is not None and run.executing:
            self._runner.cancel(run, action)
            return True
        return self._records.cancel([run_id], action) > 0

    def _canceller(self, run_id: str) -> Callable[[], None]:
        # On another thread: who notices that a client is gone must not wait for Redis.
        return partial(self._executor.help, partial(self._cancel_for_the_gone, run_id))

    def _cancel_for_the_gone(self, run_id: str) -> None:
        try:
            self._cancel(run_id, "interrupt")
        except StorageUnavailable as error:
            log.warning("run %s is cancelled later: %s", run_id, error)
            self._left_alone.append(run_id)

    def _document_later(self, stored: StoredRun) -> bytes:
        """The document of a kept run, when its result is not there any more."""
        if stored.error is not None:
            return dumps({ending.ERROR: stored.error})
        record = stored.record
        values, interrupts = self._states.output(record.thread_id, record.graph_id, record.run_id)
        return dumps(ending.interrupted(values, interrupts).answer)

    # Keeping up with the others

    def _hear(self, message: str) -> None:
        """A message from another process, or from this one."""
        what, *rest = message.split(" ")
        if what == "ready":
            self._worker.wake()
        elif what == "cron":
            self._scheduler.wake()
        elif what == "webhook":
            self._deliveries.wake()
        elif what == "ended":
            self._hub.look(rest[0])
        elif what == "events":
            self._hub.look_at_events(rest[0])
        elif what == "listen":
            self._runner.listen(rest[0])
        elif what == "run":
            self._hub.run_begins(*rest)
        elif what == "removed":
            self._hub.tell_of_removal(rest[0])
        elif what == "state":
            self._executor.help(partial(self._tell_of_state, rest[0]))
        elif what == "cancel":
            self._runner.cancel_if_here(rest[0], "rollback" if "rollback" in rest else "interrupt")

    def _look_again(self) -> None:
        """Messages may have been lost."""
        self._worker.wake()
        self._scheduler.wake()
        self._deliveries.wake()
        self._hub.look_at_all()

    def _catch_up(self) -> None:
        """Redis is back, or takes calls again of which it refused some."""
        self._runner.record_starts()
        self._runner.record_ends()
        self._leases.give_back()
        if not self._admission.withdraw_doubtful():
            return
        left, self._left_alone = self._left_alone, []
        for run_id in left:
            self._cancel_for_the_gone(run_id)
        self._look_again()
        log.info("Redis was told of what it missed", extra={"pid": os.getpid()})

    def _sweep_for_ever(self) -> None:
        """Remove what expired, and look after what waits for what is not there any more."""
        pause = self.settings.run_lease_seconds
        while not self._stopping.wait(pause):
            try:
                self._all_items.sweep()
                self.threads.sweep()
                followed = self._hub.followed
                for start in range(0, max(1, len(followed)), 500):
                    for run_id in self._records.tidy(followed[start : start + 500]):
                        self._hub.look(run_id)
            except StorageUnavailable as error:
                log.debug("nothing was swept: %s", error)
            except Exception:
                log.exception("fault while sweeping")


def _accepted(record: RunRecord) -> dict[str, Any]:
    """A run as the API shows it before anything happened to it."""
    return {**record.public(), "status": RunStatus.PENDING}
