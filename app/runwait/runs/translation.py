"""What LangGraph streams, as the events of a run (contract section 7).

The names of a request's stream modes are the API's. Most are LangGraph's too; two are made of its
mode `messages`, and one of LangChain's own events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, BaseMessageChunk, message_chunk_to_message

from runwait.graphs.langgraph import INTERRUPT
from runwait.serialization import dumps

Namespace = tuple[str, ...]
Pair = tuple[str, bytes]
"""An event's name and its data, JSON."""

# What a request may name, and the mode of LangGraph's that it is made of.
_MADE_OF = {
    "values": "values",
    "updates": "updates",
    "messages": "messages",
    "messages-tuple": "messages",
    "custom": "custom",
    "tasks": "tasks",
    "checkpoints": "checkpoints",
    "debug": "debug",
    "tools": "tools",
    "lifecycle": "tasks",
}
_PLAIN = frozenset({"updates", "custom", "tasks"})
# What of a checkpoint's configurable names it; the rest is the service's own.
_NAMES_CHECKPOINT = ("thread_id", "checkpoint_ns", "checkpoint_id")
# Modes whose events have other names than they.
_NAMES = {
    "messages-tuple": ("messages",),
    "messages": ("messages/metadata", "messages/partial", "messages/complete"),
}


def event_names(modes: Sequence[str]) -> frozenset[str]:
    """The names of the events of these modes, without namespaces."""
    return frozenset(name for mode in modes for name in _NAMES.get(mode, (mode,)))


class Translation:
    """Makes the events of one run.

    Attributes:
        modes: LangGraph's modes that it is made of.
        subgraphs: whether LangGraph is to stream what happens in subgraphs.
        wants_events: whether LangChain's events are wanted.
        is_stateful: whether an event holds something of those before it.
        is_protocol: whether they are those of LangGraph's event protocol.
    """

    is_protocol = False

    def __init__(self, modes: Sequence[str], *, subgraphs: bool) -> None:
        """Prepare.

        Args:
            modes: those that the request names; none is the same as `values`.
            subgraphs: whether the subgraphs' events are wanted.
        """
        self._asked = frozenset(modes or ("values",))
        self.modes = frozenset(_MADE_OF[mode] for mode in self._asked if mode in _MADE_OF)
        self._nested = subgraphs
        self._lifecycle = Lifecycle() if "lifecycle" in self._asked else None
        self.subgraphs = subgraphs or self._lifecycle is not None
        self.wants_events = "events" in self._asked
        self.is_stateful = not self._asked.isdisjoint(("messages", "lifecycle", "tools"))
        self._metadata: Any = None
        self._metadata_json = b""
        # Names of tools, by the ids of their calls.
        self._tools: dict[Any, Any] = {}
        # Messages so far, by id.
        self._messages: dict[str, BaseMessage] = {}

    def events(self, namespace: Namespace, mode: str, payload: Any) -> Iterator[Pair]:
        """Yield the events that a chunk of LangGraph's stream makes."""
        name = "|".join((mode, *namespace))
        if mode == "tasks" and self._lifecycle is not None:
            for where, what in self._lifecycle.events(namespace, payload):
                yield "|".join(("lifecycle", *where)), dumps(what)
        if namespace and not self._nested:
            return
        if mode == "messages":
            if "messages-tuple" in self._asked:
                message, metadata = payload
                if metadata is not self._metadata:
                    # It is the same for all tokens of a message.
                    self._metadata, self._metadata_json = metadata, dumps(metadata)
                yield name, b"[%b,%b]" % (dumps(message), self._metadata_json)
            if "messages" in self._asked:
                yield from self._messages_so_far(*payload)
        elif mode not in self._asked:
            return
        elif mode == "values":
            # Interrupts come one by one; the run's end has all of them.
            if namespace or not (isinstance(payload, dict) and INTERRUPT in payload):
                yield name, dumps(payload)
        elif mode == "checkpoints":
            yield name, dumps(checkpoint_of(payload))
        elif mode == "debug":
            yield name, dumps(_debug(payload))
        elif mode == "tools":
            yield name, dumps(self._tool(payload))
        elif mode in _PLAIN or mode == "events":
            yield name, dumps(payload)

    def last(
        self, interrupts: Sequence[Any], document: bytes, *, failed: bool = False
    ) -> Iterator[Pair]:
        """Yield what is left to be told before the run's end.

        Args:
            interrupts: those that wait.
            document: the run's answer.
            failed: whether an error ended it.
        """
        if interrupts and "values" in self._asked:
            yield "values", document

    def _tool(self, payload: Any) -> Any:
        """A tool's event in the words of LangGraph's SDKs, which name the tool in each."""
        fields = {_TOOL_FIELDS.get(name, name): value for name, value in payload.items()}
        call = fields.get("toolCallId")
        if "name" in fields:
            self._tools[call] = fields["name"]
        event = _TOOL_EVENTS.get(payload["event"], payload["event"])
        return {**fields, "name": self._tools.get(call), "event": event}

    def _messages_so_far(self, message: Any, metadata: Any) -> Iterator[Pair]:
        if not isinstance(message, BaseMessage):
            return
        identity = message.id or ""
        before = self._messages.get(identity)
        if before is None:
            yield "messages/metadata", dumps({identity: {"metadata": metadata}})
        if not isinstance(message, BaseMessageChunk):
            self._messages[identity] = message
            yield "messages/complete", dumps([message])
            return
        whole = before + message if isinstance(before, BaseMessageChunk) else message
        self._messages[identity] = whole
        yield "messages/partial", dumps([message_chunk_to_message(whole)])


class Lifecycle:
    """Tells from the tasks of a run when its subgraphs begin and end.

    A subgraph's namespace ends with the name and the id of the task that it runs in.
    """

    def __init__(self) -> None:
        self._began: set[Namespace] = set()
        # Those that have not ended, by the id of their task; and the tool calls of tasks.
        self._open: dict[str, Namespace] = {}
        self._calls: dict[str, str] = {}

    def events(self, namespace: Namespace, task: Any) -> Iterator[tuple[Namespace, dict[str, Any]]]:
        """Yield what a task's start or result says of subgraphs: where, and what."""
        if "result" in task:
            if (ended := self._open.pop(task["id"], None)) is not None:
                yield ended, _how_it_ended(task)
            return
        given = task.get("input")
        call = given.get("tool_call") if isinstance(given, dict) else None
        if isinstance(call, dict) and isinstance(call.get("id"), str):
            self._calls[task["id"]] = call["id"]
        if namespace and namespace not in self._began:
            self._began.add(namespace)
            name, _, task_id = namespace[-1].partition(":")
            self._open[task_id] = namespace
            agent = (task.get("metadata") or {}).get("lc_agent_name")
            what: dict[str, Any] = {"event": "started", "graph_name": agent or name}
            if task_id in self._calls:
                what["cause"] = {"type": "toolCall", "tool_call_id": self._calls[task_id]}
            yield namespace, what


def _how_it_ended(task: Any) -> dict[str, Any]:
    if task.get("interrupts"):
        return {"event": "interrupted"}
    if task.get("error"):
        return {"event": "failed", "error": str(task["error"])}
    return {"event": "completed"}


def _config(config: Any) -> Any:
    """A checkpoint's config, with what names it alone."""
    if not isinstance(config, dict):
        return config
    configurable = config.get("configurable") or {}
    return {
        "configurable": {
            name: configurable[name] for name in _NAMES_CHECKPOINT if name in configurable
        }
    }


def checkpoint_of(payload: Any) -> Any:
    """A checkpoint as it is streamed."""
    configs = {name: _config(payload.get(name)) for name in ("config", "parent_config")}
    tasks = [
        {**task, "state": _config(task["state"])} if isinstance(task.get("state"), dict) else task
        for task in payload.get("tasks", ())
    ]
    return {**payload, **configs, "tasks": tasks}


def _debug(payload: Any) -> Any:
    if payload.get("type") != "checkpoint":
        return payload
    checkpoint = checkpoint_of(payload["payload"])
    names = {
        name: (checkpoint[config] or {}).get("configurable")
        for name, config in (("checkpoint", "config"), ("parent_checkpoint", "parent_config"))
    }
    tasks = []
    for task in checkpoint["tasks"]:
        if state := task.get("state"):
            task = {**task, "checkpoint": state["configurable"]}
            del task["state"]
        tasks.append(task)
    return {**payload, "payload": {**checkpoint, **names, "tasks": tasks}}


_TOOL_EVENTS = {
    "tool-started": "on_tool_start",
    "tool-output-delta": "on_tool_event",
    "tool-finished": "on_tool_end",
    "tool-error": "on_tool_error",
}
_TOOL_FIELDS = {
    "tool_call_id": "toolCallId",
    "tool_name": "name",
    "delta": "data",
    "message": "error",
}
