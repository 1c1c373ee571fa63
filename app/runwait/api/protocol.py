"""LangGraph's event protocol: /threads/{thread_id}/commands, /threads/{thread_id}/stream/events."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint, Response, g, jsonify
from marshmallow import ValidationError, post_load, validates_schema

from runwait.api import current, fields
from runwait.api.auth import authorize, permit_thread
from runwait.api.errors import BrokenRequest, InvalidRequest, described
from runwait.api.operation import operation
from runwait.api.request import said_by_headers
from runwait.api.resources import COMMANDED, stream
from runwait.api.schemas import Body, ConfigBody, OnThread
from runwait.api.stream import EventStream, frame_of, pause
from runwait.graphs.assistants import AssistantNotFound, UnknownGraph
from runwait.runs.admission import ConflictingRequest, UnfitRequest
from runwait.runs.events import Cut, Event, Follower, Given, RunNotFound
from runwait.runs.protocol.commands import NoSuchInterrupt
from runwait.runs.protocol.events import CHANNELS, CUSTOM, Subscription
from runwait.runs.request import RunRequest
from runwait.runs.resume import NothingToResume
from runwait.serialization import dumps
from runwait.storage.threads import ThreadBusy
from runwait.threads.compatibility import StateIncompatible
from runwait.threads.states import CheckpointNotFound

blueprint = Blueprint("protocol", __name__)
# What a command can come to that is no fault of the service: the protocol's word for it.
_ERRORS: dict[type[Exception], str] = {
    RunNotFound: "no_such_run",
    NoSuchInterrupt: "no_such_interrupt",
    CheckpointNotFound: "no_such_checkpoint",
    **dict.fromkeys(
        (
            InvalidRequest,
            AssistantNotFound,
            UnknownGraph,
            ConflictingRequest,
            UnfitRequest,
            NothingToResume,
            StateIncompatible,
            ThreadBusy,
        ),
        "invalid_argument",
    ),
}
# What the SDKs watch from before they start a run, to learn of its end. The end of an earlier run
# would be taken for that (docs/decisions/event-protocol.md).
_WATCHED = {"lifecycle", "input"}
_LARGEST = 2**53 - 1  # of JavaScript's integers


class Command(Body):
    """What any command is."""

    id = fields.integer(
        0, _LARGEST, required=True, about="Any number; the answer has it too.", example=1
    )
    method = fields.text(
        required=True, about="run.start, input.respond or agent.getTree.", example="run.start"
    )
    params = fields.json_object(
        load_default=dict,
        about="What the method takes.",
        example={"assistant_id": "chat", "input": {"messages": []}},
    )


class _Asked(OnThread):
    """What a command may ask of the run that it starts."""

    config = fields.Inner(ConfigBody, allow_none=True)
    metadata = fields.json_object(allow_none=True)

    @post_load
    def _without_none(self, given: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {
            name: value
            for name, value in given.items()
            if value is not None or name not in ("config", "metadata")
        }


class _Start(_Asked):
    assistant_id = fields.text(required=True)
    input = fields.json()
    multitask_strategy = fields.one_of(["enqueue", "reject", "interrupt", "rollback"])


def _is_answer(value: Any) -> bool:
    return isinstance(value, dict) and (
        isinstance(value.get("interrupt_id"), str) and "response" in value
    )


class _Respond(_Asked):
    interrupt_id = fields.text()
    response = fields.json()
    responses = fields.Strict(
        "a list of objects with interrupt_id and response",
        lambda value: isinstance(value, list) and bool(value) and all(map(_is_answer, value)),
        bound=fields.FEW,
    )
    update = fields.update(allow_none=True)
    goto = fields.goto(allow_none=True)

    @validates_schema
    def _answers(self, given: dict[str, Any], **_: Any) -> None:
        one = "interrupt_id" in given and "response" in given
        if one == ("responses" in given):
            raise ValidationError("must be given with response, or else responses", "interrupt_id")


class _Tree(Body):
    run_id = fields.uuid(load_default=None)


class EventsBody(Body):
    """Which events."""

    channels = fields.Strict(
        f"a list of: {', '.join(CHANNELS)}, {CUSTOM}NAME",
        lambda value: (
            fields.is_strings(value)
            and bool(value)
            and all(
                each in CHANNELS or (len(each) > len(CUSTOM) and each.startswith(CUSTOM))
                for each in value
            )
        ),
        schema={
            **fields.list_of(
                {"anyOf": [{"enum": [*CHANNELS]}, {**fields.STRING, "pattern": f"^{CUSTOM}."}]}
            ),
            "minItems": 1,
            "maxItems": fields.MOST,
        },
        bound=fields.FEW,
        required=True,
        about="Which channels.",
        example=["messages", "lifecycle"],
    )
    namespaces = fields.Strict(
        "a list of lists of strings",
        lambda value: isinstance(value, list) and all(map(fields.is_strings, value)),
        schema={
            **fields.list_of(fields.list_of(fields.STRING)),
            "type": ["array", "null"],
            "maxItems": fields.MOST,
        },
        bound=fields.FEW,
        allow_none=True,
        about="Only of these namespaces, and beneath them.",
        example=[[]],
    )
    depth = fields.integer(0, allow_none=True, about="How far beneath.", example=1)
    since = fields.integer(
        0, allow_none=True, about="The number of the event after which to begin.", example=0
    )


_START, _RESPOND, _TREE = _Start(), _Respond(), _Tree()


@blueprint.post("/threads/<thread_id>/commands")
@operation(body=Command(), gives=COMMANDED, invalid=BrokenRequest)
def command(thread_id: str, body: dict[str, Any]) -> Response:
    """Do what a command asks for; what comes of it is in the answer, whose status is 200."""
    g.thread_id = thread_id
    try:
        done = _DONE_BY.get(body["method"])
        if done is None:
            error, message = "unknown_command", f"there is no command {body['method']}"
            return jsonify(type="error", id=body["id"], error=error, message=message)
        result, through = done(thread_id, body["params"])
    except tuple(_ERRORS) as error:
        word, (_, message) = _ERRORS[type(error)], described(error)
        return jsonify(type="error", id=body["id"], error=word, message=message)
    meta = {} if through is None else {"meta": {"applied_through_seq": through}}
    return jsonify(type="success", id=body["id"], result=result, **meta)


@blueprint.post("/threads/<thread_id>/stream/events")
@operation(
    body=EventsBody(),
    gives=stream("The events in the protocol's form, without an end."),
    invalid=BrokenRequest,
)
def stream_events(thread_id: str, body: dict[str, Any]) -> Response:
    """The events of the thread's runs, those that are kept first, as they are asked for."""
    g.thread_id = thread_id
    since = body.setdefault("since", None)
    if since is None and set(body["channels"]) != _WATCHED:
        since = 0
    filters = authorize("threads", "read", {"thread_id": UUID(thread_id)})
    follower = current.service().follow_thread(thread_id, since, filters)
    return _ProtocolStream(follower, pause(), Subscription(**body)).response({})


class _ProtocolStream(EventStream):
    """The body of a client that is given a thread's events in the protocol's form."""

    def __init__(self, follower: Follower, pause: float, subscription: Subscription) -> None:
        super().__init__(follower, pause)
        self._subscription = subscription

    def _piece_of(self, given: Given) -> bytes:
        if isinstance(given, Event):
            return b"".join(
                frame_of("message", data, str(number or ""))
                for number, data in self._subscription.messages(given)
            )
        if given is Cut.TOO_SLOW:
            self.is_whole = True
            problem = {"type": "error", "id": None, "error": "unknown_error"}
            return frame_of("message", dumps({**problem, "message": given.value}), "")
        self.is_cut = True
        return b""


def _start(thread_id: str, params: dict[str, Any]) -> tuple[dict[str, Any], int]:
    body = _START.of(params)
    g.run_id, through = current.service().protocol.start(
        RunRequest(**body, **said_by_headers(), thread_id=thread_id, if_not_exists="create")
    )
    return {"run_id": g.run_id}, through


def _respond(thread_id: str, params: dict[str, Any]) -> tuple[dict[str, Any], int]:
    body = _RESPOND.of(params)
    pairs = body.pop("responses", None) or [body]
    answers = {each["interrupt_id"]: each["response"] for each in pairs}
    rest = {name: value for name, value in body.items() if name not in ("interrupt_id", "response")}
    said = said_by_headers()
    rest |= {name: said[name] for name in ("headers", "user")}
    g.run_id, through = current.service().protocol.respond(thread_id, g.request_id, answers, rest)
    return {}, through


def _tree(thread_id: str, params: dict[str, Any]) -> tuple[dict[str, Any], None]:
    permit_thread("read", thread_id)
    return {"tree": current.service().protocol.tree(thread_id, _TREE.of(params)["run_id"])}, None


_DONE_BY = {"run.start": _start, "input.respond": _respond, "agent.getTree": _tree}
