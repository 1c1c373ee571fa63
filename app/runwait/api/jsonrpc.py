"""JSON-RPC 2.0 over HTTP: what MCP and A2A have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import Response

from runwait.api import errors
from runwait.api.answers import answer
from runwait.api.errors import InvalidRequest
from runwait.api.request import json_body
from runwait.auth.errors import AuthBusy, AuthFailed, Refused
from runwait.serialization import dumps

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603


class RpcError(Exception):
    """What a request is answered with in place of a result; the text is its message.

    Attributes:
        place: the id of the request, where that is known and nothing else of it.
    """

    place: str | int | None = None

    def __init__(
        self, code: int, message: str, data: Any = None, status: int = HTTPStatus.OK
    ) -> None:
        super().__init__(message)
        self.code = code
        self.data = data
        self.status = status
        # The request's id, where that is known although the request is none.
        self.place: str | int | None = None


@dataclass(frozen=True)
class Call:
    """A request, or (without an id) a notification."""

    method: str
    params: dict[str, Any]
    id: str | int | None


def call() -> Call:
    """The request's body.

    Raises:
        RpcError: it is none.
        BodyTooLarge, BrokenRequest: as `json_body` does.
    """
    try:
        body = json_body()
    except InvalidRequest as error:
        raise RpcError(PARSE_ERROR, str(error), status=HTTPStatus.BAD_REQUEST) from None
    place = body.get("id") if isinstance(body, dict) else None
    try:
        return _call(body)
    except RpcError as error:
        error.place = place if type(place) in (str, int) else None
        raise


def _call(body: Any) -> Call:
    if isinstance(body, list):
        raise _invalid("a batch is not supported: send one request at a time")
    if not isinstance(body, dict) or body.get("jsonrpc") != "2.0":
        raise _invalid('must be an object with "jsonrpc": "2.0"')
    method, params, place = body.get("method"), body.get("params", {}), body.get("id")
    if "id" in body and type(place) not in (str, int):
        raise _invalid("id: must be a string or an integer")
    try:
        if not isinstance(method, str):
            raise _invalid("method: must be a string")
        if not isinstance(params, dict):
            raise RpcError(INVALID_PARAMS, "params: must be an object")
    except RpcError as error:
        error.place = place
        raise
    return Call(method, params, place)


def result(place: str | int | None, value: Mapping[str, Any]) -> Response:
    """The answer to a request."""
    return answer({"jsonrpc": "2.0", "id": place, "result": value})


def problem(place: str | int | None, error: Exception) -> Response:
    """The answer where there is no result: an RpcError, or any other error as it is described.

    Raises:
        Refused, AuthFailed, AuthBusy: the error is that the caller may not; told as elsewhere.
    """
    if isinstance(error, Refused | AuthFailed | AuthBusy):
        raise error
    if not isinstance(error, RpcError):
        status, text = errors.described(error)
        code = INVALID_PARAMS if status < HTTPStatus.INTERNAL_SERVER_ERROR else INTERNAL_ERROR
        # Of what could not even be read no request is known, that the answer could be to.
        told = code == INTERNAL_ERROR or place is None
        error = RpcError(code, text, status=status if told else HTTPStatus.OK)
    place = error.place if place is None else place
    response = Response(error_message(place, error), mimetype="application/json")
    response.status_code = error.status
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(errors.RETRY_AFTER_SECONDS)
    return response


def error_message(place: str | int | None, error: RpcError) -> bytes:
    """An error as it is sent."""
    shown = {"code": error.code, "message": str(error)}
    if error.data is not None:
        shown["data"] = error.data
    return dumps({"jsonrpc": "2.0", "id": place, "error": shown})


def _invalid(text: str) -> RpcError:
    return RpcError(INVALID_REQUEST, text, status=HTTPStatus.BAD_REQUEST)
