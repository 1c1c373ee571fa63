"""What calls take, as marshmallow schemas: bodies (contract section 1), queries and headers."""

from __future__ import annotations

import functools
import re
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, ValidationError, missing, post_load, validates_schema
from werkzeug.datastructures import Headers, MultiDict

from runwait.api import fields
from runwait.api.errors import InvalidRequest, problems
from runwait.graphs.assistants import is_uuid
from runwait.storage.events import parsed

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


# Where an id is shown.
AN_ID = "01980a2e-5c7b-7d3e-8f4a-6b1c2d3e4f50"
# How many runs may be asked for at once.
MOST_RUNS = 10_000
# The largest page, and the farthest.
MOST = 1000
MOST_OFFSET = 2**31 - 1


class Body(Schema):
    """A request's body. Fields that it does not know are ignored.

    Attributes:
        example: such a body; None where that is the examples of all its fields together.
    """

    example: ClassVar[Any] = None

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
        return _valid(self, value)


class LimitBody(Body):
    """How much of what is found."""

    limit = fields.integer(1, MOST, load_default=10, about="How many at most.", example=10)


class PageBody(LimitBody):
    """A page of what is found."""

    offset = fields.integer(
        0, MOST_OFFSET, load_default=0, about="How many to pass over.", example=0
    )


class Texts(Schema):
    """What a request says as text, in its query or headers. What it does not know is ignored."""

    class Meta:
        """Marshmallow's settings."""

        unknown = EXCLUDE

    def of(self, given: MultiDict[str, str] | Headers) -> dict[str, Any]:
        """The valid fields of a query or of headers.

        Of a text that is there twice, the first counts, unless its field takes all of them.

        Raises:
            InvalidRequest: some are not as they must be.
        """
        texts = {}
        for name, each in self.fields.items():
            key = each.data_key or name
            if key in given:
                repeated = isinstance(each, fields.Strict) and each.repeated
                texts[key] = given.getlist(key) if repeated else given[key]
        return _valid(self, texts) if texts else {**_of_none(type(self))}


class LimitQuery(Texts):
    """`LimitBody`, as a query."""

    limit = fields.digits(1, MOST, load_default=10, about="How many at most.", example=10)


class PageQuery(LimitQuery):
    """`PageBody`, as a query."""

    offset = fields.digits(0, MOST_OFFSET, load_default=0, about="How many to pass over.")


@functools.cache
def _of_none(kind: type[Schema]) -> dict[str, Any]:
    """What it comes to where none of a schema's texts are there."""
    return _valid(kind(), {})


@functools.cache
def _optional(kind: type[Schema]) -> frozenset[str]:
    """The fields of a schema that come to nothing where they are missing."""
    return frozenset(
        name
        for name, each in kind().load_fields.items()
        if not each.required and each.load_default is missing
    )


def _loaded(schema: Schema, value: dict[str, Any]) -> dict[str, Any]:
    """`Schema.load`, which passes over what may be missing: that is most of it."""
    loaded: dict[str, Any] = schema.load(value, partial=_optional(type(schema)))
    return loaded


def _valid(schema: Schema, value: dict[str, Any]) -> dict[str, Any]:
    try:
        return _loaded(schema, value)
    except ValidationError as error:
        raise InvalidRequest(problems(_flat(error.messages))) from None


class CommandBody(Body):
    """What a run is to do in place of taking an input."""

    update = fields.update(
        allow_none=True,
        about="Laid over the state: an object, or pairs of a key and a value.",
        example={"topic": "cats"},
    )
    resume = fields.json(
        about="Answers the interrupts that the thread waits with: one value for all of them, or an "
        "object of interrupt ids and values.",
        example={"approved": True},
    )
    goto = fields.goto(
        allow_none=True,
        about="The node to go to, by name or with an input of its own, or a list of such.",
        example="write",
    )


class CheckpointBody(Body):
    """One of a thread's checkpoints."""

    checkpoint_id = fields.uuid(allow_none=True, about="Its id.", example=AN_ID)
    checkpoint_ns = fields.text(
        allow_none=True,
        about="The namespace of the subgraph that it is of; empty for the graph.",
        example="",
    )
    checkpoint_map = fields.Strict(
        "an object of checkpoint ids",
        lambda value: (
            isinstance(value, dict)
            and all(isinstance(each, str) and is_uuid(each) for each in value.values())
        ),
        schema={**fields.OBJECT, "additionalProperties": fields.UUID},
        allow_none=True,
        about="The checkpoints of the graphs around, each under its namespace.",
        example={"": AN_ID},
    )


_CHECKPOINT_BODY = CheckpointBody()


class ConfigBody(Body):
    """LangGraph's config for a run."""

    tags = fields.strings(about="Tags of the run, for tracing.", example=["nightly"])
    recursion_limit = fields.integer(1, about="How many supersteps the run may take.", example=25)
    configurable = fields.json_object(
        about="What the graph reads as config['configurable']; not together with context.",
        example={"model": "small"},
    )
    run_name = fields.text(about="The run's name, for tracing.", example="nightly report")
    max_concurrency = fields.integer(1, about="How many nodes may work at once.", example=4)
    metadata = fields.json_object(
        about="What the graph reads as config['metadata'].", example={"user": "ada"}
    )


class RunBody(Body):
    """What a run is asked."""

    example: ClassVar[Any] = {
        "assistant_id": "chat",
        "input": {"messages": [{"role": "user", "content": "What is 6 * 7?"}]},
    }

    assistant_id = fields.text(
        required=True, about="A graph's name, or the UUID of an assistant.", example="chat"
    )
    input = fields.json(
        about="The graph's input, any JSON; null goes on with what a thread was about to do.",
        example={"messages": [{"role": "user", "content": "What is 6 * 7?"}]},
    )
    command = fields.Inner(
        CommandBody,
        "an object or null",
        allow_none=True,
        about="Takes the place of the input: resumes, updates the state, or goes to a node.",
    )
    metadata = fields.json_object(
        about="Kept with the run, and in the graph's config['metadata'].", example={"user": "ada"}
    )
    config = fields.Inner(ConfigBody, about="LangGraph's config for the run.")
    context = fields.json_object(
        about="The graph's static context; not together with config.configurable.",
        example={"name": "Ada"},
    )
    webhook = fields.uri_reference(
        about="Where the run's end is posted to: at least once, tried again for a day.",
        example="https://example.com/hooks/runs",
    )
    stream_mode = fields.some_of(
        STREAM_MODES, about="Which events a stream has.", example=["updates", "messages-tuple"]
    )
    feedback_keys = fields.strings(
        about="With LangSmith set up, the answer has a pre-signed feedback URL for each.",
        example=["helpful"],
    )
    stream_subgraphs = fields.boolean(about="Whether a stream has events of subgraphs too.")
    stream_resumable = fields.boolean(
        about="Whether the events are kept, so that a stream that broke off can be gone on with."
    )
    on_completion = fields.one_of(
        ["delete", "keep"],
        about="What becomes of the thread of a run without one of its own, delete by default.",
    )
    on_disconnect = fields.one_of(
        ["continue", "cancel"],
        about="What becomes of the run if its client goes away, continue by default.",
    )
    after_seconds = fields.number(about="Start that many seconds from now.", example=60)
    checkpoint_during = fields.boolean(about="Deprecated; false is durability exit.")
    durability = fields.one_of(
        ["sync", "async", "exit"],
        about="When a kept thread's checkpoints are written, async by default.",
    )
    interrupt_before = fields.node_names(about="Nodes to stop before.", example=["send"])
    interrupt_after = fields.node_names(about="Nodes to stop after.", example="*")
    langsmith_tracer = fields.json_object(about="Checked, and of no effect.", example={})
    multitask_strategy = fields.one_of(
        ["enqueue", "reject", "interrupt", "rollback"],
        about="On a busy thread: wait, be refused with 409, or stop the run that has it; enqueue "
        "by default.",
    )
    if_not_exists = fields.one_of(
        ["reject", "create"],
        about="Where there is no such thread: 404, or make it; reject by default.",
    )
    checkpoint = fields.Inner(CheckpointBody, about="Where on its thread to start.")
    checkpoint_id = fields.uuid(about="The same, by its id alone.", example=AN_ID)
    strict_resume = fields.boolean(about="Checked, and of no effect: a resume is always strict.")

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
    """What a run on a kept thread is asked."""


class Batch:
    """A body that is a list of what runs are asked."""

    def __init__(self, each: Body) -> None:
        """Define the body, by that of one run."""
        self._each = each
        self.example = [each.example]
        self.schema = {
            "type": "array",
            "items": each,
            "minItems": 1,
            "maxItems": MOST_RUNS,
        }

    def of(self, value: Any) -> list[dict[str, Any]]:
        """The valid fields of each object in the list.

        Raises:
            InvalidRequest: it is no such list; the text names the places of those that are not
                right.
        """
        if not isinstance(value, list) or not 1 <= len(value) <= MOST_RUNS:
            raise InvalidRequest(f"the body must be a list of 1 to {MOST_RUNS} runs")
        valid, wrong = [], []
        for place, each in enumerate(value):
            if not isinstance(each, dict):
                wrong.append((str(place), "must be an object"))
                continue
            try:
                valid.append(_loaded(self._each, each))
            except ValidationError as error:
                wrong += _flat(error.messages, str(place))
        if wrong:
            raise InvalidRequest(problems(wrong))
        return valid


class CancelBody(Body):
    """Which runs to stop: run_ids with their thread_id, or all of a status."""

    example: ClassVar[Any] = {"thread_id": AN_ID, "run_ids": [AN_ID]}

    thread_id = fields.uuid(load_default=None, about="The thread of the runs.", example=AN_ID)
    run_ids = fields.uuids(load_default=None, about="The runs to stop.", example=[AN_ID])
    status = fields.one_of(
        ["pending", "running", "all"], load_default=None, about="Stop all runs of this status."
    )

    @validates_schema
    def _names_runs(self, given: dict[str, Any], **_: Any) -> None:
        if (given["run_ids"] is None) == (given["status"] is None):
            raise ValidationError("must be given, or else status", "run_ids")
        if given["run_ids"] is not None and given["thread_id"] is None:
            raise ValidationError("must be given with run_ids", "thread_id")


_KEY = re.compile(r'"(?P<quoted>[\x21\x23-\x7e]{1,255})"|(?P<bare>[\x21\x23-\x7e]{1,255})')


def _key_of(given: str) -> str:
    found = _KEY.fullmatch(given)
    assert found is not None
    return found["quoted"] or found["bare"]


class IdempotencyHeaders(Texts):
    """The headers of a call that makes a run."""

    idempotency_key = fields.Strict(
        "1 to 255 visible ASCII characters",
        lambda value: _KEY.fullmatch(value) is not None,
        schema={**fields.STRING, "pattern": r"^[!#-~]{1,255}$"},
        convert=_key_of,
        data_key="Idempotency-Key",
        load_default=None,
        about="A request that is sent again with the same key and body gets the first one's "
        "answer, and runs nothing. Quoted or bare.",
        example="order-4711",
    )


_EVENT_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
_BEGINNING = ("-1", "0", "-")


class StreamHeaders(Texts):
    """The headers of a call that joins a stream."""

    last_event_id = fields.Strict(
        "an event's id, or -1 for all",
        lambda value: value in ("", *_BEGINNING) or _EVENT_ID.fullmatch(value) is not None,
        schema={**fields.STRING, "pattern": f"^(|-1?|0|{_EVENT_ID.pattern})$"},
        convert=lambda value: (0, 0) if value in _BEGINNING else parsed(value) if value else None,
        data_key="Last-Event-ID",
        load_default=None,
        about="The event after which to go on; -1 for all that are kept, none for those to come.",
        example="3-17",
    )


class CancelOnDisconnect(Texts):
    """The query of a call that waits for a run that is there already."""

    cancel_on_disconnect = fields.flag(about="End the run if this client goes away.")


class JoinStreamQuery(CancelOnDisconnect):
    """The query of a call that joins a run's stream."""

    stream_mode = fields.names(
        STREAM_MODES, about="Which events are wanted; all if none is named.", example=["updates"]
    )


def _flat(messages: Any, path: str = "") -> list[tuple[str, str]]:
    """Marshmallow's nested messages as pairs of a field's path and what is wrong with it."""
    if isinstance(messages, dict):
        return [
            each
            for name, inner in messages.items()
            for each in _flat(inner, f"{path}.{name}" if path else str(name))
        ]
    return [(path, " and ".join(messages))]
