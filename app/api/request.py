"""Reading requests: the body, the ids in the path, the headers, the query."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

from flask import current_app, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from app.api import clients
from app.api.errors import BrokenRequest, InvalidRequest, problems
from app.api.json_body import InvalidJSON, parse
from app.graphs.assistants import is_uuid

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_KEY = re.compile(r'"(?P<quoted>[\x21\x23-\x7e]{1,255})"|(?P<bare>[\x21\x23-\x7e]{1,255})')


def json_body() -> Any:
    """The request's body, parsed; the Content-Type does not matter.

    Raises:
        InvalidRequest: it is not JSON.
        BrokenRequest: it breaks off, or its chunks are not well formed.
        RequestEntityTooLarge: it is larger than a body may be.
    """
    try:
        raw = request.get_data(cache=False)
    except (RequestEntityTooLarge, ClientDisconnected):
        raise
    except Exception as error:
        # gunicorn has errors of its own for a body that cannot be read.
        raise BrokenRequest(f"the body cannot be read: {error}") from error
    expected = request.content_length
    if expected is not None and len(raw) < expected:
        raise BrokenRequest(f"the body breaks off after {len(raw)} of {expected} bytes")
    arrived()
    try:
        return parse(raw)
    except InvalidJSON as error:
        raise InvalidRequest(f"the body is not JSON as it must be: {error}") from None


def arrived() -> None:
    """The request is here whole: its time limit no longer counts."""
    connection = clients.socket_of(request.environ)
    if connection is not None:
        current_app.extensions["runwait"].deadlines.arrived(connection.fileno())


def check_ids(**ids: str) -> None:
    """Raise InvalidRequest unless all of them are UUIDs."""
    if bad := [(name, "must be a UUID") for name, each in ids.items() if not is_uuid(each)]:
        raise InvalidRequest(problems(bad))


def query_flag(name: str) -> bool:
    """A boolean from the query: true, false, 1 or 0; false if it is not there."""
    given = request.args.get(name, "false")
    try:
        return _BOOLEANS[given]
    except KeyError:
        raise InvalidRequest(
            problems([(name, f"must be one of: {', '.join(_BOOLEANS)}")])
        ) from None


def request_id() -> str:
    """The request's X-Request-ID, or one made for it."""
    return request.headers.get("X-Request-ID") or str(uuid4())


def idempotency_key() -> str | None:
    """The Idempotency-Key header: 1 to 255 visible ASCII characters, quoted or bare."""
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return None
    found = _KEY.fullmatch(given.strip())
    if found is None:
        raise InvalidRequest(
            problems([("Idempotency-Key", "must be 1 to 255 visible ASCII characters")])
        )
    return found["quoted"] or found["bare"]
