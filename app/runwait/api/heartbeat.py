"""The answer to a request that waits for a run: headers, newlines while it works, the document."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

from flask import Response

from runwait.api import clients
from runwait.runs.waits import Ended, Wait


def respond(
    wait: Wait, environ: dict[str, Any], watcher: clients.Watcher, pause: float
) -> Response:
    """A response that ends with the run's document.

    Args:
        wait: the client's wait; closed when the response is.
        environ: the WSGI environment of the request.
        watcher: notices the client going away.
        pause: seconds between newlines, which keep the connection from looking idle to
            routers and proxies; JSON parsers skip them.
    """
    run = f"/threads/{wait.thread_id}/runs/{wait.run_id}"
    headers = {
        "Location": f"{run}/join",
        "Content-Location": run,
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
    }
    if wait.replayed:
        headers["Idempotency-Replayed"] = "true"
    given = wait.document(0)
    connection = clients.socket_of(environ)
    if isinstance(given, bytes):
        # It is there already: one piece, with its length.
        headers["Content-Length"] = str(len(given))
        body = _whole(wait, given)
    else:
        body = _with_heartbeats(wait, given, connection, pause)
    response = Response(body, headers=headers, mimetype="application/json")
    if not isinstance(given, bytes) and connection is not None:
        # Not in the generator: where no body is asked for, it never starts.
        response.call_on_close(watcher.watch(connection, wait.client_gone))
    response.call_on_close(wait.close)
    return response


def _whole(wait: Wait, document: bytes) -> Iterator[bytes]:
    yield document
    wait.delivered()


def _with_heartbeats(
    wait: Wait, given: Ended | bytes | None, connection: socket.socket | None, pause: float
) -> Iterator[bytes]:
    if connection is not None:
        clients.end_with_reset(connection)
    try:
        yield b""  # gunicorn sends the headers with the first of the body, even if that is empty
        while given is None:
            given = wait.document(pause)
            if given is None:
                yield b"\n"
        if isinstance(given, Ended):
            # An answer without a document must not look whole.
            raise ConnectionResetError if connection is None else clients.reset(connection)
        yield given
    except GeneratorExit:
        # It could not be written, which may show before the watcher does.
        wait.client_gone()
        raise
    wait.delivered()
    if connection is not None:
        clients.end_as_usual(connection)
