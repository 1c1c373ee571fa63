"""Admission: a request becomes a run, or is refused and leaves nothing behind. Nobody waits here.

`check` says all that is wrong with a request before anything is stored; `admit` takes in what it
found right. A run that needs Redis (a kept thread, a delay, a webhook, an idempotency key) is
taken in by one script, which says whether it starts here and now. Any other starts at once where
there is a place, and Redis hears of it later (docs/decisions/recorded-once-if-short.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langgraph.types import Interrupt
from uuid_utils.compat import uuid7

from runwait.assistants.assistants import Assistants
from runwait.auth.filters import Filters, permits
from runwait.graphs.assistants import Assistant
from runwait.graphs.context import ContextError, coerce_context
from runwait.graphs.graph import Graph
from runwait.graphs.langgraph import Saver, unknown_nodes
from runwait.runs import resume
from runwait.runs.events import Hub, NoRoom
from runwait.runs.executor import Executor
from runwait.runs.permission import Permission
from runwait.runs.request import RunRequest
from runwait.runs.run import Run
from runwait.runs.runner import TRIES, Runner, thread_of, with_ids
from runwait.runs.savers import Savers
from runwait.runs.worker import Worker
from runwait.settings import Settings
from runwait.storage.checkpoint import UnrevivableValue
from runwait.storage.connection import InTime, Storage, StorageUnavailable
from runwait.storage.records import (
    IdempotencyKey,
    NewThread,
    RunRecord,
    RunRecords,
    RunStatus,
    UnreadableRecord,
    Verdict,
)
from runwait.storage.threads import LeftOver, ThreadBusy, ThreadNotFound, ThreadRecords
from runwait.threads.compatibility import StateIncompatible
from runwait.threads.states import CheckpointNotFound
from runwait.threads.threads import Threads
from runwait.webhooks.targets import WebhookRules, check_target

# How many runs of a batch are taken in by one call. Redis answers nobody else meanwhile, which is
# milliseconds.
TOGETHER = 200


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


@dataclass(frozen=True)
class Replay:
    """The answer to a request that was made before.

    Attributes:
        thread_id, run_id: the ids of its run.
        document: the answer, JSON.
    """

    thread_id: str
    run_id: str
    document: bytes


@dataclass(frozen=True)
class Candidate:
    """A request that was found right, and the run that it is to become.

    Attributes:
        record: the run, of which nobody knows yet.
        request: what is asked, laid over what its assistant has.
        key: the request's idempotency key.
        filters: what the metadata of its thread must contain, if that is there.
    """

    record: RunRecord
    request: RunRequest
    key: IdempotencyKey | None
    filters: Filters | None = None


class Admission:
    """Takes in runs."""

    def __init__(
        self,
        settings: Settings,
        graphs: Mapping[str, Graph],
        storage: Storage,
        assistants: Assistants,
        threads: Threads,
        thread_records: ThreadRecords,
        records: RunRecords,
        savers: Savers,
        executor: Executor,
        runner: Runner,
        worker: Worker,
        hub: Hub,
        webhook_rules: WebhookRules,
        permission: Permission,
    ) -> None:
        """Prepare."""
        self._settings = settings
        self._graphs = graphs
        self._storage = storage
        self._assistants = assistants
        self._threads = threads
        self._thread_records = thread_records
        self._records = records
        self._savers = savers
        self._saver = savers.plain(InTime(storage))
        self._executor = executor
        self._runner = runner
        self._worker = worker
        self._hub = hub
        self._webhook_rules = webhook_rules
        self._permission = permission
        # Runs of which it is not known whether Redis took them in; nobody was told of them.
        self._doubtful: list[RunRecord] = []

    def check(self, request: RunRequest) -> Candidate | Replay:
        """Refuse a request that cannot become a run.

        Returns:
            What can be admitted; or the answer, where its idempotency key was used before.

        Raises:
            Refused, AuthFailed, AuthBusy: its caller may not have it, or nobody knows.
            AssistantNotFound, UnknownGraph: there is no such assistant.
            ConflictingRequest: configurable and context, or a resume without a thread.
            UnfitRequest: the graph lacks a node, or refuses the context.
            WebhookRefused: the webhook's address is not one to call.
            KeyReused, KeyInFlight: its idempotency key was used before.
            ThreadNotFound, CheckpointNotFound: there is no such thread, or checkpoint on it.
            NothingToResume: no interrupt waits for what the resume brings.
            StateIncompatible: the thread is to go on with a node that the graph lacks.
            NoRoom: no place to wait for a name to resolve.
            StorageUnavailable: it needs Redis, which is away.
        """
        request, filters = self._permission.run(request)
        request, assistant = self.check_request(request)
        key = self.key_of(
            request.idempotency_key, request.fingerprint, request.thread_id, request.user
        )
        if key is not None and (before := self._records.repeated(key)) is not None:
            return _replay(before)
        if request.thread_id is not None:
            graph = self._graphs[assistant.graph_id]
            self._refuse_what_the_thread_cannot(request, graph, request.thread_id)
        return Candidate(new_record(request, assistant), request, key, filters)

    def check_request(self, request: RunRequest) -> tuple[RunRequest, Assistant]:
        """Refuse a request that could become no run at any time, whatever is on its thread.

        Returns:
            The request, laid over what its assistant has; and that.

        Raises:
            AssistantNotFound, UnknownGraph, ConflictingRequest, UnfitRequest, WebhookRefused: as
                `check` does.
            NoRoom, StorageUnavailable: likewise.
        """
        assistant = self._assistants.resolve(request.assistant_id)
        self._permission.assistant(assistant, request)
        graph = self._graphs[assistant.graph_id]
        if request.configurable and request.context:
            raise ConflictingRequest("configurable and context: at most one of them may be given")
        if request.resumes and request.thread_id is None:
            raise ConflictingRequest("command.resume: needs a thread")
        request = request.over(assistant)
        if graph.nodes is not None:
            _refuse_what_does_not_fit(request, graph.nodes, graph.context_schema)
        if self._webhook_rules.off:
            request = replace(request, webhook=None)
        if request.webhook is not None:
            # A name may take its time to resolve: that is a wait like any other.
            with self._hub.place():
                check_target(request.webhook, self._webhook_rules)
        return request, assistant

    def admit(
        self,
        candidate: Candidate,
        *,
        followed: bool = True,
        streamed: bool = False,
        answer: bytes | None = None,
    ) -> Run | Replay | None:
        """Take in a run: start it here if it is its turn and there is a place.

        Args:
            candidate: what `check` found right.
            followed: whether somebody in this process follows the run.
            streamed: whether that somebody is to be given all its events.
            answer: the answer to the request, where that does not wait for the run's end.

        Returns:
            The run, if it started here; None if it has to wait for its time, its turn or a process
            with a place; the answer to the same request made before.

        Raises:
            KeyReused, KeyInFlight: its idempotency key was used meanwhile.
            ThreadNotFound, ThreadBusy: the thread is gone, or another run has it and this one is
                not to wait.
            NoRoom: no place to execute, and no Redis to keep the run until there is one.
            StorageUnavailable: it needs Redis, which is away.
        """
        request = candidate.request
        # What can be joined is there in all processes from the beginning.
        needs_redis = request.kept or request.delay > 0 or request.stream_resumable or not followed
        if needs_redis or request.webhook or candidate.key is not None:
            return self._take_in(candidate, followed, streamed, answer)
        # Runs that are ready and wait for a place come first.
        if self._worker.starved or not self._executor.reserve():
            try:
                return self._take_in(candidate, followed, streamed, answer)
            except StorageUnavailable as error:
                # The worker has a place while it asks the same Redis for a run, in vain.
                if error.doubtful or not self._executor.reserve():
                    raise NoRoom("all places to execute runs are taken") from error
        run = Run(candidate.record, request)
        self._runner.start_run(run)
        return run

    def admit_all(
        self, candidates: Sequence[Candidate], key: IdempotencyKey | None, answer: bytes
    ) -> Replay | None:
        """Take in runs that nobody waits for, all or none; each starts where there is a place.

        With a key, some may be taken in although Redis fails before the last: they stay, and the
        same request made again takes in the others.

        Args:
            candidates: what `check` found right; none is on a thread that is there already.
            key: what the request may be repeated with.
            answer: the answer to it.

        Returns:
            The answer to the same request made before, if it was.

        Raises:
            KeyReused: the key was used with another request.
            StorageUnavailable: Redis is away, or has no room for them all.
        """
        runs = []
        for each in candidates:
            thread = thread_of(each.record, self._settings) if each.request.kept else None
            runs.append((each.record, each.request.delay, thread))
        verdict = self._admit_from(0, runs, key, answer)
        if verdict.kind == "pending":
            return None
        replay = _replay(verdict)
        if verdict.admitted is not None:
            # Whoever took them in did not come to the last, and perhaps never will.
            meant = []
            for (record, delay, thread), ids in zip(runs, json.loads(replay.document), strict=True):
                run_id, thread_id = ids["run_id"], ids["thread_id"]
                record = replace(record, run_id=run_id, thread_id=thread_id)
                meant.append((record, delay, thread))
            self._admit_from(verdict.admitted, meant, key, answer)
        return replay

    def _admit_from(
        self,
        place: int,
        runs: Sequence[tuple[RunRecord, float, NewThread | None]],
        key: IdempotencyKey | None,
        answer: bytes,
    ) -> Verdict:
        """Take in runs of one request, from one of them on."""
        for start in range(place, len(runs), TOGETHER):
            try:
                verdict = self._records.admit_all(
                    runs,
                    self._settings.run_lease_seconds,
                    start=start,
                    most=TOGETHER,
                    key=key,
                    answer=answer,
                )
            except StorageUnavailable as error:
                # With a key they stay: some may have run by now, and whoever sends the request
                # again has the others taken in as well.
                if key is None:
                    taken_in = runs[: start + TOGETHER if error.doubtful else start]
                    self._doubt([record for record, *_ in taken_in])
                raise
            if verdict.kind != "pending":
                return verdict
        return Verdict("pending")

    def withdraw_doubtful(self) -> bool:
        """Take back what may have been taken in although its client was told that it was not.

        Returns:
            Whether nothing of the kind is left.
        """
        while self._doubtful:
            record = self._doubtful.pop()
            try:
                self._records.withdraw(record)
            except StorageUnavailable:
                self._doubtful.append(record)
                return False
        return True

    def _take_in(
        self, candidate: Candidate, followed: bool, streamed: bool, answer: bytes | None
    ) -> Run | Replay | None:
        """Have Redis take in a run, and start it if it is its turn."""
        record, request = candidate.record, candidate.request
        may_start = request.delay <= 0 and not self._worker.starved
        may_start = may_start and self._executor.reserve()
        verdict = None
        try:
            verdict = self._ask(candidate, may_start, followed, streamed, answer)
        except StorageUnavailable as error:
            if error.doubtful:
                self._doubt([record])
            raise
        finally:
            started = verdict is not None and verdict.kind == "running"
            if may_start and not started:
                self._executor.release()
        if verdict.kind == "missing":
            raise ThreadNotFound(record.thread_id)
        if verdict.kind == "busy":
            raise ThreadBusy(record.thread_id)
        if verdict.kind == "running":
            run = Run(record, request, token=verdict.token, logged=verdict.listened)
            self._runner.start_run(run, is_awaited=followed)
            return run
        return None if verdict.kind == "pending" else _replay(verdict)

    def _doubt(self, records: Sequence[RunRecord]) -> None:
        """Take them back soon: they may have been taken in, although their client is told
        otherwise."""
        for record in records:
            self._doubtful.append(replace(record, metadata={}, kwargs={}, surroundings={}))
        if records and self._storage.problem is None:
            # It was back before this was noted.
            self._executor.help(self._runner.on_faults)

    def _ask(
        self,
        candidate: Candidate,
        may_start: bool,
        followed: bool,
        streamed: bool,
        answer: bytes | None,
    ) -> Verdict:
        record, request = candidate.record, candidate.request
        thread = thread_of(record, self._settings) if request.kept else None
        create = request.thread_id is None or request.if_not_exists == "create"
        seen = None
        for _ in range(TRIES):
            verdict = self._records.admit(
                record,
                self._settings.run_lease_seconds,
                may_start=may_start,
                delay=request.delay,
                key=candidate.key,
                thread=thread,
                missing="create" if create else "reject",
                seen_metadata=seen,
                followed=followed,
                streamed=streamed,
                answer=answer,
            )
            if verdict.kind == "metadata":
                # The thread has metadata of its own, and another graph or none: it gets this run's.
                seen = verdict.metadata
                assert seen is not None and thread is not None
                if not permits(candidate.filters, json.loads(seen)):
                    raise ThreadNotFound(record.thread_id)  # made by another meanwhile
                thread = with_ids(seen, record, thread)
            elif verdict.kind == "left over":
                assert verdict.token is not None
                self._threads.clean(LeftOver(record.thread_id, verdict.token))
            else:
                return verdict
        raise ThreadBusy(record.thread_id)

    def key_of(
        self,
        key: str | None,
        fingerprint: str,
        thread_id: str | None = None,
        user: Mapping[str, Any] | None = None,
    ) -> IdempotencyKey | None:
        """What a request that came with such a header may be repeated with, by the same caller."""
        if key is None:
            return None
        ttl = self._settings.idempotency_ttl_seconds
        # No key has a space.
        by = "" if user is None else f" by {user['identity']}"
        return IdempotencyKey(f"{thread_id or ''} {key}{by}", fingerprint, ttl)

    def permit(self, request: RunRequest) -> None:
        """Ask whether the caller of a request may have a run, before it is known what it is asked.

        Raises:
            Exception: as `check` does, where not.
        """
        self._permission.run(request)

    def waiting_on(self, thread_id: str, assistant_id: str) -> list[Interrupt]:
        """The interrupts of an assistant's graph that a thread waits for answers to.

        Raises:
            AssistantNotFound, UnknownGraph: there is no such assistant.
            StorageUnavailable: Redis is away.
        """
        graph = self._graphs[self._assistants.resolve(assistant_id).graph_id]
        found = resume.latest(self._saver_of(graph), thread_id)
        return resume.waiting_interrupts(found, graph.graph_id)

    def at_breakpoint(self, record: RunRecord) -> bool:
        """Whether a run stopped at a breakpoint, and its thread stands there still.

        Raises:
            StorageUnavailable: Redis is away.
        """
        graph = self._graphs.get(record.graph_id)
        if graph is None or graph.compiled is None:
            return False
        saver = self._saver_of(graph)
        try:
            found = resume.latest(saver, record.thread_id)
            if found is None or found.metadata.get("run_id") != record.run_id:
                return False
            request = RunRequest.restored(record)
            return resume.at_breakpoint(graph.compiled, saver, request, found)
        except (UnrevivableValue, UnreadableRecord):
            return False

    def _saver_of(self, graph: Graph) -> Saver:
        if graph.compiled is None:
            return self._saver
        return self._savers.of(graph.compiled, self._storage)

    def _refuse_what_the_thread_cannot(
        self, request: RunRequest, graph: Graph, thread_id: str
    ) -> None:
        point = request.named_checkpoints
        if not point and not request.goes_on:
            return
        saver = self._saver_of(graph)
        try:
            found = resume.start_of(request, saver, thread_id)
        except UnrevivableValue:
            return  # for the graph to say, which may know more types once it is made
        except CheckpointNotFound:
            self._thread_records.get(thread_id)
            raise
        if not request.goes_on:
            return
        try:
            resume.check_start(request, graph.graph_id, found, graph.compiled, saver)
        except (resume.NothingToResume, StateIncompatible):
            # What waits may come with the runs before it; it is looked for again in its turn.
            if point or self._thread_records.get(thread_id).status != "busy":
                raise


def _replay(before: Verdict) -> Replay:
    """The answer to a request whose idempotency key was used before.

    Raises:
        KeyReused, KeyInFlight: there is none.
    """
    if before.kind == "other":
        raise KeyReused("Idempotency-Key: was used with another body")
    if before.kind == "in flight":
        raise KeyInFlight(before.thread_id, before.run_id)
    return Replay(before.thread_id, before.run_id, before.document)


def new_record(
    request: RunRequest, assistant: Assistant, ids: tuple[str, str] | None = None
) -> RunRecord:
    """The run that a request is to become; its own id and that of a thread made for it are new,
    unless they have to be these."""
    run_id, thread_id = ids or (str(uuid7()), str(uuid7()))
    shown, hidden = request.stored()
    return RunRecord(
        run_id=run_id,
        thread_id=request.thread_id or thread_id,
        assistant_id=assistant.assistant_id,
        graph_id=assistant.graph_id,
        status=RunStatus.RUNNING,
        metadata=request.record_metadata(assistant),
        kwargs=shown,
        surroundings=hidden,
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
