"""JSON-RPC 2.0 over HTTP: what MCP and A2A have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import Response

from runwait.api import errors
from runwait.api.errors import InvalidRequest
from runwait.api.request import json_body
from runwait.auth.errors import AuthBusy, AuthFailed, Refused
from runwait.serialization import dumps

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

Place = str | int | None
"""The id of a request; None where it is not known."""


class RpcError(Exception):
    """What a request is answered with in place of a result; the text is its message."""

    def __init__(
        self, code: int, message: str, data: Any = None, status: int = HTTPStatus.OK
    ) -> None:
        super().__init__(message)
        self.code = code
        self.data = data
        self.status = status


@dataclass(frozen=True)
class Call:
    """A request, or (without an id) a notification."""

    method: str
    params: dict[str, Any]
    id: Place

    def result(self, value: Mapping[str, Any]) -> Response:
        """The answer to it."""
        return Response(message(self.id, "result", dumps(value)), mimetype="application/json")


def serve(answer: Callable[[Call], Response], check: Callable[[], None] | None = None) -> Response:
    """Answer the request.

    Args:
        answer: the answer to what its body asks; what it raises is the answer then.
        check: raises what is wrong with the request before its body is read.

    Raises:
        Refused, AuthFailed, AuthBusy: the caller may not; told as elsewhere.
    """
    place = None
    try:
        if check is not None:
            check()
        try:
            body = json_body()
        except InvalidRequest as error:
            raise RpcError(PARSE_ERROR, str(error), status=HTTPStatus.BAD_REQUEST) from None
        given = body.get("id") if isinstance(body, dict) else None
        place = given if type(given) in (str, int) else None
        return answer(_call(body, place))
    except (Refused, AuthFailed, AuthBusy):
        raise
    except Exception as error:
        return problem(place, error)


def _call(body: Any, place: Place) -> Call:
    if isinstance(body, list):
        raise _invalid("a batch is not supported: send one request at a time")
    if not isinstance(body, dict) or body.get("jsonrpc") != "2.0":
        raise _invalid('must be an object with "jsonrpc": "2.0"')
    method, params = body.get("method"), body.get("params", {})
    if "id" in body and place is None:
        raise _invalid("id: must be a string or an integer")
    if not isinstance(method, str):
        raise _invalid("method: must be a string")
    if not isinstance(params, dict):
        raise RpcError(INVALID_PARAMS, "params: must be an object")
    return Call(method, params, place)


def problem(place: Place, error: Exception) -> Response:
    """The answer where there is no result: an RpcError, or any other error as it is described."""
    if not isinstance(error, RpcError):
        status, text = errors.described(error)
        code = INVALID_PARAMS if status < HTTPStatus.INTERNAL_SERVER_ERROR else INTERNAL_ERROR
        # Of what could not even be read no request is known, that the answer could be to.
        told = code == INTERNAL_ERROR or place is None
        error = RpcError(code, text, status=status if told else HTTPStatus.OK)
    response = Response(error_message(place, error), error.status, mimetype="application/json")
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(errors.RETRY_AFTER_SECONDS)
    return response


def error_message(place: Place, error: RpcError) -> bytes:
    """An error as it is sent."""
    data = {} if error.data is None else {"data": error.data}
    return message(place, "error", dumps({"code": error.code, "message": str(error), **data}))


def message(place: Place, name: str, value: bytes) -> bytes:
    """A result or an error as it is sent, of its JSON."""
    return b'{"jsonrpc":"2.0","id":%b,"%b":%b}' % (dumps(place), name.encode(), value)


def _invalid(text: str) -> RpcError:
    return RpcError(INVALID_REQUEST, text, status=HTTPStatus.BAD_REQUEST)
