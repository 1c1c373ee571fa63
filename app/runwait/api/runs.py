"""/runs and /threads/{thread_id}/runs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, current_app, g, jsonify

from runwait.api.request import (
    idempotency,
    json_body,
    query_choice,
    query_flag,
    query_integer,
    query_selection,
)
from runwait.api.schemas import CancelBody, RunBody, ThreadRunBody
from runwait.api.stream import Stream
from runwait.runs.events import Follower
from runwait.runs.request import RunRequest
from runwait.runs.service import Service
from runwait.storage.records import PUBLIC, RunStatus

blueprint = Blueprint("runs", __name__)
_RUN_BODY, _THREAD_RUN_BODY = RunBody(), ThreadRunBody()
_CANCEL_BODY = CancelBody()
ACTIONS = ("interrupt", "rollback")
# The largest page, and the farthest.
MOST = 1000
MOST_OFFSET = 2**31 - 1


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


def _asked(body: dict[str, Any], thread_id: str | None = None) -> RunRequest:
    key, fingerprint = idempotency()
    return RunRequest(
        **body,
        thread_id=thread_id,
        request_id=g.request_id,
        idempotency_key=key,
        fingerprint=fingerprint,
    )


def _waiting(follower: Follower, replayed: bool = False) -> Response:
    """The answer that ends with the run's document."""
    g.thread_id, g.run_id = follower.thread_id, follower.run_id
    run = f"/threads/{follower.thread_id}/runs/{follower.run_id}"
    headers = {
        "Location": f"{run}/join",
        "Content-Location": run,
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
        **({"Idempotency-Replayed": "true"} if replayed else {}),
    }
    pause = current_app.extensions["runwait"].settings.heartbeat_seconds
    return Stream(follower, pause).response(headers)


def _service() -> Service:
    service: Service = current_app.extensions["runwait"].service
    return service
