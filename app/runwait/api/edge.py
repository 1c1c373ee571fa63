"""Where requests come from and where the service is: proxies, a prefix, pages of other origins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from flask import Flask, Response, request
from flask_cors import CORS
from werkzeug.exceptions import NotFound
from werkzeug.middleware.proxy_fix import ProxyFix

from runwait.options.http import Cors, HttpOptions
from runwait.settings import FORWARDED, Settings

# What the SDKs read of an answer, which pages may not without being told that they may.
EXPOSED = (
    *("Content-Location", "Idempotency-Replayed", "Location", "Retry-After"),
    *("X-Pagination-Next", "X-Pagination-Total", "X-Request-ID"),
)
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_FORWARDED = frozenset(f"HTTP_X_FORWARDED_{name.upper()}" for name in FORWARDED)
_OUTSIDE = "runwait.outside"


class Api(Flask):
    """A Flask app without the paths of the API that are turned off."""

    def __init__(self, options: HttpOptions) -> None:
        """Make one that has no paths yet."""
        self._options = options
        super().__init__("runwait", static_folder=None)

    def ensure_sync(self, func: Any) -> Any:
        """Called for each function of each request: none of the API's is asynchronous."""
        return func

    def add_url_rule(self, rule: str, *arguments: Any, **options: Any) -> None:
        """Called for each path of each blueprint."""
        if self._options.has(rule):
            super().add_url_rule(rule, *arguments, **options)


def register(app: Flask, settings: Settings, options: HttpOptions) -> None:
    """Have the app be where its settings say, and answer pages of other origins.

    Before whatever else looks at requests: who is asked whether he may call does not say who he is.
    """
    if options.prefix:
        _mount(app, options.prefix)
    if hops := settings.forwarded_hops:
        trusted = {f"x_{name}": hops for name in settings.forwarded_headers}
        none = {"x_for": 0, "x_proto": 0}
        fixed = ProxyFix(app.wsgi_app, **{**none, **trusted})

        def forwarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            # A quote that a client opens would take in what the proxies add behind it.
            for name in _FORWARDED & environ.keys():
                environ[name] = environ[name].replace('"', "")
            return fixed(environ, start_response)

        app.wsgi_app = forwarded  # type: ignore[method-assign]
    if options.cors is not None:
        _allow_origins(app, options.cors)


def here(path: str) -> str:
    """A path of the API as the client has to ask for it."""
    root = quote(request.script_root.strip("/"), safe="/~")
    # One slash, as two would begin with a host.
    return f"/{root}{path}" if root else path


def _mount(app: Flask, prefix: str) -> None:
    """Have all paths below the prefix; /ok also where it always is, for who looks after health."""
    inner = app.wsgi_app

    def mounted(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        # Not the prefix alone: a page there would look for its files beside it.
        if path.startswith(f"{prefix}/") and not path.startswith(f"{prefix}//"):
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "").rstrip("/") + prefix
            environ["PATH_INFO"] = path[len(prefix) :]
        elif path != "/ok":
            environ[_OUTSIDE] = True
        return inner(environ, start_response)

    app.wsgi_app = mounted  # type: ignore[method-assign]
    app.before_request(_refuse_outside)


def _refuse_outside() -> None:
    if request.environ.get(_OUTSIDE):
        raise NotFound


def _allow_origins(app: Flask, cors: Cors) -> None:
    # Flask-Cors takes a text for a pattern if it looks like one, and a pattern's match at its
    # beginning for one of all of it.
    any_origin = "*" in cors.origins
    exact = [re.escape(each) for each in cors.origins]
    patterns = exact + ([cors.origin_regex] if cors.origin_regex else [])
    app.before_request(_answer_preflight)
    CORS(
        app,
        origins="*" if any_origin else [_whole(each, re.IGNORECASE) for each in patterns],
        methods=cors.methods or [*METHODS],
        allow_headers="*"
        if "*" in cors.headers
        else [_whole(re.escape(each), re.IGNORECASE) for each in cors.headers],
        expose_headers=sorted({*EXPOSED, *cors.expose}),
        supports_credentials=cors.credentials,
        max_age=cors.max_age,
        send_wildcard=any_origin,
        always_send=False,
        # Only those that are allowed would get it.
        vary_header=False,
        # after_request, which is all that is left then, sees to each answer.
        intercept_exceptions=False,
    )
    if not any_origin:
        app.after_request(_vary)


def _vary(response: Response) -> Response:
    """Tell caches that pages of another origin, or none, may get another answer."""
    response.headers.add("Vary", "Origin")
    return response


def _whole(pattern: str, flags: re.RegexFlag) -> Any:
    return re.compile(rf"(?:{pattern})\Z", flags)


def _answer_preflight() -> Response | None:
    """Answer a browser that asks whether it may send a request: it does not send who asks."""
    asks = "Origin" in request.headers and "Access-Control-Request-Method" in request.headers
    return Response(status=204) if request.method == "OPTIONS" and asks else None
