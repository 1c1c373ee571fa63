"""The events of the protocol: as they are logged, and as a subscription is given them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from langchain_core.messages import AIMessageChunk, BaseMessage, RemoveMessage, ToolMessage

from runwait.graphs.langgraph import INTERRUPT, message_to_events
from runwait.runs.events import END, ERROR, METADATA, Event
from runwait.runs.translation import Namespace, Pair, Translation, checkpoint_of
from runwait.serialization import dumps
from runwait.storage.events import text_of

PROTOCOL = "protocol"
"""The stream mode of a run that has the protocol's events. No request can name it."""

# The protocol's names of channels; those of named ones, as in `custom:progress`, begin with CUSTOM.
CHANNELS = (
    "values",
    "updates",
    "messages",
    "tools",
    "lifecycle",
    "input",
    "checkpoints",
    "tasks",
    "custom",
)
CUSTOM = "custom:"
# Interrupts that a run has answered: another page need not ask them any more.
ANSWERED = "input.answered"
_MADE_OF = [each for each in CHANNELS if each not in ("messages", "input")]


class ProtocolTranslation(Translation):
    """Makes the events of one run that the protocol started.

    They are those of a stream with all modes and subgraphs, but messages, which come in blocks,
    `input`, which names an interrupt, and `input.answered`.
    """

    is_protocol = True

    def __init__(self, answers: Iterable[str] = ()) -> None:
        """Prepare; the run answers these interrupts."""
        super().__init__([*_MADE_OF, "messages-tuple"], subgraphs=True)
        # The values that were streamed last, until it is seen whether their checkpoint follows.
        self._held: tuple[Namespace, Pair] | None = None
        # The ids of messages that are under way, by the ids of the models' runs.
        self._under_way: dict[str, str] = {}
        # Where interrupts came up, by their ids.
        self._asked_in: dict[str, Namespace] = {}
        self._answers = answers

    def events(self, namespace: Namespace, mode: str, payload: Any) -> Iterator[Pair]:
        """Yield the events that one of LangGraph's makes."""
        name = "|".join((mode, *namespace))
        held, self._held = self._held, None
        follows = mode == "checkpoints" and held is not None and held[0] == namespace
        if held is not None and not follows:
            yield held[1]
        if mode == "values":
            self._held = namespace, (name, dumps(payload))
        elif mode == "messages":
            for event in self._blocks(*payload):
                yield name, dumps([event, payload[1]])
        elif mode == "checkpoints":
            yield name, dumps({**_named(payload), **checkpoint_of(payload)})
        elif mode == "tools" or mode.startswith(CUSTOM):
            yield name, dumps(payload)
        elif mode != "lifecycle":  # which is made of tasks
            if mode == "tasks":
                for each in payload.get("interrupts", ()):
                    # The graphs around it have it after it.
                    self._asked_in.setdefault(each["id"], namespace)
            yield from super().events(namespace, mode, payload)
        if held is not None and follows:
            # Clients take the checkpoint before some values for theirs.
            yield held[1]

    def last(
        self, interrupts: Sequence[Any], document: bytes, *, failed: bool = False
    ) -> Iterator[Pair]:
        """Yield what is left to be told before the run's end."""
        # A node that failed waits on; one that asks again has the same id.
        waiting = self._answers if failed else [each.id for each in interrupts]
        if answered := [each for each in self._answers if each not in waiting]:
            yield ANSWERED, dumps({"interrupt_ids": answered})
        if self._held is not None:
            yield self._held[1]
        for each in interrupts:
            name = "|".join(("input", *self._asked_in.get(each.id, ())))
            yield name, _asked(each.id, each.value)

    def _blocks(self, message: Any, metadata: Any) -> Iterator[Any]:
        """What tells of a message. Each event names it, since several may be under way at once."""
        if isinstance(message, dict):
            model_run = str(metadata.get("run_id", ""))
            if message.get("event") == "message-start":
                self._under_way[model_run] = str(message.get("id", model_run))
            ids = {"message_id": self._under_way.get(model_run, model_run), "run_id": model_run}
            if message.get("event") in ("message-finish", "error"):
                self._under_way.pop(model_run, None)
            yield {**message, **ids}
        elif isinstance(message, BaseMessage) and not isinstance(message, _NOT_TOLD_OF):
            for event in message_to_events(message, message_id=message.id):
                # LangChain takes all for the model's.
                role = {"role": message.type} if message.type in _ROLES and "role" in event else {}
                yield {**event, **role, "message_id": message.id}


def _asked(interrupt_id: str, value: Any) -> bytes:
    # One of the SDKs reads `payload`, the other one `value`.
    return dumps({"interrupt_id": interrupt_id, "payload": value, "value": value})


_NOT_TOLD_OF = (AIMessageChunk, ToolMessage, RemoveMessage)
_ROLES = ("human", "system")


def _named(checkpoint: Any) -> dict[str, Any]:
    """What the protocol's own clients read of a checkpoint."""
    metadata = checkpoint.get("metadata") or {}
    ids = [
        ((checkpoint.get(name) or {}).get("configurable") or {}).get("checkpoint_id")
        for name in ("config", "parent_config")
    ]
    named = {"id": ids[0], "step": metadata.get("step"), "source": metadata.get("source")}
    return named if ids[1] is None else {**named, "parent_id": ids[1]}


def _named_by_itself(data: bytes) -> dict[str, Any] | None:
    """What a node wrote, if it says the `name` of a channel; most of it does not."""
    value = json.loads(data) if b'"name"' in data else None
    named = isinstance(value, dict) and isinstance(value.get("name"), str) and value["name"]
    return value if named else None


class Subscription:
    """What one client wants of a thread's events, and the form in which it is given them.

    An event's number is that of its place in its run's log, as one integer: since a thread's runs
    have it in turn, numbers grow from each to the next. It is a time, too.
    """

    def __init__(
        self,
        channels: Sequence[str],
        namespaces: Sequence[Sequence[str]] | None = None,
        depth: int | None = None,
        since: int | None = None,
    ) -> None:
        """Prepare.

        Args:
            channels: the events that are wanted.
            namespaces: how the namespaces begin whose events are wanted; None for all.
            depth: how much longer than those the namespaces may be; None for any.
            since: the number after which events are wanted.
        """
        self._channels = frozenset(channels)
        self._namespaces = namespaces
        self._depth = depth
        self._since = since or 0
        # Of the run that is about to end.
        self._error: str | None = None

    def messages(self, event: Event) -> Iterator[tuple[int | None, bytes]]:
        """Yield what the client is given for an event, as numbers and JSON."""
        if event.name == ERROR:
            error = json.loads(event.data)
            self._error = f"{error['error']}: {error['message']}"
            return
        number = None if event.id is None else sum(event.id)
        if number is not None and number <= self._since:
            return
        if event.name == "values" and b'"%b"' % INTERRUPT.encode() in event.data:
            # Of a run that the protocol did not start, these are told with its last values.
            values = json.loads(event.data)
            asked = values.get(INTERRUPT) if isinstance(values, dict) else None
            for each in asked if isinstance(asked, list) else ():
                if isinstance(each, dict) and each.keys() >= {"id", "value"}:
                    told = Event("input", _asked(each["id"], each["value"]))
                    # Both come again where a client goes on from here, or from before.
                    yield from self._message(told, number and number - 1, f"input:{each['id']}")
        yield from self._message(event, number, "" if event.id is None else text_of(event.id))

    def _message(
        self, event: Event, number: int | None, event_id: str
    ) -> Iterator[tuple[int | None, bytes]]:
        name, *namespace = event.name.split("|")
        written = _named_by_itself(event.data) if name == "custom" else None
        if written is not None:
            name = CUSTOM + written["name"]
        if not self._wants(name, namespace):
            return
        more: dict[str, Any] = {}
        if written is not None:
            # As the Python SDK reads it, beside the form that all that is written has.
            method, data = "custom", dumps({"payload": written, **written})
        elif (about := self._about(name, event.data)) is not None:
            method, data, more = about
        else:
            return
        params = {"namespace": namespace, **more}
        if name in (METADATA, END):
            # By this form clients know the run.
            event_id = f"synth:{json.loads(event.data)['run_id']}:{event_id or name}"
        place = f'"event_id":{dumps(event_id).decode()},' if event_id else ""
        if number is not None:
            params["timestamp"] = number // 1000
            place += f'"seq":{number},'
        head = f'{{"type":"event",{place}"method":"{method}","params":'
        yield number, head.encode() + dumps(params)[:-1] + b',"data":' + data + b"}}"

    def _wants(self, name: str, namespace: list[str]) -> bool:
        channel = {METADATA: "lifecycle", END: "lifecycle", ANSWERED: "input"}.get(name, name)
        of_custom = channel.startswith(CUSTOM) and "custom" in self._channels
        if not (channel in self._channels or of_custom):
            return False
        return not self._namespaces or any(
            _begins(namespace, each)
            and (self._depth is None or len(namespace) - len(each) <= self._depth)
            for each in self._namespaces
        )

    def _about(self, name: str, data: bytes) -> tuple[str, bytes, dict[str, Any]] | None:
        """An event's method, its data, and what else its params have."""
        if name == METADATA:
            begun = json.loads(data)
            names = {"graph_name": begun["graph_name"]} if "graph_name" in begun else {}
            return "lifecycle", dumps({"event": "running", **names}), {}
        if name == END:
            how: dict[str, Any] = {"event": _ENDS[json.loads(data)["status"]]}
            if how["event"] == "failed":
                how["error"] = self._error
            self._error = None
            return "lifecycle", dumps(how), {}
        if name == "messages":
            message, metadata = json.loads(data)
            if "event" not in message:
                return None  # of a run that the protocol did not start
            node = {"langgraph_node": metadata.get("langgraph_node")}
            if message["event"] == "message-start":
                message["metadata"] = {**node, **(message.get("metadata") or {})}
            return name, dumps(message), {"node": node["langgraph_node"]}
        if name == "tools" and json.loads(data).get("event", "").startswith("on_"):
            return None  # likewise
        if name == "input":
            return "input.requested", data, {}
        if name.startswith("custom"):
            label = b'"name":' + dumps(name[len(CUSTOM) :]) + b"," if name != "custom" else b""
            return "custom", b"{" + label + b'"payload":' + data + b"}", {}
        return name, data, {}


_ENDS = {
    "success": "completed",
    "error": "failed",
    "timeout": "failed",
    "interrupted": "interrupted",
    "rollback": "interrupted",
}


def _begins(namespace: Sequence[str], prefix: Sequence[str]) -> bool:
    """Whether a namespace begins with another one, which may leave out the ids of tasks."""
    return len(prefix) <= len(namespace) and all(
        there == wanted or there.partition(":")[0] == wanted
        for there, wanted in zip(namespace, prefix, strict=False)
    )
