"""The bodies of requests (contract section 1), as marshmallow schemas."""

from __future__ import annotations

from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, post_load, validates_schema

from runwait.api import fields
from runwait.api.errors import InvalidRequest, problems
from runwait.graphs.assistants import is_uuid

STREAM_MODES = [
    "values",
    "messages",
    "messages-tuple",
    "tasks",
    "checkpoints",
    "updates",
    "events",
    "debug",
    "custom",
    "tools",
    "lifecycle",
]


# How many runs may be asked for at once.
MOST_RUNS = 10_000


class Body(Schema):
    """A request's body. Fields that it does not know are ignored."""

    class Meta:
        """Marshmallow's settings."""

        unknown = EXCLUDE

    def of(self, value: Any) -> dict[str, Any]:
        """The valid fields of a JSON value.

        Raises:
            InvalidRequest: the value is no object, or fields of it are not as they must be.
        """
        if not isinstance(value, dict):
            raise InvalidRequest("the body must be a JSON object")
        try:
            valid: dict[str, Any] = self.load(value)
        except ValidationError as error:
            raise InvalidRequest(problems(_flat(error.messages))) from None
        return valid


class CommandBody(Body):
    """`command`."""

    update = fields.update(allow_none=True)
    resume = fields.json()
    goto = fields.goto(allow_none=True)


class CheckpointBody(Body):
    """`checkpoint`: one of a thread's checkpoints."""

    checkpoint_id = fields.uuid(allow_none=True)
    checkpoint_ns = fields.text(allow_none=True)
    checkpoint_map = fields.Strict(
        "an object of checkpoint ids",
        lambda value: (
            isinstance(value, dict)
            and all(isinstance(each, str) and is_uuid(each) for each in value.values())
        ),
        allow_none=True,
    )


_CHECKPOINT_BODY = CheckpointBody()


class ConfigBody(Body):
    """`config`."""

    tags = fields.strings()
    recursion_limit = fields.integer(1)
    configurable = fields.json_object()
    run_name = fields.text()
    max_concurrency = fields.integer(1)
    metadata = fields.json_object()


class RunBody(Body):
    """POST /runs/wait."""

    assistant_id = fields.text(required=True)
    input = fields.json()
    command = fields.Inner(CommandBody, "an object or null", allow_none=True)
    metadata = fields.json_object()
    config = fields.Inner(ConfigBody)
    context = fields.json_object()
    webhook = fields.uri_reference()
    stream_mode = fields.some_of(STREAM_MODES)
    feedback_keys = fields.strings()
    stream_subgraphs = fields.boolean()
    stream_resumable = fields.boolean()
    on_completion = fields.one_of(["delete", "keep"])
    on_disconnect = fields.one_of(["continue", "cancel"])
    after_seconds = fields.number()
    checkpoint_during = fields.boolean()
    durability = fields.one_of(["sync", "async", "exit"])
    interrupt_before = fields.node_names()
    interrupt_after = fields.node_names()
    langsmith_tracer = fields.json_object()
    multitask_strategy = fields.one_of(["enqueue", "reject", "interrupt", "rollback"])
    if_not_exists = fields.one_of(["reject", "create"])
    checkpoint = fields.Inner(CheckpointBody)
    checkpoint_id = fields.uuid()
    strict_resume = fields.boolean()

    @post_load
    def _without_what_is_only_checked(self, given: dict[str, Any], **_: Any) -> dict[str, Any]:
        unused = ("langsmith_tracer", "strict_resume")
        return {name: value for name, value in given.items() if name not in unused}


class OnThread(Body):
    """What is asked of a run on a thread."""

    @validates_schema(skip_on_field_errors=False)
    def _names_a_checkpoint(self, given: dict[str, Any], **_: Any) -> None:
        # Where there is no thread, these are not read.
        configurable = (given.get("config") or {}).get("configurable", {})
        if found := _CHECKPOINT_BODY.validate(configurable):
            raise ValidationError({"config": {"configurable": found}})


class ThreadRunBody(RunBody, OnThread):
    """POST /threads/{thread_id}/runs/wait."""


def batch_of(body: Body, value: Any) -> list[dict[str, Any]]:
    """The valid fields of each object in a list.

    Raises:
        InvalidRequest: it is no such list; the text names the places of those that are not right.
    """
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_RUNS:
        raise InvalidRequest(f"the body must be a list of 1 to {MOST_RUNS} runs")
    valid, wrong = [], []
    for place, each in enumerate(value):
        if not isinstance(each, dict):
            wrong.append((str(place), "must be an object"))
            continue
        try:
            valid.append(body.load(each))
        except ValidationError as error:
            wrong += _flat(error.messages, str(place))
    if wrong:
        raise InvalidRequest(problems(wrong))
    return valid


class CancelBody(Body):
    """POST /runs/cancel."""

    thread_id = fields.uuid(load_default=None)
    run_ids = fields.uuids(load_default=None)
    status = fields.one_of(["pending", "running", "all"], load_default=None)

    @validates_schema
    def _names_runs(self, given: dict[str, Any], **_: Any) -> None:
        if (given["run_ids"] is None) == (given["status"] is None):
            raise ValidationError("must be given, or else status", "run_ids")
        if given["run_ids"] is not None and given["thread_id"] is None:
            raise ValidationError("must be given with run_ids", "thread_id")


def _flat(messages: Any, path: str = "") -> list[tuple[str, str]]:
    """Marshmallow's nested messages as pairs of a field's path and what is wrong with it."""
    if isinstance(messages, dict):
        return [
            each
            for name, inner in messages.items()
            for each in _flat(inner, f"{path}.{name}" if path else str(name))
        ]
    return [(path, " and ".join(messages))]
