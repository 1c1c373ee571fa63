"""Where a kept run starts: what a resume must find, and what an earlier attempt left.

The checkpoint that a thread stands at says whose it is: `run_id` is in its metadata, since
LangGraph copies the config's metadata there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.constants import START, TAG_HIDDEN
from langgraph.types import Interrupt

from runwait.graphs.langgraph import (
    CHECKPOINTER,
    AnyPregel,
    Saver,
    interrupts_by_task,
    output_of,
)
from runwait.runs import ending
from runwait.runs.ending import Outcome
from runwait.runs.executor import Start
from runwait.runs.request import RunRequest
from runwait.storage.checkpoint import UnrevivableValue
from runwait.threads.compatibility import StateIncompatible, check_next
from runwait.threads.states import CheckpointNotFound


class NothingToResume(Exception):
    """Nothing on the thread waits for what a resume brings; the text says what does."""

    # A run that fails with it leaves its thread as it was.
    leaves_thread = True


class EndedBefore(Exception):
    """An earlier attempt came to the run's end, and could not say so any more."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.status)
        self.outcome = outcome


def latest(saver: Saver, thread_id: str) -> CheckpointTuple | None:
    """The checkpoint that the thread stands at."""
    return saver.get_tuple(_config(thread_id))


def start_of(request: RunRequest, saver: Saver, thread_id: str) -> CheckpointTuple | None:
    """The checkpoint that a run starts from; None where nothing is on its thread yet.

    Raises:
        CheckpointNotFound: the request names one that is not there, of the graph or a subgraph.
        UnrevivableValue: it holds what cannot be revived.
    """
    named = request.named_checkpoints
    for namespace, checkpoint_id in named.items():
        try:
            found = saver.get_tuple(_config(thread_id, namespace, checkpoint_id))
        except UnrevivableValue:
            if not namespace:
                raise
            continue
        if found is None:
            raise CheckpointNotFound(checkpoint_id or f"in namespace {namespace!r}")
        if not namespace:
            start = found
    return start if "" in named else latest(saver, thread_id)


def waiting_interrupts(saved: CheckpointTuple | None, graph_id: str) -> list[Interrupt]:
    """The interrupts of a graph that wait for an answer at a checkpoint."""
    if saved is None or saved.metadata.get("graph_id", graph_id) != graph_id:
        return []  # another graph's
    return [each for raised in interrupts_by_task(saved).values() for each in raised]


def check_resume(resume: Any, waiting: Sequence[Interrupt]) -> None:
    """Refuse a resume that would not be taken.

    Raises:
        NothingToResume: nothing waits, several wait and it is not said which one is meant, or one
            is named that does not wait.
    """
    ids = [each.id for each in waiting]
    if not ids:
        raise NothingToResume("command.resume: no interrupt waits on this thread")
    named = isinstance(resume, dict) and bool(resume) and all(map(_is_interrupt_id, resume))
    if named and (unknown := [each for each in resume if each not in ids]):
        raise NothingToResume(
            f"command.resume: no interrupt {', '.join(unknown)} waits; there are: {', '.join(ids)}"
        )
    if not named and len(ids) > 1:
        raise NothingToResume(
            "command.resume: several interrupts wait, so each value needs its interrupt's id: "
            + ", ".join(ids)
        )


def start(
    graph: AnyPregel,
    saver: Saver,
    request: RunRequest,
    run_id: str,
    thread_id: str,
    graph_id: str,
    attempt: int,
) -> Start:
    """What a kept run starts with.

    Args:
        attempt: how often it was started, this time included.

    Raises:
        NothingToResume: its resume finds nothing.
        CheckpointNotFound: there is no such checkpoint to start from.
        StateIncompatible: it would go on with a node that the graph lacks.
        EndedBefore: it had come to its end.
    """
    # LangGraph would begin anew where a checkpoint is not there that it is told to start from.
    saved = latest(saver, thread_id) if attempt > 1 else start_of(request, saver, thread_id)
    if attempt > 1:
        if saved is not None and saved.metadata.get("run_id") == run_id:
            if at_breakpoint(graph, saver, request, saved):
                raise EndedBefore(ending.interrupted(_values(graph, saver, saved), []))
            try:
                check_next(saved, graph, saver)
            except StateIncompatible as error:
                # The thread does not stand as it did before this run.
                raise EndedBefore(ending.failed(error)) from error
            return Start(None, from_latest=True)
        # The attempt before may have stored the resume's values: they are no longer waited for.
    elif request.goes_on:
        check_start(request, graph_id, saved, graph, saver)
    given = request.graph_input()
    if request.resumes and given.resume == {}:
        # LangGraph would take it for answers by the interrupts' ids, of which there are none.
        waiting = waiting_interrupts(saved, graph_id)
        given = replace(given, resume={each.id: {} for each in waiting})
    return Start(given)


def check_start(
    request: RunRequest,
    graph_id: str,
    saved: CheckpointTuple | None,
    graph: AnyPregel | None,
    saver: Saver,
) -> None:
    """Refuse to go on from a checkpoint in a way that cannot be.

    Args:
        graph: the graph; None where it is not made yet.

    Raises:
        NothingToResume: the request's resume finds nothing.
        StateIncompatible: the graph lacks a node to go on with.
    """
    if request.resumes:
        check_resume((request.command or {})["resume"], waiting_interrupts(saved, graph_id))
    if graph is not None:
        check_next(saved, graph, saver)


def at_breakpoint(
    graph: AnyPregel,
    saver: Saver,
    request: RunRequest,
    saved: CheckpointTuple,
) -> bool:
    """Whether a run stopped where its checkpoint stands, by its breakpoints or its graph's."""
    # As LangGraph has it, those of a request take the place of those that a graph has of its own.
    before = request.interrupt_before or graph.interrupt_before_nodes
    if before and _hits(graph, before, _tasks(graph, saver, saved.config)):
        return True
    after = request.interrupt_after or graph.interrupt_after_nodes
    if after and saved.parent_config is not None:
        return _hits(graph, after, _tasks(graph, saver, saved.parent_config))
    return False


def _hits(graph: AnyPregel, nodes: Literal["*"] | Sequence[str], tasks: list[str]) -> bool:
    if nodes != "*":
        return any(each in nodes for each in tasks)
    return any(
        each != START and TAG_HIDDEN not in (graph.nodes[each].tags or ())
        for each in tasks
        if each in graph.nodes
    )


def _tasks(graph: AnyPregel, saver: Saver, config: RunnableConfig) -> list[str]:
    """The nodes that run from a checkpoint on."""
    state = graph.get_state(_with_saver(config, saver))
    return [task.name for task in state.tasks]


def _values(graph: AnyPregel, saver: Saver, saved: CheckpointTuple) -> Any:
    """The graph's output as of a checkpoint."""
    return output_of(graph, graph.get_state(_with_saver(saved.config, saver)).values)


def _with_saver(config: RunnableConfig, saver: Saver) -> RunnableConfig:
    configurable = {**config["configurable"], CHECKPOINTER: saver}
    return cast(RunnableConfig, {"configurable": configurable})


def _config(
    thread_id: str, namespace: str = "", checkpoint_id: str | None = None
) -> RunnableConfig:
    at = {"checkpoint_id": checkpoint_id} if checkpoint_id else {}
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, **at}}


def _is_interrupt_id(text: str) -> bool:
    return len(text) == 32 and all(each in "0123456789abcdef" for each in text)
