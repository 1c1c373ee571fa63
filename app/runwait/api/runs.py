"""/runs and /threads/{thread_id}/runs."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, current_app, g, jsonify, request

from runwait.api.errors import InvalidRequest, problems
from runwait.api.request import (
    idempotency,
    json_body,
    query_choice,
    query_flag,
    query_integer,
    query_selection,
)
from runwait.api.schemas import STREAM_MODES, CancelBody, RunBody, ThreadRunBody, batch_of
from runwait.api.stream import THREAD_STREAM_MODES, Document, EventStream, ThreadStream, pause
from runwait.runs.events import Follower
from runwait.runs.request import RunRequest
from runwait.runs.service import Service
from runwait.runs.translation import event_names
from runwait.storage.events import EventId, parsed
from runwait.storage.records import PUBLIC, RunStatus

blueprint = Blueprint("runs", __name__)
_RUN_BODY, _THREAD_RUN_BODY = RunBody(), ThreadRunBody()
_CANCEL_BODY = CancelBody()
ACTIONS = ("interrupt", "rollback")
# The largest page, and the farthest.
MOST = 1000
MOST_OFFSET = 2**31 - 1
_EVENT_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


@blueprint.post("/runs/wait")
def create_and_wait() -> Response:
    """Run a graph on a thread of its own; answered with its final output."""
    body = _RUN_BODY.of(json_body())
    return _waiting(*_service().wait(_asked(body)))


@blueprint.post("/threads/<thread_id>/runs/wait")
def create_on_thread_and_wait(thread_id: str) -> Response:
    """Run a graph on a kept thread; answered with its final output."""
    body = _THREAD_RUN_BODY.of(json_body())
    return _waiting(*_service().wait(_asked(body, thread_id)))


@blueprint.post("/runs/stream")
def create_and_stream() -> Response:
    """Run a graph on a thread of its own; answered with its events as they happen."""
    body = _RUN_BODY.of(json_body())
    return _streaming(*_service().stream(_asked(body, kind="stream")))


@blueprint.post("/threads/<thread_id>/runs/stream")
def create_on_thread_and_stream(thread_id: str) -> Response:
    """Run a graph on a kept thread; answered with its events as they happen."""
    body = _THREAD_RUN_BODY.of(json_body())
    return _streaming(*_service().stream(_asked(body, thread_id, "stream")))


@blueprint.post("/runs")
def create() -> Response:
    """Run a graph on a thread of its own, in the background; answered at once."""
    body = _RUN_BODY.of(json_body())
    return _accepted(_asked(body, kind="create"))


@blueprint.post("/threads/<thread_id>/runs")
def create_on_thread(thread_id: str) -> Response:
    """Run a graph on a kept thread, in the background; answered at once."""
    body = _THREAD_RUN_BODY.of(json_body())
    return _accepted(_asked(body, thread_id, "create"))


@blueprint.post("/runs/batch")
def create_batch() -> Response:
    """Run graphs in the background, each on a thread of its own: all of them, or none."""
    bodies = batch_of(_RUN_BODY, json_body())
    key, fingerprint = _idempotency("batch")
    document, replayed = _service().start_batch(
        [RunRequest(**body, request_id=g.request_id, waits=False) for body in bodies],
        key,
        fingerprint,
    )
    return Response(document, mimetype="application/json", headers=_replayed(replayed))


@blueprint.get("/threads/<thread_id>/runs")
def list_of_thread(thread_id: str) -> Response:
    """The thread's runs, newest first; of each, what `select` names."""
    limit = query_integer("limit", 10, 1, MOST)
    offset = query_integer("offset", 0, 0, MOST_OFFSET)
    status = query_choice("status", [*RunStatus])
    names = query_selection("select", PUBLIC)
    records = _service().of_thread(thread_id, limit, offset, status)
    shown = [each.public() for each in records]
    return jsonify([{name: each[name] for name in names} for each in shown])


@blueprint.get("/threads/<thread_id>/runs/<run_id>")
def get(thread_id: str, run_id: str) -> Response:
    """The run."""
    record = _service().get(thread_id, run_id)
    return jsonify(record.public())


@blueprint.get("/threads/<thread_id>/runs/<run_id>/join")
def join(thread_id: str, run_id: str) -> Response:
    """Wait for the run; answered with its document."""
    cancel = query_flag("cancel_on_disconnect")
    return _waiting(_service().join(thread_id, run_id, cancel_on_disconnect=cancel))


@blueprint.get("/runs/<run_id>/stream")
@blueprint.get("/threads/<thread_id>/runs/<run_id>/stream")
def join_stream(run_id: str, thread_id: str | None = None) -> Response:
    """The run's events: from now on, or from one of them on."""
    cancel = query_flag("cancel_on_disconnect")
    modes = query_selection("stream_mode", STREAM_MODES)
    follower = _service().join_stream(
        thread_id, run_id, _last_event_id(), cancel_on_disconnect=cancel
    )
    return _streaming(follower, names=event_names(modes))


@blueprint.get("/threads/<thread_id>/stream")
def stream_thread(thread_id: str) -> Response:
    """The events of the thread's runs, one after the other."""
    modes: list[str] = []
    for name in ("stream_modes", "stream_mode"):
        if request.args.get(name):
            modes += query_selection(name, THREAD_STREAM_MODES)
    follower = _service().stream_thread(thread_id, _last_event_id())
    g.thread_id = thread_id
    return ThreadStream(follower, pause(), modes or ["run_modes"]).response({})


@blueprint.post("/threads/<thread_id>/runs/<run_id>/cancel")
def cancel(thread_id: str, run_id: str) -> Response:
    """Stop the run."""
    action = query_choice("action", ACTIONS, "interrupt")
    _service().cancel(thread_id, run_id, action, wait=query_flag("wait"))
    return Response(status=HTTPStatus.ACCEPTED)


@blueprint.post("/runs/cancel")
def cancel_all() -> Response:
    """Stop several runs."""
    action = query_choice("action", ACTIONS, "interrupt")
    _service().cancel_all(action, **_CANCEL_BODY.of(json_body()))
    return Response(status=HTTPStatus.NO_CONTENT)


@blueprint.delete("/threads/<thread_id>/runs/<run_id>")
def delete(thread_id: str, run_id: str) -> Response:
    """Remove the run."""
    _service().delete(thread_id, run_id)
    return Response(status=HTTPStatus.NO_CONTENT)


def _idempotency(kind: str) -> tuple[str | None, str]:
    """The request's key, apart from the same key with another path; and the body's fingerprint."""
    key, fingerprint = idempotency()
    return (f"{kind} {key}" if kind and key is not None else key), fingerprint


def _asked(body: dict[str, Any], thread_id: str | None = None, kind: str = "") -> RunRequest:
    key, fingerprint = _idempotency(kind)
    return RunRequest(
        **body,
        thread_id=thread_id,
        request_id=g.request_id,
        idempotency_key=key,
        fingerprint=fingerprint,
        waits=not kind,
    )


def _waiting(follower: Follower, replayed: bool = False) -> Response:
    """The answer that ends with the run's document."""
    return Document(follower, pause()).response(_headers(follower, "join", replayed))


def _streaming(
    follower: Follower, replayed: bool = False, names: frozenset[str] | None = None
) -> Response:
    """The answer that has the run's events."""
    stream = EventStream(follower, pause(), names)
    return stream.response(_headers(follower, "stream", replayed))


def _accepted(asked: RunRequest) -> Response:
    """The answer that does not wait for the run."""
    ids, document, replayed = _service().start_in_background(asked)
    g.thread_id, g.run_id = ids
    location = {"Content-Location": f"/threads/{g.thread_id}/runs/{g.run_id}"}
    return Response(
        document, mimetype="application/json", headers={**location, **_replayed(replayed)}
    )


def _headers(follower: Follower, joined_by: str, replayed: bool) -> dict[str, str]:
    g.thread_id, g.run_id = follower.thread_id, follower.run_id
    run = f"/threads/{follower.thread_id}/runs/{follower.run_id}"
    # Whoever joined as they wanted and is cut off goes there, and wants the same.
    query = urlencode([*request.args.items(multi=True)]) if request.method == "GET" else ""
    return {
        "Location": f"{run}/{joined_by}{query and '?'}{query}",
        "Content-Location": run,
        **_replayed(replayed),
    }


def _replayed(replayed: bool) -> dict[str, str]:
    return {"Idempotency-Replayed": "true"} if replayed else {}


def _last_event_id() -> EventId | None:
    """The event after which a stream is to go on; (0, 0) for its beginning, None for now."""
    given = request.headers.get("Last-Event-ID")
    if not given:
        return None
    if given in ("-1", "0", "-"):
        return 0, 0
    if not _EVENT_ID.fullmatch(given):
        raise InvalidRequest(problems([("Last-Event-ID", "must be an event's id, or -1 for all")]))
    return parsed(given)


def _service() -> Service:
    service: Service = current_app.extensions["runwait"].service
    return service
