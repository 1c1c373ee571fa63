"""The user's own app, beside the API: `http.app` of langgraph.json.

It is asked for paths that the API does not have, so that it can hide none of them, after all else
that each request goes through: who calls, logging, the headers for other origins. It may be any
WSGI app, a Flask Blueprint, or with the extra `asgi` an ASGI app. What it raises is an error of its
own request, and its slow answers keep none of the threads that answer for the API.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Any, cast

from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import HTTPException, NotFound

from runwait.api import current, errors
from runwait.api.own_asgi import CANCEL, FAULT, OfAsgi
from runwait.api.request import whole_body
from runwait.api.stream import Stream
from runwait.graphs.config import GraphLoadError, LanggraphConfig
from runwait.graphs.loader import load_object
from runwait.logs import about
from runwait.options.http import HttpOptions

log = logging.getLogger("runwait.requests")

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# Requests that it may be answering at once, each on a thread of its own.
OWN_AT_ONCE = 100
# Answers of a known length up to this are sent whole; in bytes.
WHOLE_BYTES = 1 << 20
# What may wait to be sent of any other.
AHEAD_BYTES = 1 << 20


def own_app(config: LanggraphConfig, options: HttpOptions) -> App | None:
    """The user's app as a WSGI app; None if there is none.

    Raises:
        GraphLoadError: it cannot be imported, or is no such app.
    """
    if options.app is None:
        return None
    found = load_object(config, "http.app", options.app)
    if isinstance(found, Blueprint):
        app = Flask(found.import_name)
        app.register_blueprint(found)
        found = app
    if isinstance(found, Flask):
        _answer_errors(found)
    elif inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(
        getattr(found, "__call__", None)  # noqa: B004
    ):
        try:
            import a2wsgi  # noqa: F401
        except ImportError:
            problem = "is an ASGI app, which takes one more package: pip install 'runwait[asgi]'"
            raise GraphLoadError(config.path, "http.app", problem) from None
        return OfAsgi(found, config.path)
    if not callable(found):
        raise GraphLoadError(config.path, "http.app", f"{options.app} is no WSGI or ASGI app")
    return cast(App, found)


def start(app: Flask) -> None:
    """Have the user's own app begin its lifespan, if it is an ASGI app: in the process that serves.

    Raises:
        GraphLoadError: it says that it cannot start.
    """
    if isinstance(own := app.extensions.get("own_app"), OfAsgi):
        own.start()


def stop(app: Flask, seconds: float) -> None:
    """Have that end, in so many seconds."""
    if isinstance(own := app.extensions.get("own_app"), OfAsgi):
        own.stop(seconds)


def is_asked() -> bool:
    """Whether the request is for the user's own app: there is one, and the API has no such path."""
    if not isinstance(request.routing_exception, NotFound):
        return False
    return current.http().app is not None


def register(app: Flask, own: App) -> None:
    """Have the app ask the user's own for paths that it lacks."""
    room = threading.BoundedSemaphore(OWN_AT_ONCE)
    app.extensions["own_app"] = own

    def ask(error: NotFound) -> Response:
        if request.routing_exception is not error:
            return errors.of_http(error)
        try:
            body = whole_body()
        except errors.BodyTooLarge as refused:
            return errors.refusal(413, str(refused))
        except errors.BrokenRequest as refused:
            return errors.refusal(400, str(refused))
        if not room.acquire(blocking=False):
            problem = f"{OWN_AT_ONCE} requests of the server's own paths are being answered"
            return errors.refusal(503, problem)
        return _ask(own, body, room.release)

    app.register_error_handler(NotFound, ask)


def _ask(own: App, body: bytes, done: Callable[[], None]) -> Response:
    """What the app answers to the request; `done` is called once it has."""
    environ = {name: each for name, each in request.environ.items() if "werkzeug" not in name}
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    # An error that it gives up at comes from here, so that it is logged with the request.
    answer = _Answer(own, environ, done)
    try:
        answer.begin()
        if not answer.has_body or (answer.is_short and not answer.is_of_asgi):
            whole = b"".join(answer)
            answer.check_length(len(whole))
            answer.close()
            # As a list: a response of bytes says their length itself, which of HEAD is not 0.
            return Response([whole], answer.status, answer.headers)
        return Relay(answer).response_of()
    except BaseException as error:  # SystemExit too: it ends a thread, and nobody would answer
        answer.close()
        return errors.fault(error)


class _Answer:
    """An answer of a WSGI app (PEP 3333)."""

    def __init__(self, app: App, environ: dict[str, Any], done: Callable[[], None]) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self._app = app
        self._environ = environ
        self._done = done
        self._written: deque[bytes] = deque()
        self._body: Iterable[bytes] = ()
        self._rest: Iterator[bytes] = iter(())
        self._closing = threading.Lock()
        self._ended = False

    def begin(self) -> None:
        """Call the app, until it has said the status and the headers."""
        self._body = self._app(self._environ, self._start)
        self._rest = iter(self._body)
        while not self.status:
            try:
                self._written.append(next(self._rest))
            except StopIteration:
                break
        if not self.status:
            raise RuntimeError("http.app ended without an answer")

    def _start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None and self.status:
            raise exc_info[1].with_traceback(exc_info[2])
        self.status, self.headers = status, list(headers)
        return self._written.append

    @property
    def length(self) -> int | None:
        """How long its body is, as far as it says so."""
        given = [value for name, value in self.headers if name.lower() == "content-length"]
        return int(given[0]) if given and given[0].isdecimal() else None

    @property
    def has_body(self) -> bool:
        """Whether it can have one."""
        is_head = self._environ["REQUEST_METHOD"] == "HEAD"
        return not is_head and self.status[:3] not in ("204", "304")

    @property
    def is_short(self) -> bool:
        """Whether it says that its body is no long one."""
        return self.length is not None and self.length <= WHOLE_BYTES

    @property
    def is_of_asgi(self) -> bool:
        """Whether an ASGI app makes it, which may go on in the background once it is made."""
        return CANCEL in self._environ

    def check_length(self, sent: int) -> None:
        """Raise ValueError if it is not as long as it says.

        The client would take the next answer on its connection for the rest of this one.
        """
        if self.has_body and self.length not in (None, sent):
            raise ValueError(f"Content-Length is {self.length}, and the body has {sent} bytes")

    def __iter__(self) -> Iterator[bytes]:
        while self._written:
            yield self._written.popleft()
        for piece in self._rest:
            yield piece
            while self._written:  # by the callable of old, while it made a piece
                yield self._written.popleft()
        if (error := self._environ.get(FAULT)) is not None:
            raise error

    def close(self, *, early: bool = False) -> None:
        """It is over; early: nobody wants the rest."""
        with self._closing:
            if self._ended:
                return
            self._ended = True
        try:
            if early and (cancel := self._environ.get(CANCEL)):
                cancel()
            if hasattr(self._body, "close"):
                self._body.close()
        except Exception:
            log.exception("fault in http.app, after its answer")
        finally:
            self._done()


class Relay(Stream):
    """A body that the user's app makes, piece by piece, on the thread of its request.

    It waits where the client takes less than it makes.
    """

    def __init__(self, answer: _Answer) -> None:
        """Prepare."""
        self._answer = answer
        self._changed = threading.Condition()
        self._pieces: list[bytes] = []
        self._ahead = 0
        self._wake: Callable[[], None] = lambda: None
        self._on_close: Callable[[], None] = lambda: None
        self._closed = False
        self._all_made = False
        self._failed = False
        self._request_id = g.request_id
        self.is_whole = False
        self.is_cut = False

    def response_of(self) -> Response:
        """The response that has this body."""
        return self._passed_on(status=self._answer.status, headers=self._answer.headers)

    def take(self) -> list[bytes]:
        """What there is to be sent by now, and was not taken before."""
        with self._changed:
            pieces, self._pieces, self._ahead = self._pieces, [], 0
            self.is_whole, self.is_cut = self._all_made, self._failed
            self._changed.notify_all()
        return pieces

    def listen(self, wake: Callable[[], None]) -> None:
        """Have `wake` called whenever there is something to be taken."""
        self._wake = wake

    def go_on(self) -> None:
        """Have the app make all of it."""
        early, sent = True, 0
        about.set({"request_id": self._request_id})
        try:
            for piece in self._answer:
                if not isinstance(piece, bytes):
                    raise TypeError(f"a piece of the body is {type(piece).__name__}, not bytes")
                if self._all_made:
                    continue  # what it still does is none of the client's business
                sent += len(piece)
                with self._changed:
                    self._changed.wait_for(lambda: self._ahead < AHEAD_BYTES or self._closed)
                    if self._closed:
                        return
                    self._pieces.append(piece)
                    self._ahead += len(piece)
                    self._all_made = sent == self._answer.length
                self._wake()
            early = False
            self._answer.check_length(sent)
            self._all_made = True
        except BaseException as error:
            log.error("fault in http.app, in its answer", exc_info=error)
            self._failed = True
        finally:
            self._answer.close(early=early)
            about.set({})
            self._wake()

    def client_gone(self) -> None:
        """The client closed its connection: the next piece is the last that is made."""

    def delivered(self) -> None:
        """All was sent."""

    def close(self) -> None:
        """The response is over, however it went. May be called again."""
        with self._changed:
            was, self._closed = self._closed, True
            self._changed.notify_all()
        if not was:
            self._on_close()
            del self._on_close  # which has this body

    def __iter__(self) -> Iterator[bytes]:
        with contextlib.closing(self._answer):
            yield from self._answer


def _answer_errors(own: Flask) -> None:
    """Have a Flask app answer errors as the API does, as far as it has no answers of its own."""
    handlers = own.error_handler_spec[None]
    if HTTPException not in handlers[None]:
        own.register_error_handler(HTTPException, errors.of_http)
    if Exception not in handlers[None] and not handlers[500]:
        own.register_error_handler(Exception, errors.fault)


def described(own: App) -> dict[str, Any]:
    """What the user's own app has, as an OpenAPI document: by its `openapi`, as FastAPI's have one;
    of a Flask app each route, with its docstring; of any other nothing."""
    if isinstance(own, Flask):
        return {"paths": _paths(own)}
    says = getattr(own, "openapi", None)
    said = says() if callable(says) else {}
    return said if isinstance(said, dict) else {}


def _paths(own: Flask) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for rule in own.url_map.iter_rules():
        about = inspect.getdoc(own.view_functions[rule.endpoint]) or rule.endpoint
        operation = {
            "operationId": rule.endpoint.replace(".", "_"),
            "summary": " ".join(about.partition("\n\n")[0].split()),
            "parameters": [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in sorted(rule.arguments)
            ],
            "responses": {"default": {"description": "As the app has it."}},
        }
        path = paths.setdefault(re.sub(r"<(?:[^<>:]+:)?(\w+)>", r"{\1}", rule.rule), {})
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            path[method.lower()] = {
                **operation,
                "operationId": f"{operation['operationId']}_{method.lower()}",
            }
    return paths
