"""Whether what a thread holds fits its graph, and what of it does not.

A thread lasts longer than a version of its graph. LangGraph passes over what a later version has no
place for: a node to go on with that is gone, say, and with it the answer that it waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from types import TracebackType
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.channels.base import BaseChannel
from langgraph.checkpoint.base import (
    Checkpoint,
    CheckpointTuple,
    copy_checkpoint,
)
from langgraph.constants import END
from langgraph.errors import InvalidUpdateError
from langgraph.pregel import Pregel
from pydantic import ValidationError

from runwait.graphs.langgraph import (
    JOIN,
    NEXT,
    SENDS,
    TASK_MODULE,
    AnyPregel,
    Saver,
    attached,
    without_tasks,
)
from runwait.storage.checkpoint import Fenced, UnrevivableValue, UnstorableValue
from runwait.storage.connection import StorageUnavailable

ELSEWHERE = (StorageUnavailable, Fenced)
"""Faults that are not of the state, its graph or the request."""


class StateIncompatible(Exception):
    """What the thread holds does not fit its graph, which has changed since or is gone."""

    # A run that fails with it leaves its thread as it was.
    leaves_thread = True


def check_next(saved: CheckpointTuple | None, pregel: AnyPregel, saver: Saver) -> None:
    """Refuse to go on from a checkpoint with a node which the graph, or a subgraph, lacks.

    Raises:
        StateIncompatible: it would be passed over, and the thread end as if all were done.
        Fenced, StorageUnavailable: as the saver does.
    """
    if saved is None:
        return
    check_seen([saved], pregel)
    if len(dict(_graphs(pregel))) == 1:
        return
    seen, reader = noting(saver)
    try:
        attached(pregel, reader).get_state(saved.config, subgraphs=True)
    except ELSEWHERE:
        raise
    except Exception:
        return  # the run comes upon it too, and says what it is
    check_seen(seen, pregel)


def check_seen(seen: Iterable[CheckpointTuple], pregel: AnyPregel) -> None:
    """Refuse checkpoints, of the graph or its subgraphs, that go on with a node which is gone.

    Raises:
        StateIncompatible: one of them does.
    """
    graphs = dict(_graphs(pregel))
    for saved in seen:
        graph = graphs.get(without_tasks(saved.config["configurable"].get("checkpoint_ns", "")))
        if graph is not None:
            _check(saved.checkpoint, graph)


def _graphs(pregel: AnyPregel, namespace: str = "") -> Iterator[tuple[str, AnyPregel]]:
    """The graph and its subgraphs by their namespaces, as far as these are certain.

    Of a function that calls several, LangGraph's own search finds one for all their checkpoints.
    """
    yield namespace, pregel
    for name, node in pregel.nodes.items():
        if isinstance(node.bound, Pregel):
            yield from _graphs(node.bound, f"{namespace}|{name}" if namespace else name)


def _check(checkpoint: Checkpoint, pregel: AnyPregel) -> None:
    versions = checkpoint["channel_versions"]
    # What an earlier step wrote to such a channel, and nobody has taken since, is of no account.
    newest = max(versions.values(), default=None)
    for channel, value in checkpoint["channel_values"].items():
        if versions.get(channel) != newest:
            continue
        for node in _following(channel, value):
            known = node in pregel.nodes
            if known and (channel in pregel.channels or not channel.startswith(JOIN)):
                continue
            raise StateIncompatible(
                f"channel {channel!r}: the thread is to go on with node {node!r}, which the graph "
                f"does not {'come to in this way' if known else 'have'} any more"
            )


def _following(channel: str, value: Any) -> Iterator[str]:
    """The nodes that come next by what a channel holds."""
    if channel.startswith(NEXT):
        yield channel.removeprefix(NEXT)
    elif channel.startswith(JOIN):
        awaited, _, node = channel.removeprefix(JOIN).rpartition(":")
        # Before a deferred node, with a flag beside it.
        came = value[0] if isinstance(value, tuple | list) else value
        if len("+".join(came)) == len(awaited):
            yield node
    elif channel == SENDS:
        # A send to the end goes nowhere.
        yield from (send.node for send in value if send.node != END)


def noting(saver: Saver) -> tuple[list[CheckpointTuple], Saver]:
    """A saver that notes what is read through it."""
    seen: list[CheckpointTuple] = []
    noting = copy(saver)

    def get_tuple(config: RunnableConfig) -> CheckpointTuple | None:
        saved = saver.get_tuple(config)
        if saved is not None:
            # LangGraph lays what tasks have done since over the one that it is given.
            seen.append(saved._replace(checkpoint=copy_checkpoint(saved.checkpoint)))
        return saved

    noting.get_tuple = get_tuple  # type: ignore[method-assign]
    return seen, noting


def channel_of(error: BaseException) -> str | None:
    """The channel that an error is about, where it can be told.

    The names in pydantic's complaint are those of the state's fields.
    """
    if isinstance(error, UnrevivableValue | UnstorableValue):
        return error.channel
    if isinstance(error, ValidationError):
        places = [problem["loc"] for problem in error.errors(include_url=False)]
        return str(places[0][0]) if places and places[0] else None
    return raised_in(error)


def raised_in(error: BaseException) -> str | None:
    """The channel in whose code, its reducer included, an error was raised: it is found among the
    frames that the error went through."""
    found = None
    for frame in _frames(error.__traceback__):
        owner = frame.f_locals.get("self")
        if isinstance(owner, BaseChannel):
            found = owner.key
    return found or None


def refused_by_channel(error: BaseException) -> bool:
    """Whether a channel refused what was written to it, once its tasks had ended: what is stored
    of that can be neither read nor gone on from."""
    modules = {frame.f_globals.get("__name__") for frame in _frames(error.__traceback__)}
    return raised_in(error) is not None and TASK_MODULE not in modules


def _frames(traceback: TracebackType | None) -> Iterator[Any]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def text_of(error: BaseException) -> str:
    """What is wrong, with the channel that it is about."""
    if isinstance(error, UnrevivableValue | UnstorableValue):
        return str(error)
    channel = channel_of(error)
    if isinstance(error, ValidationError) and channel is not None:
        return f"channel {channel!r}: {error.errors(include_url=False)[0]['msg']}"
    said = str(error).split("\nFor troubleshooting")[0]
    plain = isinstance(error, ValueError | InvalidUpdateError)
    named = said if plain else f"{type(error).__name__}: {said}"
    return named if channel is None else f"channel {channel!r}: {named}"
