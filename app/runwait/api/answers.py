"""Answers with a body of JSON, or a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flask import Response, request, send_file

from runwait.serialization import dumps


def answer(value: Any) -> Response:
    """A value as JSON, also where it holds what the standard library does not write."""
    return Response(dumps(value), mimetype="application/json")


def file(path: Path, max_age: int | None = None) -> Response:
    """A file, which a client may take for current for `max_age` seconds; None: it has to ask."""
    response = send_file(path, max_age=max_age, etag=False, conditional=False)
    response.direct_passthrough = False  # the server would close it, and nobody log the request
    response.add_etag()  # of what is in it: its time is that of its installation
    response.make_conditional(request)
    return response


def page(items: Sequence[Any], total: int, following: int | None) -> Response:
    """A page of what was found: how many there are in all, and where the next page begins."""
    response = answer(items)
    response.headers["X-Pagination-Total"] = str(total)
    if following is not None:
        response.headers["X-Pagination-Next"] = str(following)
    return response
