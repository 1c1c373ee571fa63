"""What tests ask of a server over and over."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tests.servers import PATIENCE, Server

# Long enough to outlast any test: for runs that a test stops itself.
FOREVER = {"n": 100_000, "seconds": 0.05}
UNLIMITED = {"recursion_limit": 1_000_000}


def post(
    server: Server, assistant_id: str, headers: dict[str, str] | None = None, **fields: Any
) -> httpx.Response:
    """The answer to POST /runs/wait; the input is `{}` unless it is among the fields."""
    body = {"assistant_id": assistant_id, "input": {}, **fields}
    return server.http.post("/runs/wait", json=body, headers=headers)


def output(server: Server, assistant_id: str, **fields: Any) -> Any:
    """The document of a run."""
    response = post(server, assistant_id, **fields)
    assert response.status_code == 200, response.text
    return response.json()


def detail(response: httpx.Response, status: int) -> str:
    """Why a request was refused, with this status."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    (name,) = response.json()
    assert name == "detail"
    text = response.json()["detail"]
    assert isinstance(text, str)
    return text


def bad_fields(response: httpx.Response) -> list[str]:
    """The paths of the fields that a 422 names."""
    return [each.partition(": ")[0] for each in detail(response, 422).split("; ")]


@contextlib.contextmanager
def begun(
    server: Server, assistant_id: str, base_url: str | None = None, **fields: Any
) -> Iterator[httpx.Response]:
    """A run whose answer's headers are here, on a connection that ends with the `with`."""
    body = {"assistant_id": assistant_id, "input": {}, **fields}
    url = f"{base_url or server.url}/runs/wait"
    with httpx.stream("POST", url, json=body, timeout=PATIENCE) as response:
        assert response.status_code == 200
        yield response


@contextlib.contextmanager
def joined(
    server: Server, response: httpx.Response, base_url: str | None = None, **query: str
) -> Iterator[httpx.Response]:
    """A join of the run that a response names, like `begun`."""
    url = f"{base_url or server.url}{response.headers['Location']}"
    with httpx.stream("GET", url, params=query, timeout=PATIENCE) as answer:
        assert answer.status_code == 200
        yield answer


def read_newlines(chunks: Iterator[bytes], number: int) -> None:
    """Wait for so many newlines, and have nothing else come first."""
    received = b""
    while len(received) < number:
        received += next(chunks)
    assert not received.strip()


def document(response: httpx.Response) -> Any:
    """The document of a streamed answer, once it is there."""
    response.read()
    return response.json()


def fresh_get(server: Server, path: str) -> httpx.Response:
    """GET on a connection of its own, so that whichever worker is free takes it."""
    return httpx.get(server.url + path, timeout=PATIENCE)


def run_of(server: Server, response: httpx.Response) -> dict[str, Any]:
    """The record of the run that a response names."""
    answer = fresh_get(server, response.headers["Content-Location"])
    assert answer.status_code == 200, answer.text
    record: dict[str, Any] = answer.json()
    return record


@contextlib.contextmanager
def only(server: Server, worker: int) -> Iterator[None]:
    """Pauses all workers but one, which therefore takes every connection made meanwhile."""
    others = [pid for pid in server.workers() if pid != worker]
    try:
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


class Gate:
    """Holds up a run of `sleep_sync` until the test lets it go on.

    The graph notes its progress in a file. Where that is a pipe that nobody reads, opening it
    blocks.
    """

    def __init__(self, folder: Path) -> None:
        self.path = Path(tempfile.mkdtemp(dir=folder)) / "gate"
        self.reader: int | None = None

    def __enter__(self) -> Gate:
        os.mkfifo(self.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.open()
        assert self.reader is not None
        os.close(self.reader)

    @property
    def input(self) -> dict[str, Any]:
        """The input of the run to hold up."""
        return {"seconds": 0, "file": str(self.path)}

    def open(self) -> None:
        """Let the run go on."""
        if self.reader is None:
            self.reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
            # What the graph notes later goes to a file.
            self.path.unlink()
