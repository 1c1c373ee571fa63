"""What threads hold: read as their graphs see it, and changed as if a node had done it.

LangGraph makes a state of a checkpoint with the graph that wrote it: which nodes come next, and
what they wait for. So a state needs its graph, and may not fit it any more after a deployment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Coroutine, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import CheckpointTuple, copy_checkpoint
from langgraph.constants import END, START
from langgraph.errors import InvalidUpdateError
from langgraph.pregel import Pregel
from langgraph.pregel.protocol import PregelProtocol
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph.types import Command, Interrupt, Send, StateSnapshot, StateUpdate
from pydantic import ValidationError

from runwait.graphs.context import coerce_context
from runwait.graphs.graph import Graph
from runwait.graphs.langgraph import (
    NO_VALUES,
    PSEUDO_NODES,
    RUNTIME,
    AnyPregel,
    Saver,
    attached,
    interrupts_by_task,
    output_of,
    reading,
    unknown_nodes,
    without_tasks,
)
from runwait.storage.checkpoint import RedisSaver, StateLost, UnrevivableValue, allowlist_of
from runwait.storage.connection import StorageUnavailable
from runwait.storage.threads import ThreadRecord
from runwait.threads.compatibility import (
    ELSEWHERE,
    StateIncompatible,
    channel_of,
    check_seen,
    noting,
    text_of,
)

log = logging.getLogger("runwait.runs")

T = TypeVar("T")

EMPTY: Mapping[str, Any] = {
    "values": {},
    "next": [],
    "tasks": [],
    "metadata": None,
    "created_at": None,
    "checkpoint": None,
    "parent_checkpoint": None,
    "interrupts": [],
    "checkpoint_id": None,
    "parent_checkpoint_id": None,
}
"""The state of a thread that has none."""


class CheckpointNotFound(Exception):
    """The thread has no checkpoint of this id, or in this place."""

    # A run that fails with it leaves its thread as it was.
    leaves_thread = True

    def __init__(self, name: object) -> None:
        super().__init__(f"checkpoint {name} not found")


class NoGraph(Exception):
    """The thread belongs to no graph yet, so nothing can be done to its state."""


class UpdateRefused(ValueError):
    """The graph does not take this update."""


@dataclass(frozen=True, kw_only=True)
class At:
    """Which of a thread's checkpoints is meant.

    Attributes:
        checkpoint_id: its id; None for the latest.
        checkpoint_ns: its namespace: "" for the thread's graph, a task's for a subgraph.
        checkpoint_map: for the namespaces above, the checkpoints that it belongs to.
    """

    checkpoint_id: str | None = None
    checkpoint_ns: str = ""
    checkpoint_map: Mapping[str, str] | None = None

    def config(self, thread_id: str, **configurable: Any) -> RunnableConfig:
        """It, as LangGraph is told."""
        own: dict[str, Any] = {"thread_id": thread_id, "checkpoint_ns": self.checkpoint_ns}
        checkpoint_id = self.checkpoint_id or (self.checkpoint_map or {}).get(self.checkpoint_ns)
        if checkpoint_id:
            own["checkpoint_id"] = checkpoint_id
        if self.checkpoint_map:
            own["checkpoint_map"] = dict(self.checkpoint_map)
        return {"configurable": {**configurable, **own}}


LATEST = At()

# How many checkpoints are looked at for one that is whole.
_LOOKED_AT = 100


class _Paths(NamedTuple):
    """Where a request has its updates.

    Attributes:
        update: what goes before the names of an update's fields, by the superstep and the update.
        values: what values come from, by the superstep.
    """

    update: str
    values: str


_ALONE = _Paths("", "values")
_IN_SUPERSTEPS = _Paths("supersteps.{}.updates.{}.", "supersteps.{}.updates")


class States:
    """The states of threads, by way of their graphs."""

    def __init__(
        self,
        graphs: Mapping[str, Graph],
        saver: Saver,
        store: BaseStore,
        run_on_loop: Callable[[Coroutine[Any, Any, Any]], Any],
        saver_of: Callable[[AnyPregel], Saver] | None = None,
        made_with: Callable[[str], Mapping[str, Any]] = lambda thread_id: {},
    ) -> None:
        """Make it for these graphs.

        Args:
            graphs: what can be run, by name.
            saver: where the checkpoints are, for what is read without a graph.
            store: for graphs, and for what their edges do in an update.
            run_on_loop: runs a coroutine on the event loop of the process and returns, on the
                thread that asked, what comes of it.
            saver_of: the same for a graph: it revives the types that the graph's state holds. By
                default these are looked for each time.
            made_with: what a factory found in `config["configurable"]` when it made the graph of
                a thread, by the thread's id.
        """
        self._graphs = graphs
        self._saver = saver
        self._store = store
        self._run_on_loop = run_on_loop
        self._made_with = made_with
        self._saver_of = saver_of or (lambda graph: saver.with_allowlist(allowlist_of(graph)))

    def summary(
        self, thread_id: str, graph_id: str | None
    ) -> tuple[Any, dict[str, list[dict[str, Any]]]]:
        """The latest values, None if there are none, and what waits for an answer, by task.

        This never fails for what a thread holds. Where the graph is not at hand (it is gone, or a
        factory would have to make it) or does not fit, the values are those of the checkpoint. What
        cannot be revived is left out.

        Raises:
            StorageUnavailable: the checkpoints can't be read.
        """
        graph = self._graphs.get(graph_id or "")
        config = LATEST.config(thread_id)
        saver = _lenient(self._saver)
        if graph is not None and graph.compiled is not None:
            saver = _lenient(self._saver_of(graph.compiled))
            seen, reader = noting(saver)
            try:
                snapshot = reading(graph.compiled, reader).get_state(config)
                check_seen(seen, graph.compiled)
            except StorageUnavailable:
                raise
            except Exception as error:
                log.warning("thread %s does not fit its graph: %r", thread_id, error)
            else:
                waiting = {
                    task.id: [_interrupt(each) for each in task.interrupts]
                    for task in snapshot.tasks
                    if task.interrupts
                }
                return (None if snapshot.created_at is None else snapshot.values), waiting
        try:
            saved = saver.get_tuple(config)
        except (UnrevivableValue, StateLost) as error:
            log.warning("thread %s can't be read: %s", thread_id, error)
            return None, {}
        return _raw(saved) if saved else (None, {})

    def get(
        self, thread_id: str, graph_id: str | None, at: At = LATEST, *, subgraphs: bool = False
    ) -> dict[str, Any]:
        """A state, as the API shows it (contract section 4).

        What cannot be shown is left out, and named in `unreadable`; `go_on_from` is then the newest
        checkpoint of which all can be.

        Args:
            at: which; the latest shows what tasks have done since its checkpoint.
            subgraphs: whether tasks that are subgraphs show their own states.

        Raises:
            CheckpointNotFound: `at` names a checkpoint that is not there.
            StateIncompatible: the state does not fit the graph.
            StorageUnavailable: the checkpoints can't be read.
        """
        config = at.config(thread_id)
        asked = config["configurable"].get("checkpoint_id")

        def read(pregel: AnyPregel) -> dict[str, Any]:
            saver = _lenient(self._saver_of(pregel))
            seen, noted = noting(saver)
            state = _shown(reading(pregel, noted), saver, config, subgraphs)
            if asked is None:
                check_seen(seen, pregel)
            return _with_way_on([state], saver, config)[0]

        state = self._read(thread_id, graph_id, read) if graph_id else dict(EMPTY)
        if asked is not None and state["created_at"] is None:
            raise CheckpointNotFound(asked)
        return state

    def history(
        self,
        thread_id: str,
        graph_id: str | None,
        *,
        limit: int = 10,
        before: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        at: At = LATEST,
    ) -> list[dict[str, Any]]:
        """States, newest first; what of one cannot be shown is left out, and named there.

        Args:
            limit: how many at most.
            before: only checkpoints older than the one of this id.
            metadata: only checkpoints whose metadata has these values.
            at: whose namespace is meant; with an id, only that checkpoint.

        Raises:
            StateIncompatible: there is no graph that shows them.
            StorageUnavailable: the checkpoints can't be read.
        """
        if graph_id is None:
            return []
        older = {"configurable": {"checkpoint_id": before}} if before else None

        def read(pregel: AnyPregel) -> list[dict[str, Any]]:
            saver = _lenient(self._saver_of(pregel))
            graph, config = reading(pregel, saver), at.config(thread_id)
            asked: dict[str, Any] = {"before": older, "limit": limit}
            asked["filter"] = dict(metadata) if metadata else None
            try:
                states = [_public(each) for each in graph.get_state_history(config, **asked)]
            except ELSEWHERE:
                raise
            except Exception:
                found = saver.list(config, **asked)
                states = [_shown(graph, saver, each.config) for each in found]
                return _with_way_on(states, saver, config)
            return _with_way_on([_with_problems(each, saver) for each in states], saver, config)

        return self._read(thread_id, graph_id, read)

    def output(
        self, thread_id: str, graph_id: str, run_id: str
    ) -> tuple[Any, tuple[Interrupt, ...]]:
        """The output of a run as of its last checkpoint, None if it has none, and what waits there.

        Raises:
            StateIncompatible: the checkpoint does not fit the graph.
            StorageUnavailable: the checkpoints can't be read.
        """

        def read(pregel: AnyPregel) -> tuple[Any, tuple[Interrupt, ...]]:
            states = reading(pregel, self._saver_of(pregel)).get_state_history(
                LATEST.config(thread_id), filter={"run_id": run_id}, limit=1
            )
            for state in states:
                return output_of(pregel, state.values), state.interrupts
            return None, ()

        return self._read(thread_id, graph_id, read)

    def check(
        self, graph_id: str | None, values: Any, as_node: str | None, at: At = LATEST
    ) -> None:
        """Refuse what can be seen to be wrong before the thread is held for an update.

        Raises:
            NoGraph: there is no graph.
            StateIncompatible: the graph is gone.
            UpdateRefused: the graph has no such node or subgraph.
        """
        self._check(graph_id, [[StateUpdate(values, as_node)]], at, _ALONE)

    def check_supersteps(self, graph_id: Any, supersteps: Sequence[Mapping[str, Any]]) -> None:
        """Refuse what can be seen to be wrong before there is a thread for the supersteps.

        Raises:
            NoGraph: there is no graph.
            UpdateRefused: it is none that is served, or it has no such nodes.
        """
        if graph_id is not None and graph_id not in [*self._graphs]:
            names = ", ".join(self._graphs)
            raise UpdateRefused(f"metadata.graph_id: must be one of the graphs: {names}")
        self._check(graph_id, _steps(supersteps), LATEST, _IN_SUPERSTEPS)

    def _check(
        self, graph_id: str | None, steps: list[list[StateUpdate]], at: At, paths: _Paths
    ) -> None:
        if graph_id is None:
            raise NoGraph(
                "the thread belongs to no graph: run one on it, or set graph_id in its metadata"
            )
        pregel = self._graph(graph_id).compiled
        if pregel is not None:
            _refuse_misnamed(pregel, steps, at, paths)

    def update(
        self,
        thread_id: str,
        graph_id: str | None,
        values: Any,
        as_node: str | None = None,
        at: At = LATEST,
        token: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Change the state as if a node had returned these values.

        Its edges are followed, no node runs. An update after which the state could not be read is
        refused, and leaves the thread as it was.

        Args:
            values: what the node returned; null is nothing.
            as_node: which node; by default the one that was last, if there was only one.
            at: the checkpoint to go on from; by default the latest.
            token: the fencing token that the thread is held by.
            metadata: for the new checkpoint.

        Returns:
            The new checkpoint: `checkpoint`, `configurable` and `checkpoint_id`.

        Raises:
            NoGraph: there is no graph.
            CheckpointNotFound: `at` names a checkpoint that is not there.
            UpdateRefused: the graph does not take it.
            StateIncompatible: what is there does not fit the graph.
            Fenced: somebody else has taken the thread since.
            StorageUnavailable: Redis is not there.
        """
        steps = [[StateUpdate(values, as_node)]]
        return self._write(thread_id, graph_id, steps, at, token, metadata, _ALONE)

    def supersteps(
        self,
        thread_id: str,
        graph_id: str | None,
        supersteps: Sequence[Mapping[str, Any]],
        token: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Build a state up from updates, as POST /threads takes them.

        Args:
            supersteps: each has `updates`, and each of these `as_node` and either `values` or a
                `command` (an object with `update` and `goto`).

        Returns:
            As `update`. Of supersteps before one that is refused, the checkpoints are there.

        Raises:
            As `update`.
        """
        steps = _steps(supersteps)
        return self._write(thread_id, graph_id, steps, LATEST, token, metadata, _IN_SUPERSTEPS)

    def waits(self, thread_id: str, graph_id: str) -> bool:
        """Whether the thread has a node to go on with."""
        try:
            return bool(self.get(thread_id, graph_id)["next"])
        except StateIncompatible:
            # Something is left that could not be done.
            return True

    def _write(
        self,
        thread_id: str,
        graph_id: str | None,
        steps: list[list[StateUpdate]],
        at: At,
        token: int | None,
        metadata: Mapping[str, Any] | None,
        paths: _Paths,
    ) -> dict[str, Any]:
        self._check(graph_id, steps, at, paths)
        assert graph_id is not None
        graph = self._graph(graph_id)
        config = at.config(thread_id)
        written: set[str] = set()

        def arguments(pregel: AnyPregel) -> tuple[AnyPregel, RunnableConfig]:
            _refuse_misnamed(pregel, steps, at, paths)
            saver = self._saver_of(pregel)
            if token is not None and isinstance(saver, RedisSaver):
                # Reading the latest state raises the fence; from elsewhere it is not read.
                if at != LATEST:
                    saver.raise_fence(thread_id, token)
                saver = saver.fenced(token)
            if at.checkpoint_id and not at.checkpoint_ns and isinstance(saver, RedisSaver):
                saver = saver.from_elsewhere()
            if "checkpoint_id" in config["configurable"] and not _exists(saver, config):
                raise CheckpointNotFound(config["configurable"]["checkpoint_id"])
            runtime = Runtime(context=coerce_context(pregel.context_schema, {}), store=self._store)
            full = at.config(thread_id, **{RUNTIME: runtime})
            full["metadata"] = {
                **(metadata or {}),
                "graph_id": graph_id,
                "thread_id": thread_id,
            }
            return reading(pregel, _checking(saver, pregel, written)), full

        given = self._arguments(thread_id, graph_id)
        try:
            if graph.execution == "sync":
                with graph.make(*given, access="threads.update") as made:
                    pregel, full = arguments(made)
                    came = pregel.bulk_update_state(full, steps)
            else:

                async def on_loop() -> RunnableConfig:
                    async with graph.amake(*given, access="threads.update") as made:
                        pregel, full = await asyncio.to_thread(arguments, made)
                        return await pregel.abulk_update_state(full, steps)

                came = self._run_on_loop(on_loop())
        except (*ELSEWHERE, CheckpointNotFound, UpdateRefused):
            raise
        except (UnrevivableValue, ValidationError) as error:
            raise self._unfit(thread_id, graph_id, error) from error
        except (Exception, SystemExit) as error:
            if not isinstance(error, InvalidUpdateError):
                # Most likely an edge's own code.
                log.warning("an update of thread %s was refused", thread_id, exc_info=error)
            # Each superstep makes one checkpoint.
            path = paths.values.format(len(written))
            raise UpdateRefused(f"{path}: {text_of(error)}") from error
        checkpoint = {
            name: came["configurable"][name]
            for name in ("thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map")
            if name in came["configurable"]
        }
        return {
            "checkpoint": checkpoint,
            "configurable": checkpoint,
            "checkpoint_id": checkpoint["checkpoint_id"],
        }

    def annotate(
        self, thread_id: str, graph_id: str | None, metadata: Mapping[str, Any], token: int
    ) -> None:
        """Lay metadata over that of the latest checkpoint, which stays what it is otherwise.

        Raises:
            CheckpointNotFound: there is none.
            StateIncompatible, Fenced, StorageUnavailable: as `update` does.
        """
        graph = self._graph(graph_id).compiled if graph_id is not None else None
        saver = self._saver if graph is None else self._saver_of(graph)
        found = saver.get_tuple(LATEST.config(thread_id))
        if found is None:
            raise CheckpointNotFound(f"of thread {thread_id}")
        if isinstance(saver, RedisSaver):
            saver = saver.fenced(token)
        whole = cast(Any, {**found.metadata, **metadata})
        parent = found.parent_config or LATEST.config(thread_id)
        saver.put(parent, found.checkpoint, whole, {})

    def _read(self, thread_id: str, graph_id: str, work: Callable[[AnyPregel], T]) -> T:
        """What `work` makes of the graph; no node of it is run."""
        graph = self._graph(graph_id)
        given = self._arguments(thread_id, graph_id)
        try:
            return graph.look(work, self._run_on_loop, *given, "threads.read")
        except (*ELSEWHERE, StateIncompatible):
            raise
        except (Exception, SystemExit) as error:
            if channel_of(error) is None:
                # A factory's own code, most likely.
                log.warning("thread %s can't be read", thread_id, exc_info=error)
            raise self._unfit(thread_id, graph_id, error) from error

    def _graph(self, graph_id: str) -> Graph:
        graph = self._graphs.get(graph_id)
        if graph is None:
            raise StateIncompatible(f"the thread's graph {graph_id!r} is not served here any more")
        return graph

    def _arguments(
        self, thread_id: str, graph_id: str
    ) -> tuple[RunnableConfig, dict[str, Any], BaseStore]:
        """What a factory may ask for."""
        graph = self._graphs[graph_id]
        given = self._made_with(thread_id) if graph.compiled is None else {}
        ids = {"thread_id": thread_id, "graph_id": graph_id}
        return {"configurable": {**given, **ids}}, {}, self._store

    @staticmethod
    def _unfit(thread_id: str, graph_id: str, error: BaseException) -> StateIncompatible:
        return StateIncompatible(
            f"what thread {thread_id} holds does not fit graph {graph_id!r}: {text_of(error)}"
        )


class ThreadStates:
    """The states of threads by the threads' ids alone, with all that a change of one takes."""

    def __init__(
        self,
        states: States,
        *,
        thread_of: Callable[[str], ThreadRecord],
        hold: Callable[[str], int],
        note: Callable[[str, bool], object],
    ) -> None:
        """Put it together.

        Args:
            states: the states by thread and graph.
            thread_of: a thread's record, by its id; raises what the API answers for an unknown
                one.
            hold: takes a thread that no run has for an update; the fencing token. Raises what the
                API answers for a busy one.
            note: notes of a thread that its state was changed, and whether it waits to go on.
        """
        self._states = states
        self._thread_of = thread_of
        self._hold = hold
        self._note = note

    def get(self, thread_id: str, at: At = LATEST, *, subgraphs: bool = False) -> dict[str, Any]:
        """A state; see `States.get`.

        The latest of a thread that has a run, or is to have one, never says that nothing is next:
        a page that is loaded again would take the run to be over, and not follow it. Before a run's
        first checkpoint is there, `__start__` is next, as that checkpoint will say.
        """
        thread = self._thread_of(thread_id)
        state = self._states.get(thread_id, thread.graph_id, at, subgraphs=subgraphs)
        if at == LATEST and thread.status == "busy" and not state["next"]:
            state["next"] = [START]
        return state

    def history(self, thread_id: str, **asked: Any) -> list[dict[str, Any]]:
        """States, newest first; see `States.history`."""
        return self._states.history(thread_id, self._graph_id(thread_id), **asked)

    def update(
        self, thread_id: str, values: Any, as_node: str | None = None, at: At = LATEST
    ) -> dict[str, Any]:
        """Change the state of a thread that is not busy; see `States.update`."""
        graph_id = self._graph_id(thread_id)
        self._states.check(graph_id, values, as_node, at)
        token = self._hold(thread_id)
        written = self._states.update(thread_id, graph_id, values, as_node, at, token)
        assert graph_id is not None
        self._note(thread_id, self._states.waits(thread_id, graph_id))
        return written

    def annotate(self, thread_id: str, metadata: Mapping[str, Any]) -> None:
        """Lay metadata over that of the latest state; see `States.annotate`."""
        graph_id = self._graph_id(thread_id)
        self._states.annotate(thread_id, graph_id, metadata, self._hold(thread_id))

    def _graph_id(self, thread_id: str) -> str | None:
        return self._thread_of(thread_id).graph_id


def _exists(saver: Saver, config: RunnableConfig) -> bool:
    conf = config["configurable"]
    # A subgraph that remembers has its checkpoints under its name without the task's id.
    own = "|".join(part.split(":")[0] for part in conf["checkpoint_ns"].split("|"))
    places = dict.fromkeys((conf["checkpoint_ns"], own))
    return any(
        saver.get_tuple({"configurable": {**conf, "checkpoint_ns": place}}) is not None
        for place in places
    )


def _checking(saver: Saver, pregel: AnyPregel, written: set[str]) -> Saver:
    """A saver that refuses a checkpoint of which the graph could not make a state, or of which
    something cannot be stored.

    LangGraph stores what an update's nodes wrote before it finds out whether the channels take it.
    So that is held back here until the checkpoint that comes of it is known to be good. The ids of
    those that were stored are added to `written`.
    """
    checking = copy(saver)
    held: list[tuple[Any, ...]] = []

    def put_writes(config: RunnableConfig, writes: Any, task_id: str, task_path: str = "") -> None:
        if config["configurable"].get("checkpoint_id") in written:
            saver.put_writes(config, writes, task_id, task_path)
        else:
            held.append((config, writes, task_id, task_path))

    async def aput_writes(
        config: RunnableConfig, writes: Any, task_id: str, task_path: str = ""
    ) -> None:
        if config["configurable"].get("checkpoint_id") in written:
            await saver.aput_writes(config, writes, task_id, task_path)
        else:
            held.append((config, writes, task_id, task_path))

    def check(config: RunnableConfig, checkpoint: Any, metadata: Any, new_versions: Any) -> None:
        _check_checkpoint(saver, pregel, config, checkpoint, metadata)
        if isinstance(saver, RedisSaver):
            saver.check(config, checkpoint, metadata, new_versions, held)

    def put(
        config: RunnableConfig, checkpoint: Any, metadata: Any, new_versions: Any
    ) -> RunnableConfig:
        check(config, checkpoint, metadata, new_versions)
        while held:
            saver.put_writes(*held.pop(0))
        written.add(checkpoint["id"])
        return saver.put(config, checkpoint, metadata, new_versions)

    async def aput(
        config: RunnableConfig, checkpoint: Any, metadata: Any, new_versions: Any
    ) -> RunnableConfig:
        await asyncio.to_thread(check, config, checkpoint, metadata, new_versions)
        while held:
            await saver.aput_writes(*held.pop(0))
        written.add(checkpoint["id"])
        return await saver.aput(config, checkpoint, metadata, new_versions)

    checking.put = put  # type: ignore[method-assign]
    checking.aput = aput  # type: ignore[method-assign]
    checking.put_writes = put_writes  # type: ignore[method-assign]
    checking.aput_writes = aput_writes  # type: ignore[method-assign]
    return checking


def _check_checkpoint(
    saver: Saver, pregel: AnyPregel, config: RunnableConfig, checkpoint: Any, metadata: Any
) -> None:
    """Raise InvalidUpdateError if the graph can't make a state of the checkpoint."""
    # What such a channel holds is not in the checkpoint alone.
    if any(isinstance(each, DeltaChannel) for each in pregel.channels.values()):
        return
    conf = config["configurable"]
    at = At(checkpoint_id=checkpoint["id"], checkpoint_ns=conf.get("checkpoint_ns", ""))
    place = at.config(conf["thread_id"])
    view = copy(saver)

    def get_tuple(config: RunnableConfig) -> CheckpointTuple:
        return CheckpointTuple(place, copy_checkpoint(checkpoint), metadata, None, [])

    view.get_tuple = get_tuple  # type: ignore[method-assign]
    try:
        attached(pregel, view).get_state(place)
    except ELSEWHERE:
        raise
    except Exception as error:
        raise InvalidUpdateError(text_of(error)) from error


def _refuse_misnamed(
    pregel: AnyPregel, steps: Sequence[Sequence[StateUpdate]], at: At, paths: _Paths
) -> None:
    """Raise UpdateRefused with all that updates name and the graph lacks."""
    graph: PregelProtocol[Any, Any, Any, Any] | None = pregel
    if at.checkpoint_ns:
        name = without_tasks(at.checkpoint_ns)
        graph = dict(pregel.get_subgraphs(recurse=True)).get(name)
        if graph is None:
            raise UpdateRefused(f"checkpoint.checkpoint_ns: the graph has no subgraph {name!r}")
    if not isinstance(graph, Pregel):
        return
    nodes = frozenset(graph.nodes) - {START}
    problems: list[tuple[str, str]] = []
    for number, step in enumerate(steps):
        for place, each in enumerate(step):
            path = paths.update.format(number, place)
            as_node, values = each.as_node, cast(Any, each.values)
            if as_node is not None and as_node not in nodes | PSEUDO_NODES:
                problems.append((f"{path}as_node", f"the graph has no node {as_node!r}"))
            elif as_node == END and values is not None:
                problems.append((f"{path}as_node", f"{END!r} takes no values but null"))
            if isinstance(values, Command):
                going = cast(list[Any], values.goto)
                goto = frozenset(to if isinstance(to, str) else to.node for to in going)
                problems += unknown_nodes({f"{path}command.goto": goto}, nodes)
    if problems:
        raise UpdateRefused("; ".join(f"{path}: {text}" for path, text in problems))


def _raw(saved: CheckpointTuple) -> tuple[Any, dict[str, list[dict[str, Any]]]]:
    """A checkpoint's values and pending interrupts, without a graph."""
    values = {
        name: value
        for name, value in saved.checkpoint["channel_values"].items()
        if not name.startswith(NO_VALUES)
    }
    waiting = interrupts_by_task(saved)
    return values, {task: [_interrupt(each) for each in raised] for task, raised in waiting.items()}


def _lenient(saver: Saver) -> Saver:
    return saver.lenient() if isinstance(saver, RedisSaver) else saver


def _shown(
    graph: AnyPregel, saver: Saver, config: RunnableConfig, subgraphs: bool = False
) -> dict[str, Any]:
    """A state, or as much of it as can be shown."""
    try:
        return _with_problems(_public(graph.get_state(config, subgraphs=subgraphs)), saver)
    except ELSEWHERE:
        raise
    except Exception as error:
        saved = saver.get_tuple(config)
        if saved is None:
            raise
        problem = {"channel": channel_of(error), "reason": text_of(error)}
    try:
        # By its id it is shown without what tasks wrote since, which may be all that is wrong.
        state = _public(graph.get_state(saved.config))
    except ELSEWHERE:
        raise
    except Exception:
        place, parent = _reference(saved.config), _reference(saved.parent_config)
        state = {
            **EMPTY,
            "values": _raw(saved)[0],
            "metadata": saved.metadata,
            "created_at": saved.checkpoint["ts"],
            "checkpoint": place,
            "parent_checkpoint": parent,
            "checkpoint_id": place and place["checkpoint_id"],
            "parent_checkpoint_id": parent and parent["checkpoint_id"],
        }
    return _with_problems(state, saver, problem)


def _with_problems(state: dict[str, Any], saver: Saver, *more: Mapping[str, Any]) -> dict[str, Any]:
    """The state, with the names of what is left out of it."""
    passed_over: Mapping[str, Any] = getattr(saver, "passed_over", None) or {}
    found = [
        {"channel": each.channel, "reason": str(each)}
        for each in passed_over.get(state["checkpoint_id"], ())
    ]
    named = [each for number, each in enumerate(found) if each not in found[:number]]
    tasks = [
        {**task, "state": _with_problems(task["state"], saver)} if task["state"] else task
        for task in state["tasks"]
    ]
    problems = {"unreadable": [*named, *more]} if named or more else {}
    return {**state, "tasks": tasks, **problems}


def _with_way_on(
    states: list[dict[str, Any]], saver: Saver, config: RunnableConfig
) -> list[dict[str, Any]]:
    """The states; of which something is left out, with the newest checkpoint that is whole."""
    unreadable = {each["checkpoint_id"] for each in states if "unreadable" in each}
    if not unreadable:
        return states
    whole = _newest_whole(saver, config, unreadable)
    return [
        {**each, "go_on_from": whole} if each["checkpoint_id"] in unreadable else each
        for each in states
    ]


def _newest_whole(
    saver: Saver, config: RunnableConfig, unreadable: Container[str]
) -> dict[str, Any] | None:
    """The newest checkpoint of a namespace of which all can be read."""
    conf = {**config["configurable"]}
    conf.pop("checkpoint_id", None)
    passed_over: Mapping[str, Any] = getattr(saver, "passed_over", None) or {}
    for saved in saver.list({"configurable": conf}, limit=_LOOKED_AT):
        found = saved.config["configurable"]["checkpoint_id"]
        if found not in unreadable and found not in passed_over:
            return _reference(saved.config)
    return None


def _interrupt(interrupt: Interrupt) -> dict[str, Any]:
    return {"id": interrupt.id, "value": interrupt.value}


def _public(snapshot: StateSnapshot) -> dict[str, Any]:
    checkpoint = _reference(snapshot.config) if snapshot.created_at is not None else None
    parent = _reference(snapshot.parent_config)
    return {
        "values": snapshot.values,
        # While a run works there is a moment when all of a step is done and what follows is not
        # written. To LangGraph nothing is next then, which clients take for the end of the run.
        "next": list(snapshot.next) or [task.name for task in snapshot.tasks],
        "tasks": [_task(task) for task in snapshot.tasks],
        "metadata": snapshot.metadata,
        "created_at": snapshot.created_at,
        "checkpoint": checkpoint,
        "parent_checkpoint": parent,
        "interrupts": [_interrupt(each) for each in snapshot.interrupts],
        "checkpoint_id": checkpoint and checkpoint["checkpoint_id"],
        "parent_checkpoint_id": parent and parent["checkpoint_id"],
    }


def _task(task: Any) -> dict[str, Any]:
    nested = isinstance(task.state, StateSnapshot)
    error = task.error
    return {
        "id": task.id,
        "name": task.name,
        "path": task.path,
        "error": error if error is None or isinstance(error, str) else repr(error),
        "interrupts": [_interrupt(each) for each in task.interrupts],
        "checkpoint": None if nested else _reference(task.state),
        "state": _public(task.state) if nested else None,
        "result": task.result,
    }


def _reference(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A checkpoint's place, of all that a config holds."""
    if config is None:
        return None
    conf = config["configurable"]
    place = {"thread_id": conf["thread_id"], "checkpoint_ns": conf.get("checkpoint_ns", "")}
    optional = {name: conf[name] for name in ("checkpoint_id", "checkpoint_map") if conf.get(name)}
    return {**optional, **place}


def _steps(supersteps: Sequence[Mapping[str, Any]]) -> list[list[StateUpdate]]:
    return [
        [StateUpdate(_values(each), each.get("as_node")) for each in step["updates"]]
        for step in supersteps
    ]


def _values(update: Mapping[str, Any]) -> Any:
    """What an update of a superstep writes."""
    command = update.get("command")
    if not command:
        return update.get("values")
    goto = command.get("goto") or []
    pairs = command.get("update")
    return Command(
        update=[(key, value) for key, value in pairs] if isinstance(pairs, list) else pairs,
        goto=[
            each if isinstance(each, str) else Send(each["node"], each["input"])
            for each in (goto if isinstance(goto, list) else [goto])
        ],
    )
