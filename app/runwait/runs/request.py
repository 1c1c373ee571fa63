"""What a client asks for when it asks for a run, and what LangGraph is given for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Send

from runwait.auth.user import RESERVED, User
from runwait.changed import changed
from runwait.graphs.assistants import Assistant
from runwait.storage.records import RunRecord, UnreadableRecord

# Nobody waits for a century. Above some times that, threads, Redis and doubles cannot count.
LONGEST_DELAY_SECONDS = 100 * 365 * 86_400.0


def shown(default: Any = MISSING, name: str = "", *, factory: Any = MISSING) -> Any:
    """Declare a field that the API shows in a run's `kwargs`, under its own name or another."""
    metadata = {"shown": True, "name": name}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What a run is asked: a valid body (contract section 1), with what its headers say.

    This is its one declaration. A run's record holds all of it, each field once.

    Attributes:
        request_id: the request's X-Request-ID, or one made for it.
        idempotency_key: the Idempotency-Key header.
        fingerprint: tells its body from others, where there is such a key.
        thread_id: the kept thread that it is to run on, if the path names one.
        assistant_metadata: the metadata of its assistant, once that is known.
        cron_id: the cron that starts it, if one does.
        waits: whether it asked for the document alone. LangChain's events are not made for it then:
            LangGraph takes another way for them, on which a subgraph's output schema is ignored.
        headers: those of the request's headers that the graph's configurable has.
        trace: the trace context of what it was asked in, by the names of W3C's headers.
        user: the caller, as whom it runs (`User`'s fields); None where nobody is asked.
    """

    assistant_id: str
    request_id: str
    thread_id: str | None = None
    idempotency_key: str | None = None
    fingerprint: str = ""
    input: Any = shown(None)
    command: dict[str, Any] | None = shown(None)
    metadata: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = shown(factory=dict)
    context: dict[str, Any] = shown(factory=dict)
    webhook: str | None = shown(None)
    stream_mode: list[str] = shown(factory=lambda: ["values"])
    feedback_keys: list[str] | None = shown(None)
    stream_subgraphs: bool = shown(False, "subgraphs")
    stream_resumable: bool = shown(False, "resumable")
    on_completion: Literal["delete", "keep"] = "delete"
    on_disconnect: Literal["continue", "cancel"] = "continue"
    after_seconds: float | None = None
    checkpoint_during: bool | None = None
    durability: Literal["sync", "async", "exit"] | None = shown(None)
    interrupt_before: Literal["*"] | list[str] | None = shown(None)
    interrupt_after: Literal["*"] | list[str] | None = shown(None)
    multitask_strategy: str = "enqueue"
    if_not_exists: str = "reject"
    checkpoint: dict[str, Any] | None = None
    checkpoint_id: str | None = None
    assistant_metadata: dict[str, Any] = field(default_factory=dict)
    cron_id: str | None = None
    waits: bool = True
    trace: dict[str, str] = field(default_factory=dict)
    user: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def resumes(self) -> bool:
        """Whether the command has a resume."""
        return self.command is not None and self.command.get("resume") is not None

    @property
    def goes_on(self) -> bool:
        """Whether it goes on with what its thread was about to do, and nothing else."""
        if self.thread_id is None:
            return False
        given = self.graph_input()
        return self.resumes or given is None or (isinstance(given, Command) and not given.goto)

    @property
    def effective_durability(self) -> Literal["sync", "async", "exit"]:
        """The durability, also where only the deprecated checkpoint_during says it."""
        if self.durability is not None:
            return self.durability
        return "exit" if self.checkpoint_during is False else "async"

    @property
    def named_nodes(self) -> dict[str, frozenset[str]]:
        """The nodes that the request names, by the path of the field that does."""
        named = {
            "command.goto": [
                each if isinstance(each, str) else each["node"] for each in self._gotos()
            ],
            "interrupt_before": self.interrupt_before,
            "interrupt_after": self.interrupt_after,
        }
        return {path: frozenset(names) for path, names in named.items() if isinstance(names, list)}

    @property
    def kept(self) -> bool:
        """Whether the run's thread outlives it."""
        return self.thread_id is not None or self.on_completion == "keep"

    @property
    def delay(self) -> float:
        """Seconds until it is to start; 0 for at once."""
        return float(min(max(0, self.after_seconds or 0), LONGEST_DELAY_SECONDS))

    @property
    def starting_point(self) -> dict[str, Any]:
        """The checkpoint to start from, as LangGraph's configurable has it; {} for the latest."""
        if self.thread_id is None:
            return {}
        given = self.config.get("configurable") or {}
        point = {name: given[name] for name in _CHECKPOINT if given.get(name) is not None}
        point |= {
            name: value
            for name, value in (self.checkpoint or {}).items()
            if name in _CHECKPOINT and value is not None
        }
        point |= {"checkpoint_id": self.checkpoint_id} if self.checkpoint_id else {}
        # LangGraph does not look at a map without it.
        return {"checkpoint_ns": "", **point} if "checkpoint_map" in point else point

    @property
    def named_checkpoints(self) -> dict[str, str | None]:
        """The checkpoints of the starting point, by their namespaces; None for the latest there.

        As LangGraph has it: what the map says of a namespace goes before the id.
        """
        point = self.starting_point
        if not point:
            return {}
        own = {point.get("checkpoint_ns") or "": point.get("checkpoint_id")}
        return {**own, **(point.get("checkpoint_map") or {})}

    @property
    def configurable(self) -> dict[str, Any]:
        """The caller's configurable, without what is not the caller's to set."""
        given = self.config.get("configurable") or {}
        return {name: value for name, value in given.items() if not _reserved(name)}

    @property
    def effective_context(self) -> dict[str, Any]:
        """The context; what only a configurable was sent for is the context too."""
        return self.context or self.configurable

    def graph_input(self) -> Any:
        """The graph's input: the command, unless it says nothing."""
        if self.command is None:
            return self.input
        update = self.command.get("update") or None
        goto = [
            each if isinstance(each, str) else Send(each["node"], each["input"])
            for each in self._gotos()
        ]
        if update is None and not goto and not self.resumes:
            return self.input
        pairs = [(key, value) for key, value in update] if isinstance(update, list) else update
        return Command(update=pairs, goto=goto, resume=self.command.get("resume"))

    def over(self, assistant: Assistant) -> RunRequest:
        """This request, laid over what its assistant has of its own."""
        inherited = assistant.config.get("configurable") or {}
        own = assistant.context or {
            name: value for name, value in inherited.items() if not _reserved(name)
        }
        given = self.context or self.config.get("configurable") or {}
        config = {**assistant.config, **self.config}
        inner = {**(assistant.config.get("metadata") or {}), **(self.config.get("metadata") or {})}
        if inner:
            config["metadata"] = inner
        # Whether they come as the one or as the other is the same to the graph.
        as_context = bool(self.context or (assistant.context and not given))
        if own:
            config["configurable"] = {} if as_context else {**own, **given}
        return changed(
            self,
            config=config,
            context={**own, **given} if as_context else self.context,
            assistant_metadata=assistant.metadata,
        )

    def record_metadata(self, assistant: Assistant) -> dict[str, Any]:
        """The metadata of the run's record."""
        ids = {"assistant_id": assistant.assistant_id}
        return {**assistant.metadata, **self.metadata, **ids}

    def stored(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The whole request for a run's record: what the API shows of it, and the rest."""
        asked = {name: getattr(self, field) for field, name in _SHOWN.items()}
        asked |= {"temporary": not self.kept, "durability": self.effective_durability}
        return asked, {name: getattr(self, name) for name in _HIDDEN}

    @classmethod
    def restored(cls, record: RunRecord) -> RunRequest:
        """The request that a run was made from, by its record.

        Raises:
            UnreadableRecord: the record lacks some of it.
        """
        asked, hidden = record.kwargs, record.surroundings
        lacking = [
            f"kwargs.{name}" for name in ("temporary", *_SHOWN.values()) if name not in asked
        ]
        lacking += [f"surroundings.{name}" for name in _HIDDEN_BEFORE if name not in hidden]
        if lacking:
            raise UnreadableRecord(f"it lacks {', '.join(lacking)}")
        return cls(
            **{
                "assistant_id": record.assistant_id,
                "multitask_strategy": record.multitask_strategy,
                "on_completion": "delete" if asked["temporary"] else "keep",
                **{name: hidden[name] for name in _HIDDEN if name in hidden},
                **{field: asked[name] for field, name in _SHOWN.items()},
            }
        )

    def graph_config(self, record: RunRecord) -> RunnableConfig:
        """LangGraph's config for the run: the caller's, under what is the service's to say."""
        values = (record.run_id, record.thread_id, record.graph_id, record.assistant_id)
        ids = dict(zip(_IDS, (*values, self.request_id), strict=True))
        if self.cron_id is not None:
            ids["cron_id"] = self.cron_id
        given = self.configurable or self.context
        config: dict[str, Any] = {
            "configurable": {
                **{name: value for name, value in given.items() if not _reserved(name)},
                **self.headers,
                **self.starting_point,
                **(User(self.user).configurable() if self.user is not None else {}),
                **ids,
            },
            "metadata": {
                **self.assistant_metadata,
                **(self.config.get("metadata") or {}),
                **self.metadata,
                **ids,
            },
            # LangSmith's id of the run is the run's.
            "run_id": UUID(record.run_id),
        }
        for name in ("tags", "recursion_limit", "run_name", "max_concurrency"):
            if name in self.config:
                config[name] = self.config[name]
        return cast(RunnableConfig, config)

    def _gotos(self) -> Iterator[Any]:
        goto = (self.command or {}).get("goto") or []
        yield from goto if isinstance(goto, list) else [goto]


_SHOWN = {
    each.name: each.metadata["name"] or each.name
    for each in fields(RunRequest)
    if "shown" in each.metadata
}
"""The fields that the API shows, each with the name under which it does."""

_HIDDEN = tuple(
    each.name
    for each in fields(RunRequest)
    # The record has two itself, and admission has done with the two of the idempotency key.
    if each.name not in _SHOWN
    and each.name not in ("assistant_id", "multitask_strategy", "idempotency_key", "fingerprint")
)
# Those that a record of 0.2 has too. The others have a default.
_HIDDEN_BEFORE = (
    "metadata",
    "assistant_metadata",
    "request_id",
    "thread_id",
    "on_disconnect",
    "checkpoint",
    "checkpoint_id",
)
_CHECKPOINT = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")
_IDS = ("run_id", "thread_id", "graph_id", "assistant_id", "langgraph_request_id")


def _reserved(name: str) -> bool:
    """Whether a name in configurable is not the caller's to set in this way."""
    return name in _IDS or name.startswith(("__", "checkpoint_", RESERVED))
