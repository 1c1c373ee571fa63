"""/runs and /threads/{thread_id}/runs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from flask import Blueprint, Response, g, jsonify, request

from runwait.api import current, fields
from runwait.api.auth import authorize, permit_run, permit_thread
from runwait.api.edge import here
from runwait.api.operation import Answer, operation
from runwait.api.request import said_by_headers
from runwait.api.resources import ACCEPTED, REPLAYED, STREAMED, WAITED, Run, stream
from runwait.api.schemas import (
    STREAM_MODES,
    Batch,
    CancelBody,
    CancelOnDisconnect,
    IdempotencyHeaders,
    JoinStreamQuery,
    PageQuery,
    RunBody,
    StreamHeaders,
    Texts,
    ThreadRunBody,
)
from runwait.api.stream import THREAD_STREAM_MODES, Document, EventStream, ThreadStream, pause
from runwait.runs.events import Follower
from runwait.runs.request import RunRequest
from runwait.runs.translation import event_names
from runwait.storage.events import EventId
from runwait.storage.records import PUBLIC, Action, RunStatus

Values = dict[str, Any]

blueprint = Blueprint("runs", __name__)
ACTIONS = ("interrupt", "rollback")
NOT_FOUND = HTTPStatus.NOT_FOUND
REFUSED = (NOT_FOUND, HTTPStatus.CONFLICT)
_RUN, _THREAD_RUN, _HEADERS = RunBody(), ThreadRunBody(), IdempotencyHeaders()


class RunsQuery(PageQuery):
    """Which of a thread's runs."""

    status = fields.one_of(
        [*map(str, RunStatus)], load_default=None, about="Only those of this status."
    )
    select = fields.names(PUBLIC, about="What of each run; all if nothing is named.")


class CancelQuery(Texts):
    """How to stop runs."""

    action = fields.one_of(
        ACTIONS,
        load_default="interrupt",
        about="interrupt (default): what was checkpointed stays; rollback: the run goes with it.",
    )


class CancelOneQuery(CancelQuery):
    """How to stop a run."""

    wait = fields.flag(about="Answer once nothing that it does can reach the thread any more.")


class ThreadStreamQuery(Texts):
    """Which events of a thread's runs."""

    stream_modes = fields.names(
        THREAD_STREAM_MODES, about="Which events are wanted; run_modes if none are named."
    )
    stream_mode = fields.names(THREAD_STREAM_MODES, about="The same, as the SDKs send it.")


@blueprint.post("/runs/wait")
@operation(body=_RUN, headers=_HEADERS, gives=WAITED, refuses=REFUSED)
def create_and_wait(body: Values, idempotency_key: str | None) -> Response:
    """Run a graph on a thread of its own; answered with its final output."""
    return _waiting(*current.service().wait(_asked(body, idempotency_key)))


@blueprint.post("/threads/<thread_id>/runs/wait")
@operation(body=_THREAD_RUN, headers=_HEADERS, gives=WAITED, refuses=REFUSED)
def create_on_thread_and_wait(
    thread_id: str, body: Values, idempotency_key: str | None
) -> Response:
    """Run a graph on a kept thread; answered with its final output."""
    return _waiting(*current.service().wait(_asked(body, idempotency_key, thread_id)))


@blueprint.post("/runs/stream")
@operation(body=_RUN, headers=_HEADERS, gives=STREAMED, refuses=REFUSED)
def create_and_stream(body: Values, idempotency_key: str | None) -> Response:
    """Run a graph on a thread of its own; answered with its events as they happen."""
    return _streaming(*current.service().stream(_asked(body, idempotency_key, kind="stream")))


@blueprint.post("/threads/<thread_id>/runs/stream")
@operation(body=_THREAD_RUN, headers=_HEADERS, gives=STREAMED, refuses=REFUSED)
def create_on_thread_and_stream(
    thread_id: str, body: Values, idempotency_key: str | None
) -> Response:
    """Run a graph on a kept thread; answered with its events as they happen."""
    return _streaming(*current.service().stream(_asked(body, idempotency_key, thread_id, "stream")))


@blueprint.post("/runs")
@operation(body=_RUN, headers=_HEADERS, gives=ACCEPTED, refuses=REFUSED)
def create(body: Values, idempotency_key: str | None) -> Response:
    """Run a graph on a thread of its own, in the background; answered at once."""
    return _accepted(_asked(body, idempotency_key, kind="create"))


@blueprint.post("/threads/<thread_id>/runs")
@operation(body=_THREAD_RUN, headers=_HEADERS, gives=ACCEPTED, refuses=REFUSED)
def create_on_thread(thread_id: str, body: Values, idempotency_key: str | None) -> Response:
    """Run a graph on a kept thread, in the background; answered at once."""
    return _accepted(_asked(body, idempotency_key, thread_id, "create"))


@blueprint.post("/runs/batch")
@operation(
    body=Batch(_RUN),
    headers=_HEADERS,
    gives=Answer("The runs, in the order of the list.", fields.list_of(Run), headers=REPLAYED),
    refuses=REFUSED,
)
def create_batch(body: list[Values], idempotency_key: str | None) -> Response:
    """Run graphs in the background, each on a thread of its own: all of them, or none."""
    document, replayed = current.service().start_batch(
        [RunRequest(**each, **said_by_headers(), waits=False) for each in body],
        *_idempotency("batch", idempotency_key),
    )
    return Response(document, mimetype="application/json", headers=_replayed(replayed))


@blueprint.get("/threads/<thread_id>/runs")
@operation(query=RunsQuery(), gives=Answer("The runs.", fields.list_of(Run)), refuses=[NOT_FOUND])
def list_of_thread(
    thread_id: str, limit: int, offset: int, status: str | None, select: list[str]
) -> Response:
    """The thread's runs, newest first; of each, what `select` names."""
    permit_thread("read", thread_id)
    records = current.service().of_thread(thread_id, limit, offset, status)
    shown = [each.public() for each in records]
    return jsonify([{name: each[name] for name in select or PUBLIC} for each in shown])


@blueprint.get("/threads/<thread_id>/runs/<run_id>")
@operation(gives=Answer("The run.", Run), refuses=[NOT_FOUND])
def get(thread_id: str, run_id: str) -> Response:
    """The run."""
    permit_run("read", thread_id, run_id)
    record = current.service().get(thread_id, run_id)
    return jsonify(record.public())


@blueprint.get("/threads/<thread_id>/runs/<run_id>/join")
@operation(query=CancelOnDisconnect(), gives=WAITED, refuses=[NOT_FOUND])
def join(thread_id: str, run_id: str, cancel_on_disconnect: bool) -> Response:
    """Wait for the run; answered with its document."""
    _permit_join(thread_id, run_id, cancel_on_disconnect)
    follower = current.service().join(thread_id, run_id, cancel_on_disconnect=cancel_on_disconnect)
    return _waiting(follower)


@blueprint.get("/runs/<run_id>/stream")
@blueprint.get("/threads/<thread_id>/runs/<run_id>/stream", endpoint="join_stream_on_thread")
@operation(
    query=JoinStreamQuery(),
    headers=StreamHeaders(),
    gives=STREAMED,
    refuses=[NOT_FOUND, HTTPStatus.GONE],
)
def join_stream(
    run_id: str,
    stream_mode: list[str],
    cancel_on_disconnect: bool,
    last_event_id: EventId | None,
    thread_id: str | None = None,
) -> Response:
    """The run's events: from now on, or from one of them on."""
    _permit_join(thread_id, run_id, cancel_on_disconnect)
    follower = current.service().join_stream(
        thread_id, run_id, last_event_id, cancel_on_disconnect=cancel_on_disconnect
    )
    return _streaming(follower, names=event_names(stream_mode or STREAM_MODES))


@blueprint.get("/threads/<thread_id>/stream")
@operation(
    query=ThreadStreamQuery(),
    headers=StreamHeaders(),
    gives=stream("The events, without an end."),
    refuses=[NOT_FOUND, HTTPStatus.GONE],
)
def stream_thread(
    thread_id: str,
    stream_modes: list[str],
    stream_mode: list[str],
    last_event_id: EventId | None,
) -> Response:
    """The events of the thread's runs, one after the other."""
    filters = authorize("threads", "read", {"thread_id": UUID(thread_id)})
    follower = current.service().stream_thread(thread_id, last_event_id, filters)
    g.thread_id = thread_id
    modes = [*stream_modes, *stream_mode] or ["run_modes"]
    return ThreadStream(follower, pause(), modes).response({})


@blueprint.post("/threads/<thread_id>/runs/<run_id>/cancel")
@operation(
    query=CancelOneQuery(),
    gives=Answer("The run is being stopped.", status=HTTPStatus.ACCEPTED),
    refuses=[NOT_FOUND],
)
def cancel(thread_id: str, run_id: str, action: Action, wait: bool) -> Response:
    """Stop the run."""
    permit_run("update", thread_id, run_id, action=action)
    current.service().cancel(thread_id, run_id, action, wait=wait)
    return Response(status=HTTPStatus.ACCEPTED)


@blueprint.post("/runs/cancel")
@operation(
    query=CancelQuery(),
    body=CancelBody(),
    gives=Answer("The runs are being stopped.", status=HTTPStatus.NO_CONTENT),
    refuses=[NOT_FOUND],
)
def cancel_all(action: Action, body: Values) -> Response:
    """Stop several runs."""
    of_thread = {"thread_id": UUID(body["thread_id"])} if body["thread_id"] else {}
    filters = authorize("threads", "update", {**of_thread, "action": action})
    current.service().cancel_all(action, **body, filters=filters)
    return Response(status=HTTPStatus.NO_CONTENT)


@blueprint.delete("/threads/<thread_id>/runs/<run_id>")
@operation(gives=Answer("It is gone.", status=HTTPStatus.NO_CONTENT), refuses=[NOT_FOUND])
def delete(thread_id: str, run_id: str) -> Response:
    """Remove the run."""
    permit_run("delete", thread_id, run_id)
    current.service().delete(thread_id, run_id)
    return Response(status=HTTPStatus.NO_CONTENT)


def _permit_join(thread_id: str | None, run_id: str, cancel_on_disconnect: bool) -> None:
    permit_run("read", thread_id, run_id)
    if cancel_on_disconnect:
        permit_run("update", thread_id, run_id, action="interrupt")


def _idempotency(kind: str, key: str | None) -> tuple[str | None, str]:
    """The request's key, apart from the same key with another path; and the body's fingerprint."""
    if key is None:
        return None, ""
    return f"{kind} {key}" if kind else key, g.fingerprint


def _asked(
    body: Values, idempotency_key: str | None, thread_id: str | None = None, kind: str = ""
) -> RunRequest:
    key, fingerprint = _idempotency(kind, idempotency_key)
    return RunRequest(
        **body,
        thread_id=thread_id,
        **said_by_headers(),
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
    ids, document, replayed = current.service().start_in_background(asked)
    g.thread_id, g.run_id = ids
    location = {"Content-Location": here(f"/threads/{g.thread_id}/runs/{g.run_id}")}
    return Response(
        document, mimetype="application/json", headers={**location, **_replayed(replayed)}
    )


def _headers(follower: Follower, joined_by: str, replayed: bool) -> dict[str, str]:
    g.thread_id, g.run_id = follower.thread_id, follower.run_id
    run = here(f"/threads/{follower.thread_id}/runs/{follower.run_id}")
    # Whoever joined as they wanted and is cut off goes there, and wants the same.
    query = urlencode([*request.args.items(multi=True)]) if request.method == "GET" else ""
    return {
        "Location": f"{run}/{joined_by}{query and '?'}{query}",
        "Content-Location": run,
        **_replayed(replayed),
    }


def _replayed(replayed: bool) -> dict[str, str]:
    return {"Idempotency-Replayed": "true"} if replayed else {}
