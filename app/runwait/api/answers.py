"""Answers with a body of JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Response

from runwait.serialization import dumps


def answer(value: Any) -> Response:
    """A value as JSON, also where it holds what the standard library does not write."""
    return Response(dumps(value), mimetype="application/json")


def page(items: Sequence[Any], total: int, following: int | None) -> Response:
    """A page of what was found: how many there are in all, and where the next page begins."""
    response = answer(items)
    response.headers["X-Pagination-Total"] = str(total)
    if following is not None:
        response.headers["X-Pagination-Next"] = str(following)
    return response
