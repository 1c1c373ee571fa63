"""Errors at the edge: every one is answered with `{"detail": "<string>"}`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus

from flask import Flask, Response, jsonify
from werkzeug.exceptions import BadHost, HTTPException

from app.graphs.assistants import AssistantNotFound, UnknownGraph
from app.runs.service import (
    ConflictingRequest,
    NoRoom,
    NotSupported,
    RunNotFound,
    UnfitRequest,
)
from app.runs.webhooks import WebhookRefused
from app.storage.connection import StorageUnavailable

log = logging.getLogger("runwait.requests")

# A client that is told there is no room may come again after so many seconds.
RETRY_AFTER_SECONDS = 1


class InvalidRequest(Exception):
    """The request does not say what can be done; the text names every problem."""


class BrokenRequest(Exception):
    """The request did not arrive whole."""


class BodyTooLarge(Exception):
    """The request's body is larger than a body may be."""


# The status of each, and its text as the detail has it.
_ANSWERS: dict[type[Exception], tuple[HTTPStatus, str]] = {
    BadHost: (HTTPStatus.BAD_REQUEST, "Host: must be a host name"),
    BrokenRequest: (HTTPStatus.BAD_REQUEST, "{}"),
    ConflictingRequest: (HTTPStatus.BAD_REQUEST, "{}"),
    AssistantNotFound: (HTTPStatus.NOT_FOUND, "{}"),
    RunNotFound: (HTTPStatus.NOT_FOUND, "run {} not found"),
    BodyTooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "{}"),
    InvalidRequest: (HTTPStatus.UNPROCESSABLE_ENTITY, "{}"),
    UnknownGraph: (HTTPStatus.UNPROCESSABLE_ENTITY, "{}"),
    UnfitRequest: (HTTPStatus.UNPROCESSABLE_ENTITY, "{}"),
    WebhookRefused: (HTTPStatus.UNPROCESSABLE_ENTITY, "webhook: {}"),
    NotSupported: (HTTPStatus.NOT_IMPLEMENTED, "{}"),
    NoRoom: (HTTPStatus.SERVICE_UNAVAILABLE, "{}"),
    StorageUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "{}"),
}


def problems(found: list[tuple[str, str]]) -> str:
    """One readable line from problems: the path of each field, and what it must be."""
    return "; ".join(f"{path}: {text}" for path, text in found)


def register(app: Flask) -> None:
    """Have the app answer what its views raise."""
    for kind, (status, text) in _ANSWERS.items():
        app.register_error_handler(kind, _handler(status, text))
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _fault)


def _handler(status: HTTPStatus, text: str) -> Callable[[Exception], Response]:
    return lambda error: _answer(status, text.format(error))


def _answer(status: int, detail: str) -> Response:
    response = jsonify(detail=detail)
    response.status_code = status
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _http(error: HTTPException) -> Response:
    """Flask's own errors: no such path, no such method."""
    response = _answer(error.code or HTTPStatus.INTERNAL_SERVER_ERROR, error.name)
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


def _fault(error: Exception) -> Response:
    log.error("fault", exc_info=error)
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault in the service; its log says more")
