"""Errors at the edge: every one is answered with `{"detail": "<string>"}`."""

from __future__ import annotations

import errno
import logging
from http import HTTPStatus

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from app.graphs.assistants import AssistantNotFound, UnknownGraph
from app.graphs.context import ContextError
from app.runs.executor import UnknownNode
from app.runs.service import ConflictingRequest, NoRoom, NotSupported, RunNotFound
from app.runs.webhooks import WebhookRefused
from app.storage.connection import StorageUnavailable

log = logging.getLogger("runwait.requests")

# A client that is told there is no room may come again after so many seconds.
RETRY_AFTER_SECONDS = 1


class InvalidRequest(Exception):
    """The request does not say what can be done; the text names every problem."""


class BrokenRequest(Exception):
    """The request did not arrive whole."""


def problems(found: list[tuple[str, str]]) -> str:
    """One readable line from problems: the path of each field, and what it must be."""
    return "; ".join(f"{path}: {text}" for path, text in found)


def register(app: Flask) -> None:
    """Have the app answer what its views raise."""
    for kind, status in _STATUS.items():
        app.register_error_handler(kind, _answer_with(status))
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(RunNotFound, lambda error: _answer(404, f"run {error} not found"))
    app.register_error_handler(ContextError, lambda error: _answer(422, problems(error.problems)))
    app.register_error_handler(
        WebhookRefused, lambda error: _answer(422, problems([("webhook", str(error))]))
    )
    app.register_error_handler(Exception, _fault)


_STATUS: dict[type[Exception], int] = {
    AssistantNotFound: HTTPStatus.NOT_FOUND,
    UnknownGraph: HTTPStatus.UNPROCESSABLE_ENTITY,
    ConflictingRequest: HTTPStatus.BAD_REQUEST,
    BrokenRequest: HTTPStatus.BAD_REQUEST,
    InvalidRequest: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnknownNode: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotSupported: HTTPStatus.NOT_IMPLEMENTED,
    NoRoom: HTTPStatus.SERVICE_UNAVAILABLE,
    StorageUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}


def _answer(status: int, detail: str) -> Response:
    response = jsonify(detail=detail)
    response.status_code = status
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _answer_with(status: int):  # type: ignore[no-untyped-def]
    return lambda error: _answer(status, str(error))


def _http(error: HTTPException) -> Response:
    response = _answer(error.code or 500, error.description or error.name)
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _fault(error: Exception) -> Response:
    if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.ECONNRESET):
        return _answer(400, "the connection broke")
    log.exception("fault")
    return _answer(500, "a fault in the service; its log says more")
