"""The commands of the protocol, as requests for runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from runwait.runs.admission import Admission, Replay
from runwait.runs.events import RunNotFound
from runwait.runs.protocol.events import PROTOCOL
from runwait.runs.request import RunRequest
from runwait.storage.events import EventRecords
from runwait.storage.records import RunRecord, RunRecords, RunStatus
from runwait.storage.threads import ThreadNotFound, ThreadRecords


class NoSuchInterrupt(Exception):
    """The thread does not wait for what an answer brings; the text says what for."""


class Commands:
    """What clients can ask for by the protocol. All may raise StorageUnavailable."""

    def __init__(
        self,
        admission: Admission,
        thread_records: ThreadRecords,
        records: RunRecords,
        logs: EventRecords,
    ) -> None:
        """Prepare."""
        self._admission = admission
        self._thread_records = thread_records
        self._records = records
        self._logs = logs

    def start(self, request: RunRequest) -> tuple[str, int]:
        """Admit a run. Where the thread waits for answers, the request's input is the answer.

        Returns:
            The run's id; and the number after which its events are, 0 if that is not known yet.

        Raises:
            Exception: all that `Admission.check` and `Admission.admit` raise.
        """
        self._admission.permit(request)
        if request.input is not None and not request.starting_point:
            assert request.thread_id is not None
            if self._waits(request.thread_id):
                waiting = self._admission.waiting_on(request.thread_id, request.assistant_id)
                if waiting:
                    # Which of several is meant, LangGraph has to say.
                    answers = {waiting[0].id: request.input}
                    resume = answers if len(waiting) == 1 else request.input
                    request = replace(request, input=None, command={"resume": resume})
        return self._admit(request)

    def respond(
        self, thread_id: str, request_id: str, answers: Mapping[str, Any], asked: Mapping[str, Any]
    ) -> tuple[str, int]:
        """Admit a run that answers interrupts of a thread.

        Args:
            thread_id: the thread.
            request_id: the request's X-Request-ID.
            answers: by the ids of the interrupts.
            asked: what else the run is asked: `update` and `goto` of its command, and fields of
                RunRequest.

        Raises:
            RunNotFound: no run has left anything on such a thread.
            NoSuchInterrupt: it does not wait for one of the answers.
            Exception: all that `start` raises.
        """
        try:
            metadata = self._thread_records.get(thread_id).metadata
        except ThreadNotFound:
            raise RunNotFound(f"on thread {thread_id}") from None
        assistant_id = str(metadata.get("assistant_id", ""))
        if not assistant_id:
            raise RunNotFound(f"on thread {thread_id}")
        command = {"resume": dict(answers)}
        command |= {name: asked[name] for name in ("update", "goto") if name in asked}
        rest = {name: value for name, value in asked.items() if name not in command}
        request = RunRequest(
            assistant_id=assistant_id,
            thread_id=thread_id,
            request_id=request_id,
            command=command,
            # Another run may answer them, or leave what they are about.
            multitask_strategy="reject",
            **rest,
        )
        try:
            self._admission.permit(request)
        except ThreadNotFound:
            raise RunNotFound(f"on thread {thread_id}") from None
        waiting = self._admission.waiting_on(thread_id, assistant_id)
        ids = [each.id for each in waiting]
        if unknown := [each for each in answers if each not in ids]:
            there = ", ".join(ids) or "none"
            raise NoSuchInterrupt(f"no interrupt {', '.join(unknown)} waits; there are: {there}")
        return self._admit(request)

    def tree(self, thread_id: str, run_id: str | None) -> dict[str, Any]:
        """A run, or the thread's latest one, and the subgraphs that it went into.

        Raises:
            RunNotFound: there is none.
        """
        record = self._run(thread_id, run_id)
        root = _node([], _STATES[record.status], record.graph_id)
        nodes: dict[tuple[str, ...], dict[str, Any]] = {(): root}
        for namespace, what in self._lifecycle(record.run_id):
            node = nodes.get(namespace)
            if node is None:
                node = nodes[namespace] = _node(list(namespace), "started", "")
                parent = max(
                    (each for each in nodes if each == namespace[: len(each)] != namespace),
                    key=len,
                )
                nodes[parent].setdefault("children", []).append(node)
            node["status"] = what["event"]
            node["graph_name"] = what.get("graph_name", node["graph_name"])
        return root

    def _run(self, thread_id: str, run_id: str | None) -> RunRecord:
        if run_id is None:
            for record in self._records.of_thread(thread_id, 1, 0, None) or ():
                return record
        elif (stored := self._records.read(run_id)) and stored.record.thread_id == thread_id:
            return stored.record
        raise RunNotFound(run_id or f"on thread {thread_id}")

    def _lifecycle(self, run_id: str) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
        at, to_the_end = (0, 0), False
        while not to_the_end:
            events, to_the_end = self._logs.after(run_id, at)
            for event in events:
                at = event.id
                name, *namespace = event.name.split("|")
                if name == "lifecycle" and namespace:
                    yield tuple(namespace), json.loads(event.data)

    def _waits(self, thread_id: str) -> bool:
        try:
            return self._thread_records.get(thread_id).status == "interrupted"
        except ThreadNotFound:
            return False

    def _admit(self, request: RunRequest) -> tuple[str, int]:
        request = replace(
            request, stream_mode=[PROTOCOL], stream_subgraphs=True, stream_resumable=True
        )
        candidate = self._admission.check(request)
        assert not isinstance(candidate, Replay)  # there is no key
        run = self._admission.admit(candidate, followed=False)
        assert not isinstance(run, Replay)
        return candidate.record.run_id, 0 if run is None or run.token is None else run.token


_STATES = {
    RunStatus.PENDING: "started",
    RunStatus.RUNNING: "running",
    RunStatus.SUCCESS: "completed",
    RunStatus.ERROR: "failed",
    RunStatus.TIMEOUT: "failed",
    RunStatus.INTERRUPTED: "interrupted",
}


def _node(namespace: list[str], status: str, graph_name: str) -> dict[str, Any]:
    return {"namespace": namespace, "status": status, "graph_name": graph_name}
