"""Tasks, read from runs.

A context is a thread, and a task is what one message began: a run, and those that went on with it
once its questions were answered. Its id is that of its first run; the later ones name it in their
metadata, so that any process finds them, whichever died. Nothing else is kept of a task.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from runwait.api.a2a.dialects import Data, Part, Task, Text, unknown_task
from runwait.auth.filters import Filters
from runwait.graphs.assistants import is_uuid
from runwait.runs import ending
from runwait.runs.events import End, RunNotFound
from runwait.runs.service import Service
from runwait.storage.records import RunRecord, RunStatus
from runwait.storage.threads import ThreadNotFound, ThreadQuery

# What the metadata of a run says: whose task it is, which one it goes on with, the id of the
# message that asked for it, and its text where that is nowhere else. A thread's names the agent
# too, and the run whose question nobody is to answer any more.
AGENT, TASK, MESSAGE, SAID = "a2a_agent", "a2a_task", "a2a_message", "a2a_said"
WITHDRAWN = "a2a_withdrawn"
# How many runs of a thread are read at once, and how many threads a list of tasks looks through.
_AT_ONCE = 100
MOST_THREADS = 1000
# What is asked by a graph that stopped where it has a breakpoint.
AT_BREAKPOINT = (
    "the graph stopped at a breakpoint: any message goes on, and data is laid over its state"
)
# Time for the recording of an end.
END_SECONDS = 1.0


@dataclass(frozen=True)
class TaskRuns:
    """The runs of a task.

    Attributes:
        runs: the latest first; never none.
        is_latest: whether no run of its thread came after them.
        withdrawn: the run of its thread whose question nobody is to answer any more.
    """

    runs: Sequence[RunRecord]
    is_latest: bool
    withdrawn: str | None

    @property
    def task_id(self) -> str:
        """The id of the task."""
        return self.runs[-1].run_id

    @property
    def latest(self) -> RunRecord:
        """The run that it stands by."""
        return self.runs[0]


class Tasks:
    """The tasks of an agent.

    Methods raise StorageUnavailable where Redis cannot be asked.
    """

    def __init__(self, service: Service, agent: str) -> None:
        """Prepare.

        Args:
            service: has the runs.
            agent: the id of the assistant.
        """
        self._service = service
        self._agent = agent

    def find(self, task_id: Any) -> TaskRuns:
        """The runs of a task.

        Raises:
            RpcError: the agent has no such task.
        """
        gone = unknown_task(task_id)
        if not isinstance(task_id, str) or not is_uuid(task_id):
            raise gone
        try:
            first = self._service.get(None, task_id.lower())
            if not self._begins_task(first):
                raise gone
            thread = self._service.threads.get(first.thread_id)
            runs, latest = [], None
            for record in self._runs(first.thread_id):
                latest = latest or record.run_id
                if record.run_id == first.run_id:
                    break
                if record.metadata.get(TASK) == first.run_id:
                    runs.append(record)
        except (RunNotFound, ThreadNotFound):
            raise gone from None
        runs.append(first)
        # This process may know more of it than Redis.
        runs[0] = self._service.get(first.thread_id, runs[0].run_id)
        withdrawn = thread["metadata"].get(WITHDRAWN)
        return TaskRuns(runs, latest in (None, runs[0].run_id), withdrawn)

    def all(self, context_id: str | None, filters: Filters) -> Iterator[TaskRuns]:
        """The tasks of a context, or of those that were used last.

        Args:
            context_id: the context; None for all.
            filters: what the metadata of theirs must contain besides.
        """
        query = ThreadQuery(
            ids=None if context_id is None else [context_id],
            metadata={AGENT: self._agent} if context_id is None else {},
            permitted=filters,
            limit=MOST_THREADS,
        )
        threads, _, _ = self._service.threads.search(query, select=("thread_id", "metadata"))
        for thread in threads:
            try:
                records = list(self._runs(thread["thread_id"]))
            except ThreadNotFound:
                continue
            of_task: dict[str, list[RunRecord]] = {}
            for record in records:
                if record.metadata.get(AGENT) == self._agent:
                    task_id = record.metadata.get(TASK, record.run_id)
                    of_task.setdefault(task_id, []).append(record)
            for runs in of_task.values():
                if self._begins_task(runs[-1]):
                    withdrawn = thread["metadata"].get(WITHDRAWN)
                    yield TaskRuns(runs, runs[0] is records[0], withdrawn)

    def task(self, found: TaskRuns) -> Task:
        """A task as it stands."""
        latest = found.latest
        state, parts = self._outcome(found)
        return Task(
            task_id=found.task_id,
            context_id=latest.thread_id,
            state=state,
            at=latest.updated_at,
            run_id=latest.run_id,
            said=() if state == "completed" else parts,
            result=parts if state == "completed" else (),
            history=[_asked(each) for each in reversed(found.runs)],
        )

    def state(self, found: TaskRuns) -> str:
        """The state of a task; what it came to is only read where that says it."""
        if found.latest.status is RunStatus.INTERRUPTED:
            return self._outcome(found)[0]
        return _STATES[found.latest.status]

    def _begins_task(self, record: RunRecord) -> bool:
        return record.metadata.get(AGENT) == self._agent and TASK not in record.metadata

    def _runs(self, thread_id: str) -> Iterator[RunRecord]:
        """The runs of a thread, newest first."""
        offset = 0
        while page := self._service.of_thread(thread_id, _AT_ONCE, offset, None):
            yield from page
            offset += len(page)

    def _outcome(self, found: TaskRuns) -> tuple[str, Sequence[Part]]:
        """The state of a task; with it a question, why it failed, or what it came to."""
        latest = found.latest
        interrupted = latest.status is RunStatus.INTERRUPTED
        if not latest.status.ended:
            return _STATES[latest.status], ()
        if interrupted and (not found.is_latest or found.withdrawn == latest.run_id):
            return "canceled", ()
        try:
            document = self._document(latest)
        except RunNotFound:  # what it came to is gone
            return _STATES.get(latest.status, "canceled"), ()
        if document is None:
            return "working", ()
        values = json.loads(document)
        held = values if isinstance(values, dict) else {}
        if interrupted:
            told = held.get(ending.INTERRUPT)
            # A graph that was stopped may have given anything under this name.
            interrupts = told if isinstance(told, list) else []
            asked = [_question(each) for each in interrupts if _is_interrupt(each)]
            if not asked and self._service.at_breakpoint(latest):
                asked = [Text(AT_BREAKPOINT)]
            return ("input-required" if asked else "canceled"), asked
        state = _STATES[latest.status]
        if state == "completed":
            return state, result_of(values)
        error = held.get(ending.ERROR) or {"error": "Error", "message": "nobody knows why"}
        return state, [Text(f"{error['error']}: {error['message']}")]

    def _document(self, record: RunRecord) -> bytes | None:
        """The document of a run that ended; None if it is not there yet."""
        with closing(self._service.join(record.thread_id, record.run_id)) as follower:
            # Where the end is just being recorded here, it follows at once.
            follower.wait(END_SECONDS)
            return next((each.document for each in follower.take() if isinstance(each, End)), None)


_STATES = {
    RunStatus.PENDING: "submitted",
    RunStatus.RUNNING: "working",
    RunStatus.SUCCESS: "completed",
    RunStatus.ERROR: "failed",
    RunStatus.TIMEOUT: "failed",
}


def result_of(values: Any) -> Sequence[Part]:
    """What a graph's output is as an artifact: its last message, or all of it."""
    messages = values.get("messages") if isinstance(values, dict) else None
    for each in reversed(messages if isinstance(messages, list) else []):
        if isinstance(each, dict) and each.get("type") == "ai":
            return [Text(text_of(each.get("content")))]
    return [Data(values)]


def text_of(content: Any) -> str:
    """The text of a message's content, which may be a list of blocks."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    texts = [each if isinstance(each, str) else each.get("text") for each in blocks if each]
    return "".join(each for each in texts if isinstance(each, str))


def _is_interrupt(value: Any) -> bool:
    return isinstance(value, dict) and {"id", "value"} <= value.keys()


def _question(interrupt: dict[str, Any]) -> Part:
    value = interrupt["value"]
    return Text(value) if isinstance(value, str) else Data(value, {"interruptId": interrupt["id"]})


def _asked(record: RunRecord) -> tuple[str, Sequence[Part]]:
    """The message that asked for a run: its id and parts."""
    message_id = record.metadata.get(MESSAGE, record.run_id)
    if SAID in record.metadata:
        return message_id, [Text(str(record.metadata[SAID]))]
    command = record.kwargs.get("command") or {}
    given = command.get("resume", command.get("update"))
    if given is None:
        given = record.kwargs.get("input")
    if isinstance(given, str):
        return message_id, [Text(given)]
    messages = given.get("messages") if isinstance(given, dict) else None
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(given, dict) or not isinstance(last, dict) or last.get("id") != message_id:
        return message_id, [Data(given)]
    rest = {name: value for name, value in given.items() if name != "messages"}
    if earlier := (messages or [])[:-1]:
        rest["messages"] = earlier
    return message_id, [Text(str(last.get("content"))), *([Data(rest)] if rest else [])]
