"""How many requests a caller may make: RATE_LIMIT, counted by the library `limits` in Redis."""

from __future__ import annotations

import logging
import math
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Flask, Response, request

from runwait.api import errors
from runwait.api.auth import caller, everybody_may
from runwait.storage.connection import StorageUnavailable

if TYPE_CHECKING:
    from limits.storage import Storage

log = logging.getLogger("runwait.requests")


def register(app: Flask, limit: str, counters: Storage) -> None:
    """Have the app answer 429 to who asks too often, in all processes together.

    Who that is says the key or the user, or without these the address. Where Redis is away, nobody
    is held up for that: runs are served without it, too.

    Args:
        app: the app.
        limit: such as 100/minute; several with ; between.
        counters: where they are counted.
    """
    from limits import parse_many
    from limits.strategies import FixedWindowRateLimiter

    limiter, items = FixedWindowRateLimiter(counters), parse_many(limit)

    def check() -> Response | None:
        if everybody_may():
            return None
        user = caller()
        who = ("user", user.identity) if user else ("address", request.remote_addr or "")
        try:
            for item in items:
                if not limiter.hit(item, *who):
                    left = limiter.get_window_stats(item, *who).reset_time - time.time()
                    return _too_many(str(item), max(1, math.ceil(left)))
        except StorageUnavailable as error:
            log.debug("requests are not counted: %s", error)
        return None

    app.before_request(check)


def _too_many(limit: str, seconds: int) -> Response:
    response = errors.refusal(HTTPStatus.TOO_MANY_REQUESTS, f"more requests than {limit}")
    response.headers["Retry-After"] = str(seconds)
    return response
