"""The two versions of the Agent2Agent protocol: the same words in different forms.

The name of a method tells which one a client speaks. Here are both, each as a dialect that reads
messages and writes what tasks come to; everything else knows the words alone: the states of tasks
(`input-required`), texts and values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from runwait.api.jsonrpc import INVALID_PARAMS, RpcError
from runwait.assistants.tools import OUTPUT
from runwait.graphs.assistants import is_uuid

TASK_NOT_FOUND, NOT_CANCELABLE, NO_PUSH, UNSUPPORTED = -32001, -32002, -32003, -32004
WRONG_CONTENT, NO_EXTENDED_CARD, UNKNOWN_VERSION = -32005, -32007, -32009
_REASONS = {
    TASK_NOT_FOUND: "TASK_NOT_FOUND",
    NOT_CANCELABLE: "TASK_NOT_CANCELABLE",
    NO_PUSH: "PUSH_NOTIFICATION_NOT_SUPPORTED",
    UNSUPPORTED: "UNSUPPORTED_OPERATION",
    WRONG_CONTENT: "CONTENT_TYPE_NOT_SUPPORTED",
    NO_EXTENDED_CARD: "EXTENDED_AGENT_CARD_NOT_CONFIGURED",
    UNKNOWN_VERSION: "VERSION_NOT_SUPPORTED",
}

Json = dict[str, Any]
_VERSION = re.compile(r"(0\.3|1\.0)(\.[0-9]+)?")
_UNDERSCORE = re.compile(r"_([a-z])")
_CONTENTS = ("text", "data", "raw", "url", "file")
_LARGEST = 2**31 - 1
# What the newer version calls the kinds of security schemes that OpenAPI has.
_SCHEMES = {
    "apiKey": "apiKeySecurityScheme",
    "http": "httpAuthSecurityScheme",
    "oauth2": "oauth2SecurityScheme",
    "openIdConnect": "openIdConnectSecurityScheme",
    "mutualTLS": "mtlsSecurityScheme",
}


@dataclass(frozen=True)
class Text:
    """A part that is text."""

    text: str


@dataclass(frozen=True)
class Data:
    """A part that is any JSON; `about` is what else is said of it."""

    data: Any
    about: Mapping[str, Any] | None = None


Part = Text | Data


@dataclass(frozen=True)
class Message:
    """What a client says."""

    message_id: str
    context_id: str | None
    task_id: str | None
    parts: Sequence[Part]

    @property
    def text(self) -> str:
        """What its texts say."""
        return "\n".join(each.text for each in self.parts if isinstance(each, Text))


@dataclass(frozen=True)
class Task:
    """A task as it stands.

    Attributes:
        state: in the words of the older version.
        said: what its agent says of the state: a question, or why it failed.
        run_id: the run that it stands by, whose id what is said and its result have.
        result: what it came to.
        history: what its client said, each with its id.
    """

    task_id: str
    context_id: str
    state: str
    at: str
    run_id: str
    said: Sequence[Part] = ()
    result: Sequence[Part] = ()
    history: Sequence[tuple[str, Sequence[Part]]] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing can change it any more."""
        return self.state in ("completed", "failed", "canceled")


class Dialect:
    """How a version of the protocol puts things; this is the newer one, in strict ProtoJSON."""

    version: ClassVar[str] = "1.0"

    def params(self, given: Json) -> Json:
        """A request's params by the names of JSON: ProtoJSON takes those of the schema as well."""
        named = {_UNDERSCORE.sub(lambda each: each[1].upper(), name): given[name] for name in given}
        for name in ("message", "configuration"):
            if isinstance(named.get(name), dict):
                named[name] = self.params(named[name])
        return named

    def read(self, given: Any) -> Message:
        """A message that a client sent.

        Raises:
            RpcError: it is none, or has parts that no graph is given.
        """
        if not isinstance(given, dict):
            raise wrong("message: must be an object")
        if given.get("role") != self.role("user"):
            raise wrong(f"message.role: must be {self.role('user')}")
        message_id = given.get("messageId")
        if not isinstance(message_id, str) or not message_id:
            raise wrong("message.messageId: must be a string that is not empty")
        context_id, task_id = (text(given, f"message.{name}") for name in ("contextId", "taskId"))
        if context_id is not None and not is_uuid(context_id):
            raise wrong("message.contextId: must be a UUID")
        parts = given.get("parts")
        if not isinstance(parts, list) or not parts:
            raise wrong("message.parts: must be a list that is not empty")
        read = [self._read_part(f"message.parts.{place}", each) for place, each in enumerate(parts)]
        return Message(message_id, context_id and context_id.lower(), task_id, read)

    def _read_part(self, path: str, given: Any) -> Part:
        if not isinstance(given, dict):
            raise wrong(f"{path}: must be an object")
        held = [name for name in _CONTENTS if name in given]
        if len(held) != 1:
            raise wrong(f"{path}: must have one of: text, data")
        if held == ["text"]:
            if not isinstance(given["text"], str):
                raise wrong(f"{path}.text: must be a string")
            return Text(given["text"])
        if held == ["data"]:
            return Data(given["data"])
        raise refusal(WRONG_CONTENT, f"{path}: files are not taken; send text or data")

    def returns_at_once(self, configuration: Json) -> bool:
        """Whether a client does not wait for what becomes of its message."""
        return _flag(configuration, "returnImmediately", False)

    def role(self, name: str) -> str:
        """Who says something: user or agent."""
        return f"ROLE_{name.upper()}"

    def state(self, name: str) -> str:
        """The state of a task."""
        return f"TASK_STATE_{name.replace('-', '_').upper()}"

    def state_of(self, name: Any) -> str:
        """The word for a state as this dialect has it."""
        known = {self.state(each): each for each in STATES}
        if name not in known:
            raise wrong(f"status: must be one of: {', '.join(known)}")
        return known[name]

    def part(self, part: Part) -> Json:
        """A part of a message or an artifact."""
        if isinstance(part, Text):
            return {"text": part.text}
        return {"data": part.data, **({"metadata": part.about} if part.about else {})}

    def message(self, role: str, message_id: str, parts: Sequence[Part], task: Task) -> Json:
        """What somebody says about a task."""
        return {
            "messageId": message_id,
            "role": self.role(role),
            "parts": [self.part(each) for each in parts],
            "taskId": task.task_id,
            "contextId": task.context_id,
        }

    def status(self, task: Task) -> Json:
        """How a task stands."""
        shown: Json = {"state": self.state(task.state), "timestamp": _at(task.at)}
        if task.said:
            shown["message"] = self.message("agent", task.run_id, task.said, task)
        return shown

    def task(self, task: Task, history: int | None = None, *, artifacts: bool = True) -> Json:
        """A task.

        Args:
            task: as it stands.
            history: how many of the last messages are shown; None for all.
            artifacts: whether to show what it came to.
        """
        shown: Json = {
            "id": task.task_id,
            "contextId": task.context_id,
            "status": self.status(task),
        }
        if artifacts and task.result:
            shown["artifacts"] = [self.artifact(task, task.result)]
        said = task.history[-(history or 0) :] if history != 0 else ()
        if said:
            shown["history"] = [self.message("user", name, parts, task) for name, parts in said]
        return shown

    def artifact(self, task: Task, parts: Sequence[Part]) -> Json:
        """What a task came to, or a piece of it."""
        shown = [self.part(each) for each in parts]
        return {"artifactId": task.run_id, "name": OUTPUT, "parts": shown}

    def sent(self, task: Json) -> Json:
        """A task as the answer to a message, or the first event of a stream."""
        return {"task": task}

    def status_update(self, task: Task, *, final: bool) -> Json:
        """The event that says how a task stands; `final` if it is the last one."""
        return {"statusUpdate": self._of(task, status=self.status(task))}

    def artifact_update(
        self, task: Task, parts: Sequence[Part], *, append: bool, last: bool
    ) -> Json:
        """The event with a piece of what a task comes to."""
        artifact = self.artifact(task, parts)
        return {"artifactUpdate": self._of(task, artifact=artifact, append=append, lastChunk=last)}

    def _of(self, task: Task, **what: Any) -> Json:
        return {"taskId": task.task_id, "contextId": task.context_id, **what}


class OlderDialect(Dialect):
    """The version before, 0.3, where each object says of what kind it is."""

    version = "0.3"

    def params(self, given: Json) -> Json:
        """A request's params; they have one name each."""
        return given

    def _read_part(self, path: str, given: Any) -> Part:
        part = super()._read_part(path, given)
        if given.get("kind") != ("text" if isinstance(part, Text) else "data"):
            raise wrong(f"{path}.kind: must be text or data, as the part is")
        return part

    def returns_at_once(self, configuration: Json) -> bool:
        """Whether a client does not wait for what becomes of its message."""
        return not _flag(configuration, "blocking", True)

    def role(self, name: str) -> str:
        """Who says something: user or agent."""
        return name

    def state(self, name: str) -> str:
        """The state of a task."""
        return name

    def part(self, part: Part) -> Json:
        """A part of a message or an artifact; data is an object here."""
        if isinstance(part, Data) and not isinstance(part.data, dict):
            part = Data({OUTPUT: part.data}, part.about)
        return {"kind": "text" if isinstance(part, Text) else "data", **super().part(part)}

    def message(self, role: str, message_id: str, parts: Sequence[Part], task: Task) -> Json:
        """What somebody says about a task."""
        return {"kind": "message", **super().message(role, message_id, parts, task)}

    def task(self, task: Task, history: int | None = None, *, artifacts: bool = True) -> Json:
        """A task; see Dialect."""
        return {"kind": "task", **super().task(task, history, artifacts=artifacts)}

    def sent(self, task: Json) -> Json:
        """A task as the answer to a message, or the first event of a stream."""
        return task

    def status_update(self, task: Task, *, final: bool) -> Json:
        """The event that says how a task stands; `final` if it is the last one."""
        return self._of(task, kind="status-update", status=self.status(task), final=final)

    def artifact_update(
        self, task: Task, parts: Sequence[Part], *, append: bool, last: bool
    ) -> Json:
        """The event with a piece of what a task comes to."""
        updated: Json = super().artifact_update(task, parts, append=append, last=last)
        return {"kind": "artifact-update", **updated["artifactUpdate"]}


NEW, OLD = Dialect(), OlderDialect()
STATES = (
    *("submitted", "working", "input-required", "completed", "failed", "canceled"),
    *("rejected", "auth-required"),
)


def known_by(guard: Json) -> Json:
    """What a card says of how callers are known.

    A scheme has the forms of both versions: 0.3 has OpenAPI's, 1.0 puts it under a name of its own.

    Args:
        guard: the same, as OpenAPI has it.
    """
    schemes = {
        name: {**_older_scheme(each), _SCHEMES[each["type"]]: _scheme(each)}
        for name, each in (guard.get("securitySchemes") or {}).items()
        if isinstance(each, dict) and each.get("type") in _SCHEMES
    }
    needed = guard.get("security") or [{name: []} for name in schemes]
    # What nothing is said of cannot be asked for.
    needed = [each for each in needed if each.keys() <= schemes.keys()]
    if not schemes:
        return {}
    return {
        "securitySchemes": schemes,
        "security": needed,
        "securityRequirements": [
            {"schemes": {name: {"list": scopes} for name, scopes in each.items()}}
            for each in needed
        ],
    }


def _older_scheme(scheme: Json) -> Json:
    flows = scheme.get("flows")
    if not isinstance(flows, dict):
        return scheme
    # The newer version has one at most, and its clients read this form as well.
    return {**scheme, "flows": dict([*flows.items()][:1])}


def _scheme(scheme: Json) -> Json:
    named = {"in": "location"}
    older = _older_scheme(scheme)
    return {named.get(name, name): older[name] for name in older if name != "type"}


def wrong(text: str) -> RpcError:
    """The error for params that are not as they must be."""
    return RpcError(INVALID_PARAMS, text)


def refusal(code: int, text: str) -> RpcError:
    """One of the protocol's own errors."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": _REASONS[code],
        "domain": "a2a-protocol.org",
    }
    return RpcError(code, text, [info])


def unknown_task(task_id: Any) -> RpcError:
    """The error for a task that is not there, or not for whom it is asked."""
    return refusal(TASK_NOT_FOUND, f"task {task_id!r} not found")


def check_version(header: str | None) -> None:
    """Refuse a version of the protocol that is not spoken here.

    Raises:
        RpcError: it is not.
    """
    if header and not _VERSION.fullmatch(header.strip()):
        raise refusal(UNKNOWN_VERSION, f"A2A-Version: must be 1.0 or 0.3, not {header!r}")


def number(params: Json, name: str, lowest: int, highest: int = _LARGEST) -> int | None:
    """A whole number of the params; None if it is not there.

    Raises:
        RpcError: it is none, or out of bounds.
    """
    given = params.get(name)
    if given is not None and (type(given) is not int or not lowest <= given <= highest):
        raise wrong(f"{name}: must be a whole number from {lowest} to {highest}")
    return given


def time(params: Json, name: str) -> datetime | None:
    """A time of the params; None if it is not there.

    Raises:
        RpcError: it is none.
    """
    given = params.get(name)
    if given in (None, ""):
        return None
    try:
        return instant(given)
    except (TypeError, ValueError):
        raise wrong(f"{name}: must be a time, such as 2026-01-31T12:00:00Z") from None


def instant(text: str) -> datetime:
    """A time from its text; in UTC, where that does not say."""
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _flag(given: Json, name: str, default: bool) -> bool:
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise wrong(f"configuration.{name}: must be true or false")
    return value


def text(given: Json, path: str) -> str | None:
    """A string of an object, by its path; as in ProtoJSON, an empty one is none.

    Raises:
        RpcError: it is no string.
    """
    value = given.get(path.rpartition(".")[2])
    if value is not None and not isinstance(value, str):
        raise wrong(f"{path}: must be a string")
    return value or None


def _at(text: str) -> str:
    """A time as the protocol has it: in UTC, with milliseconds."""
    at = datetime.fromisoformat(text).astimezone(UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
