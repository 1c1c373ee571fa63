"""/runs and /threads/{thread_id}/runs."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, g, jsonify, request

from app.api import heartbeat
from app.api.request import check_ids, idempotency_key, json_body, query_flag
from app.api.schemas import RunBody
from app.runs.requests import RunRequest
from app.runs.service import Service
from app.runs.waits import Wait

blueprint = Blueprint("runs", __name__)
_RUN_BODY = RunBody()


@blueprint.post("/runs/wait")
def create_and_wait() -> Response:
    """Run a graph on a thread of its own; answered with its final output."""
    body = _RUN_BODY.of(json_body())
    asked = RunRequest(**body, request_id=g.request_id, idempotency_key=idempotency_key())
    return _waiting(_service().create(asked))


@blueprint.get("/threads/<thread_id>/runs/<run_id>")
def get(thread_id: str, run_id: str) -> Response:
    """The run."""
    check_ids(thread_id=thread_id, run_id=run_id)
    record = _service().get(thread_id.lower(), run_id.lower())
    return jsonify(record.public())


@blueprint.get("/threads/<thread_id>/runs/<run_id>/join")
def join(thread_id: str, run_id: str) -> Response:
    """Wait for the run; answered with its document."""
    check_ids(thread_id=thread_id, run_id=run_id)
    cancel = query_flag("cancel_on_disconnect")
    return _waiting(_service().join(thread_id.lower(), run_id.lower(), cancel_on_disconnect=cancel))


def _waiting(wait: Wait) -> Response:
    g.thread_id, g.run_id = wait.thread_id, wait.run_id
    extension = current_app.extensions["runwait"]
    return heartbeat.respond(
        wait, request.environ, extension.watcher, extension.settings.heartbeat_seconds
    )


def _service() -> Service:
    service: Service = current_app.extensions["runwait"].service
    return service
