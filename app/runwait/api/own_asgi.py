"""An ASGI app as the WSGI app that `own_routes` asks, with the extra `asgi`.

a2wsgi has it answer requests, on an event loop of its own. Its lifespan is on the same loop, so
that its requests can use what it opens there.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runwait.api import errors
from runwait.graphs.config import GraphLoadError

if TYPE_CHECKING:
    from a2wsgi import ASGIMiddleware

log = logging.getLogger("runwait.requests")

# What such an answer leaves in its WSGI environment: how it is ended early, and what it raised.
CANCEL = "runwait.cancel"
FAULT = "runwait.fault"
_VERSION = {"version": "3.0", "spec_version": "2.0"}


class OfAsgi:
    """An ASGI app as a WSGI app, which still says what it has, if it does so as FastAPI's do.

    Attributes:
        openapi: the app's own, if it has one.
    """

    def __init__(self, app: Any, file: Path) -> None:
        """Prepare; its loop and its thread start with it.

        Args:
            app: the ASGI app.
            file: langgraph.json, for errors.
        """
        self.openapi: Callable[[], Any] | None = getattr(app, "openapi", None)
        self._app = app
        self._file = file
        self._starting = threading.Lock()
        self._made: ASGIMiddleware | None = None
        self._state: dict[str, Any] = {}
        self._stopping = asyncio.Event()
        self._stopped: Future[None] | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        answer: Iterable[bytes] = self.start()(environ, start_response)
        return answer

    def start(self) -> Any:
        """Begin its lifespan, if it was not begun, and wait until it is ready.

        Raises:
            GraphLoadError: it says that it cannot start; the cause is what it raised.
        """
        with self._starting:
            if self._made is None:
                from a2wsgi import ASGIMiddleware

                made = ASGIMiddleware(self._answer)
                begun = Future[None]()
                self._stopped = asyncio.run_coroutine_threadsafe(self._live(begun), made.loop)
                try:
                    begun.result()
                except BaseException as error:
                    reason = f"its lifespan raised {type(error).__name__}: {error}"
                    raise GraphLoadError(self._file, "http.app", reason) from error
                self._made = made
            return self._made

    def stop(self, seconds: float) -> None:
        """Have its lifespan end, and wait for that, so long at most."""
        if self._made is None or self._stopped is None:
            return
        self._made.loop.call_soon_threadsafe(self._stopping.set)
        try:
            self._stopped.result(seconds)
        except TimeoutError:
            log.warning("the lifespan of http.app did not end in time")

    async def _live(self, begun: Future[None]) -> None:
        """The app's lifespan, as ASGI has it. One that raises an Exception without having said
        that it failed has none."""
        events = ["lifespan.startup"]
        failed: str | None = None

        async def receive() -> dict[str, Any]:
            if not events:
                await self._stopping.wait()
                return {"type": "lifespan.shutdown"}
            return {"type": events.pop()}

        async def send(message: Any) -> None:
            nonlocal failed
            if message["type"] == "lifespan.startup.complete":
                begun.set_result(None)
            elif message["type"] == "lifespan.startup.failed":
                failed = message.get("message") or "no reason given"

        raised: BaseException | None = None
        try:
            scope = {"type": "lifespan", "asgi": _VERSION, "state": self._state}
            await self._app(scope, receive, send)
        except BaseException as error:  # SystemExit too: it would end the loop
            raised = error
        if begun.done():
            if raised is not None:
                log.error("fault in http.app, at the end of its lifespan", exc_info=raised)
        elif failed is not None or not isinstance(raised, Exception | None):
            begun.set_exception(raised or RuntimeError(failed))
        else:
            begun.set_result(None)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        scope["state"] = self._state.copy()
        # a2wsgi leaves an app for good whose client goes away.
        scope["wsgi_environ"][CANCEL] = lambda: task and loop.call_soon_threadsafe(task.cancel)
        begun, held = False, list[Any]()

        async def pass_on(message: Any) -> None:
            # Frameworks answer what was raised with a page, and raise it again.
            nonlocal begun
            if held or message.get("status") == 500:
                held.append(message)
                return
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, pass_on)
            if not (begun or held):
                raise RuntimeError("http.app ended without an answer")
        except Exception as error:
            if begun:
                # a2wsgi may take what is there for all of it.
                scope["wsgi_environ"][FAULT] = error
                raise
            log.error("fault in http.app", exc_info=error)
            body = errors.FAULT_BODY
            headers = [(b"content-type", b"application/json")]
            length = (b"content-length", str(len(body)).encode())
            held[:] = [
                {"type": "http.response.start", "status": 500, "headers": [*headers, length]},
                {"type": "http.response.body", "body": body},
            ]
        for message in held:
            await send(message)
