"""Errors at the edge: every one is answered with `{"detail": "<string>"}`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus

from flask import Flask, Response, jsonify
from werkzeug.exceptions import BadHost, HTTPException

from runwait.api.edge import here
from runwait.assistants.assistants import (
    AssistantExists,
    GraphNotFound,
    GraphNotMade,
    SystemAssistant,
    TwoContexts,
)
from runwait.auth.errors import AuthBusy, AuthFailed, Refused
from runwait.crons.crons import CronBusy
from runwait.graphs.assistants import AssistantNotFound, UnknownGraph
from runwait.runs.admission import (
    ConflictingRequest,
    KeyInFlight,
    KeyReused,
    UnfitRequest,
)
from runwait.runs.events import NoRoom, RunNotFound
from runwait.runs.protocol.commands import NoSuchInterrupt
from runwait.runs.resume import NothingToResume
from runwait.storage.assistants import VersionNotFound
from runwait.storage.checkpoint import Fenced, StateLost
from runwait.storage.connection import StorageUnavailable
from runwait.storage.crons import CronNotFound
from runwait.storage.embedding import EmbeddingFailed, EmbeddingTimedOut
from runwait.storage.events import ForgottenEvent, UnknownEvent
from runwait.storage.records import UnreadableRecord
from runwait.storage.store import InvalidQuery, StoreBusy, UnstorableItem
from runwait.storage.threads import ThreadBusy, ThreadExists, ThreadNotFound
from runwait.threads.compatibility import StateIncompatible
from runwait.threads.states import CheckpointNotFound, NoGraph, UpdateRefused
from runwait.webhooks.targets import WebhookRefused

log = logging.getLogger("runwait.requests")

# A client that is told there is no room may come again after so many seconds.
RETRY_AFTER_SECONDS = 1
FAULT = "a fault in the service; its log says more"
FAULT_BODY = b'{"detail":"%b"}\n' % FAULT.encode()


class InvalidRequest(Exception):
    """The request does not say what can be done; the text names every problem."""


class BrokenRequest(Exception):
    """The request did not arrive whole."""


class BodyTooLarge(Exception):
    """The request's body is larger than a body may be."""


class WebhookNotFound(Exception):
    """No webhook of this run is to be delivered."""


# The status of each, and its text as the detail has it.
_ANSWERS: dict[type[Exception], tuple[HTTPStatus, str]] = {
    BadHost: (HTTPStatus.BAD_REQUEST, "Host: must be a host name"),
    BrokenRequest: (HTTPStatus.BAD_REQUEST, "{}"),
    ConflictingRequest: (HTTPStatus.BAD_REQUEST, "{}"),
    AssistantNotFound: (HTTPStatus.NOT_FOUND, "{}"),
    RunNotFound: (HTTPStatus.NOT_FOUND, "run {} not found"),
    NothingToResume: (HTTPStatus.CONFLICT, "{}"),
    NoSuchInterrupt: (HTTPStatus.CONFLICT, "{}"),
    BodyTooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "{}"),
    InvalidRequest: (HTTPStatus.UNPROCESSABLE_ENTITY, "{}"),
    UnknownGraph: (HTTPStatus.UNPROCESSABLE_ENTITY, "{}"),
    UnfitRequest: (HTTPStatus.UNPROCESSABLE_ENTITY, "{}"),
    KeyReused: (HTTPStatus.UNPROCESSABLE_ENTITY, "{}"),
    WebhookNotFound: (HTTPStatus.NOT_FOUND, "no webhook of run {} is to be delivered"),
    WebhookRefused: (HTTPStatus.UNPROCESSABLE_ENTITY, "webhook: {}"),
    AuthBusy: (HTTPStatus.SERVICE_UNAVAILABLE, "{}"),
    NoRoom: (HTTPStatus.SERVICE_UNAVAILABLE, "{}"),
    StorageUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "{}"),
    InvalidQuery: (HTTPStatus.UNPROCESSABLE_ENTITY, "{}"),
    UnstorableItem: (HTTPStatus.UNPROCESSABLE_ENTITY, "{}"),
    EmbeddingFailed: (HTTPStatus.BAD_GATEWAY, "{}"),
    EmbeddingTimedOut: (HTTPStatus.GATEWAY_TIMEOUT, "{}"),
    StoreBusy: (HTTPStatus.SERVICE_UNAVAILABLE, "{}"),
    ThreadNotFound: (HTTPStatus.NOT_FOUND, "thread {} not found"),
    ThreadExists: (HTTPStatus.CONFLICT, "thread {} exists already"),
    ThreadBusy: (HTTPStatus.CONFLICT, "thread {} is busy"),
    Fenced: (HTTPStatus.CONFLICT, "the thread was changed at the same time: {}"),
    StateLost: (HTTPStatus.CONFLICT, "{}"),
    TwoContexts: (HTTPStatus.BAD_REQUEST, "{}"),
    GraphNotMade: (HTTPStatus.BAD_REQUEST, "{}"),
    SystemAssistant: (HTTPStatus.FORBIDDEN, "{}"),
    GraphNotFound: (HTTPStatus.NOT_FOUND, "{}"),
    VersionNotFound: (HTTPStatus.NOT_FOUND, "{}"),
    AssistantExists: (HTTPStatus.CONFLICT, "{}"),
    CheckpointNotFound: (HTTPStatus.NOT_FOUND, "{}"),
    NoGraph: (HTTPStatus.BAD_REQUEST, "{}"),
    CronNotFound: (HTTPStatus.NOT_FOUND, "cron {} not found"),
    CronBusy: (HTTPStatus.CONFLICT, "cron {} is changed by others at the same time"),
    StateIncompatible: (HTTPStatus.CONFLICT, "{}"),
    UpdateRefused: (HTTPStatus.UNPROCESSABLE_ENTITY, "{}"),
    UnknownEvent: (HTTPStatus.UNPROCESSABLE_ENTITY, "Last-Event-ID: run {} has no such event"),
    UnreadableRecord: (HTTPStatus.INTERNAL_SERVER_ERROR, "{}"),
}


def problems(found: list[tuple[str, str]]) -> str:
    """One readable line from problems: the path of each field, and what it must be."""
    return "; ".join(f"{path}: {text}" for path, text in found)


def register(app: Flask) -> None:
    """Have the app answer what its views raise."""
    for kind, (status, text) in _ANSWERS.items():
        app.register_error_handler(kind, _handler(status, text))
    app.register_error_handler(KeyInFlight, _in_flight)
    app.register_error_handler(ForgottenEvent, _forgotten)
    app.register_error_handler(Refused, _refused)
    app.register_error_handler(AuthFailed, _auth_failed)
    app.register_error_handler(HTTPException, of_http)
    app.register_error_handler(Exception, fault)
    app.after_request(_without_type)


def described(error: Exception) -> tuple[int, str]:
    """The status of an error, and the text that clients are told; a fault's is in the log alone."""
    for kind in type(error).__mro__:
        if kind in _ANSWERS:
            status, text = _ANSWERS[kind]
            return status, text.format(error)
    log.error("fault", exc_info=error)
    return HTTPStatus.INTERNAL_SERVER_ERROR, FAULT


def _handler(status: HTTPStatus, text: str) -> Callable[[Exception], Response]:
    return lambda error: refusal(status, text.format(error))


def refusal(status: int, detail: str) -> Response:
    """The answer to what is not done, with this status and reason."""
    response = jsonify(detail=detail)
    response.status_code = status
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _in_flight(error: KeyInFlight) -> Response:
    response = refusal(HTTPStatus.CONFLICT, str(error))
    response.headers["Location"] = here(f"/threads/{error.thread_id}/runs/{error.run_id}/join")
    return response


def _forgotten(error: ForgottenEvent) -> Response:
    first = "none is kept" if error.first is None else f"the first that is kept is {error.first}"
    detail = f"Last-Event-ID: that event is not kept any more; {first}; -1 begins with it"
    return refusal(HTTPStatus.GONE, detail)


def _refused(error: Refused) -> Response:
    response = refusal(error.status, str(error))
    response.headers.update(error.headers)
    return response


def _auth_failed(error: AuthFailed) -> Response:
    log.error("%s", error, exc_info=error.__cause__)
    return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "who may do this could not be found out")


def of_http(error: HTTPException) -> Response:
    """Flask's own errors: no such path, no such method."""
    response = refusal(error.code or HTTPStatus.INTERNAL_SERVER_ERROR, error.name)
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


def _without_type(response: Response) -> Response:
    """What has no body has no type of a body either."""
    if response.status_code in (HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT):
        response.headers.pop("Content-Type", None)
    return response


def fault(error: BaseException) -> Response:
    """The answer to a request that failed as none should; the log has the traceback."""
    log.error("fault", exc_info=error)
    return Response(FAULT_BODY, HTTPStatus.INTERNAL_SERVER_ERROR, mimetype="application/json")
