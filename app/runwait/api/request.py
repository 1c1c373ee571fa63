"""Reading requests: the body, the ids in the path, the request's own id."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any
from uuid import uuid4

from flask import Flask, current_app, g, request
from werkzeug.exceptions import ClientDisconnected, MethodNotAllowed

from runwait.api import current
from runwait.api.errors import BodyTooLarge, BrokenRequest, InvalidRequest, problems
from runwait.api.json_body import InvalidJSON, parse
from runwait.graphs.assistants import is_uuid

# Of assistants there may be a graph's name in place of the id.
_IDS = ("thread_id", "run_id", "checkpoint_id", "cron_id")
# What is safe in a log and in any header.
_REQUEST_ID = re.compile(r"[\x20-\x7e]{1,255}")


def json_body() -> Any:
    """The request's body, parsed; the Content-Type does not matter.

    Raises:
        BodyTooLarge, BrokenRequest: see whole_body.
        InvalidRequest: it is not JSON.
    """
    raw = whole_body()
    if "Idempotency-Key" in request.headers:
        g.fingerprint = sha256(raw).hexdigest()
    try:
        return parse(raw)
    except InvalidJSON as error:
        raise InvalidRequest(f"the body is not JSON as it must be: {error}") from None


def whole_body() -> bytes:
    """The request's body.

    Raises:
        BodyTooLarge: it is larger than MAX_REQUEST_BYTES.
        BrokenRequest: it breaks off, or its chunks are not well formed.
    """
    most = current.settings().max_request_bytes
    reason = f"the body is larger than {most} bytes, which MAX_REQUEST_BYTES allows"
    too_large = BodyTooLarge(reason)
    length = request.content_length
    if length is not None and length > most:
        raise too_large
    # One more, since Werkzeug takes so many bytes of a longer chunked body for all of it.
    request.max_content_length = most + 1
    try:
        raw = request.get_data(cache=False)
    except ClientDisconnected:
        raise BrokenRequest("the body breaks off") from None
    except Exception as error:
        # gunicorn has many errors of its own for this.
        raise BrokenRequest(f"the body is badly chunked: {error}") from error
    if len(raw) > most:
        raise too_large
    if length is not None and len(raw) < length:
        raise BrokenRequest(f"the body breaks off after {len(raw)} of {length} bytes")
    return raw


def register(app: Flask) -> None:
    """Have the app refuse requests without a host, or whose path names ids that are no UUIDs."""
    app.before_request(_check_host)
    app.before_request(_check_ids)


def _check_host() -> None:
    """Raise BrokenRequest unless it names a host, as RFC 9112 has it since HTTP/1.1."""
    if "Host" not in request.headers and request.environ["SERVER_PROTOCOL"] == "HTTP/1.1":
        raise BrokenRequest("Host: is missing")


def _check_ids() -> None:
    """Raise InvalidRequest unless all ids in the path are UUIDs; views get them in lower case."""
    if isinstance(refused := request.routing_exception, MethodNotAllowed):
        refused.valid_methods = _methods() or refused.valid_methods
    given = request.view_args or {}
    ids = {name: given[name] for name in _IDS if name in given}
    if bad := [name for name, each in ids.items() if not is_uuid(each)]:
        if methods := _methods():
            raise MethodNotAllowed(methods)
        raise InvalidRequest(problems([(name, "must be a UUID") for name in bad]))
    given.update((name, each.lower()) for name, each in ids.items())


def _methods() -> list[str]:
    """The methods of the path; a word of its own in it, as in /threads/search, is no id."""
    adapter = current_app.create_url_adapter(request)
    assert adapter is not None
    return [
        method
        for method in sorted(adapter.allowed_methods())
        if all(
            is_uuid(each) for name, each in adapter.match(method=method)[1].items() if name in _IDS
        )
    ]


def said_by_headers() -> dict[str, Any]:
    """What a RunRequest has of the request: its id, its trace, who calls, some headers."""
    return {
        "request_id": g.request_id,
        "trace": g.get("trace", {}),
        "headers": current.http().configurable_headers.of(request.headers),
        "user": g.get("caller"),
    }


def request_id() -> str:
    """The request's X-Request-ID; one made for it, if there is none or it is no such text."""
    given = request.headers.get("X-Request-ID", "")
    return given if _REQUEST_ID.fullmatch(given) else str(uuid4())
