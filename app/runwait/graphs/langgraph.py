"""What is used of LangGraph that it does not offer: names in configs, channels and checkpoints.

All of it is here, but for the proof's names of classes (proof.py) and the serializer's parts (the
checkpointer is a package of its own). tests/graphs/test_langgraph.py notices where a release of
LangGraph changes any of it. Why it is needed: docs/decisions/langgraph-internals.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

# What makes of a whole message what the event protocol streams of one.
from langchain_core.language_models._compat_bridge import message_to_events
from langgraph._internal import _constants as constants
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.pregel import Pregel
from langgraph.stream import ProtocolEvent, StreamTransformer
from langgraph.types import Interrupt

# The SDK keeps its runtime classes private and documents the union of them, which can't be made.
from langgraph_sdk.runtime import AccessContext, _ExecutionRuntime, _ReadRuntime

AnyPregel = Pregel[Any, Any, Any, Any]
Saver = BaseCheckpointSaver[Any]
ExecutionRuntime, ReadRuntime = _ExecutionRuntime, _ReadRuntime

__all__ = ["AccessContext", "ExecutionRuntime", "ReadRuntime", "message_to_events"]

# The module through which every task is run.
TASK_MODULE = "langgraph.pregel._retry"

# A run's runtime and checkpointer, in its config. Runs of one compiled graph happen at the same
# time: set on the graph, they would be mixed up.
RUNTIME = "__pregel_runtime"
CHECKPOINTER = "__pregel_checkpointer"

# Of LangGraph's event protocol, once a process.
warnings.filterwarnings("ignore", message="The v3 streaming protocol on Pregel")
# Of a tool that asks for its ToolRuntime: that says its context is None, where it is empty here.
_EMPTY_CONTEXT = r"(?s)Pydantic serializer warnings:.*\[field_name='context', input_value=\{\},"
warnings.filterwarnings("ignore", message=_EMPTY_CONTEXT)

# What a stream of updates has in place of a node where the graph stops to be resumed; also the
# channel that holds such stops.
INTERRUPT = "__interrupt__"
# Channels of pending writes that hold no output, and the task of what a caller sends.
CONTROL_CHANNELS = ("__error__", INTERRUPT, "__resume__", "__error_source_node__")
NULL_TASK = "00000000-0000-0000-0000-000000000000"

# Channels that hold what comes next: sends; a node; and a node that waits for several others, as in
# "join:a+b:c", which holds the names of those that came.
SENDS = "__pregel_tasks"
NEXT = "branch:to:"
JOIN = "join:"
# What no channel of a state may be called: as a key of an update these reach LangGraph's own.
RESERVED = frozenset({*constants.RESERVED, SENDS})
# How the names of channels begin that are no values of a state.
NO_VALUES = ("__", "branch:", JOIN)

# What is taken for a node in an update: the graph's input, a copy of the checkpoint, both ends.
PSEUDO_NODES = {"__input__", "__copy__", "__start__", "__end__"}


def output_of(graph: AnyPregel, values: Any) -> Any:
    """Return what the graph gives as its output where a state holds these values."""
    output, held = graph.output_channels, graph.stream_channels_asis
    if isinstance(held, str):
        return values  # the one channel's alone
    if isinstance(output, str):
        return values.get(output)
    return {name: values[name] for name in output if name in values}


def interrupts_by_task(saved: CheckpointTuple) -> dict[str, list[Interrupt]]:
    """Return the interrupts that tasks raised at a checkpoint and did not get past since."""
    writes = saved.pending_writes or []
    finished = {task for task, channel, _ in writes if channel not in CONTROL_CHANNELS}
    return {
        task: list(value) if isinstance(value, Sequence) else [value]
        for task, channel, value in writes
        if channel == INTERRUPT and task != NULL_TASK and task not in finished
    }


def unknown_nodes(
    named: Mapping[str, frozenset[str]], nodes: frozenset[str]
) -> list[tuple[str, str]]:
    """Return the fields that name nodes which the graph lacks, and which; `__end__` is a node."""
    return [
        (path, f"the graph has no node {', '.join(map(repr, sorted(unknown)))}")
        for path, names in named.items()
        if (unknown := names - nodes - {"__end__"})
    ]


def attached(graph: AnyPregel, saver: Saver) -> AnyPregel:
    """Return the graph with this saver as its own.

    Not by the config: there LangGraph takes a saver for a sign that a subgraph is asked by its
    parent, and would not look for the subgraph of a namespace.
    """
    attached = copy(graph)
    attached.checkpointer = saver
    return attached


def reading(graph: AnyPregel, saver: Saver) -> AnyPregel:
    """Return the graph attached to this saver for reading and updates, where no node is run.

    LangGraph makes the input of each node that comes next, and what a state's class refuses would
    hide the state: here nodes are given their input as it is.
    """
    return attached(_as_it_is(graph, {}), saver)


def _as_it_is(graph: Any, known: dict[int, Any]) -> Any:
    """Return a copy of a graph whose nodes make nothing of their input; anything else as it is."""
    if not isinstance(graph, Pregel):
        return graph
    if (clone := known.get(id(graph))) is not None:
        return clone
    clone = known[id(graph)] = copy(graph)
    clone.nodes = {name: copy(node) for name, node in graph.nodes.items()}
    for node in clone.nodes.values():
        node.mapper = None
        node.bound = _as_it_is(node.bound, known)
        node.subgraphs = [_as_it_is(each, known) for each in node.subgraphs or ()]
    return clone


def without_tasks(namespace: str) -> str:
    """Return a namespace by the names of its nodes alone: "a|b" of "a:1|b:2"."""
    return "|".join(part.split(":")[0] for part in namespace.split("|") if not part.isdigit())


class Witness(StreamTransformer):
    """Sees all events of a run of LangGraph's event protocol, also those that others keep back."""

    def __init__(self, scope: tuple[str, ...], see: Callable[[ProtocolEvent], None]) -> None:
        """Prepare.

        Args:
            scope: the namespace of the graph whose events it is given: there is one witness for
                the run, and one more for each of its subgraphs.
            see: called with each event of the run.
        """
        super().__init__(scope)
        self._see = see

    def init(self) -> dict[str, Any]:
        """It projects nothing."""
        return {}

    def process(self, event: ProtocolEvent) -> bool:
        """See an event, and keep it."""
        if not self.scope:
            self._see(event)
        return True


def witness(
    modes: Sequence[str], see: Callable[[ProtocolEvent], None]
) -> Callable[[tuple[str, ...]], Witness]:
    """What makes witnesses of a run, for which LangGraph is to stream these modes."""
    wanting = type("Witness", (Witness,), {"required_stream_modes": tuple(modes)})
    return lambda scope: wanting(scope, see)
