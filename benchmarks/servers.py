"""What is measured, started: gunicorn servers, the embedded Valkey, and clients that ask them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from runwait.server import embedded
from runwait.storage.connection import AnyScript, Storage

ROOT = Path(__file__).resolve().parent.parent
RUNWAIT = (sys.executable, "-m", "runwait.cli", "serve")
BARE = (sys.executable, "-m", "gunicorn", "-c", "benchmarks/bare_gunicorn.py")
# More than there are workers, so that each has run the graph before it counts.
WARMING = 50
# Clients that rush a server, and for how many seconds a round.
CLIENTS = 8
SECONDS = 3.0
VALUE = {"value": {"a": 1, "b": "x"}}


def earlier(checkout: Path) -> tuple[str, ...]:
    """The command of an earlier version, of which this is a checkout with its packages."""
    python = str(checkout / ".venv" / "bin" / "python")
    if (checkout / "config" / "work.py").exists():  # 0.2 and before
        return python, "-m", "gunicorn", "-c", "config/gunicorn.py", "wsgi:app"
    return python, "-m", "runwait.cli", "serve"


@dataclass(frozen=True)
class Server:
    """A gunicorn that serves.

    Attributes:
        port: where.
        process_id: of the master.
        redis_url: of its embedded Valkey.
    """

    port: int
    process_id: int
    redis_url: str

    def connect(self) -> http.client.HTTPConnection:
        """A new connection; it opens with the first request."""
        return http.client.HTTPConnection("127.0.0.1", self.port)


def body(graph: str, **fields: Any) -> bytes:
    """A request's body."""
    return json.dumps({"assistant_id": graph, "input": VALUE, **fields}).encode()


def ask(connection: http.client.HTTPConnection, content: bytes, path: str = "/runs/wait") -> float:
    """Have a graph run once that answers with its input; the seconds it took.

    Raises:
        RuntimeError: the answer is wrong.
    """
    began = time.perf_counter()
    connection.request("POST", path, content, {"Content-Type": "application/json"})
    answer = connection.getresponse().read()
    took = time.perf_counter() - began
    if json.loads(answer) != VALUE:
        raise RuntimeError(f"a wrong answer: {answer!r}")
    return took


def rush(server: Server, ask_once: Callable[[http.client.HTTPConnection], object]) -> float:
    """How often a second all clients get done what each does on a connection of its own."""
    deadline = time.perf_counter() + SECONDS
    counts = [0] * CLIENTS

    def work(number: int) -> None:
        connection = server.connect()
        while time.perf_counter() < deadline:
            ask_once(connection)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / SECONDS


async def asked(
    server: Server, method: str, path: str, content: bytes = b""
) -> AsyncIterator[bytes]:
    """Ask on a connection of its own; the lines of the body, with what is between them."""
    # An answer may be a single line of some MB.
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 26)
    writer.write(
        b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
        % (method.encode(), path.encode(), len(content), content)
    )
    await reader.readuntil(b"\r\n\r\n")
    async for line in reader:
        yield line
    writer.close()


def ratio(ours: Sequence[float], base: Sequence[float]) -> float:
    """How many times the base, each round by itself: the median over the rounds."""
    return statistics.median(mine / its for mine, its in zip(ours, base, strict=True))


@contextlib.contextmanager
def served(
    command: Sequence[str] = RUNWAIT, folder_of: Path = ROOT, **settings: object
) -> Iterator[Server]:
    """A server of two workers, until the block ends.

    Args:
        command: what starts it.
        folder_of: where it is started.
        settings: environment variables.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {
            **os.environ,
            "PORT": str(port),
            "WEB_CONCURRENCY": "2",
            "DATA_DIR": str(folder / "data"),
            "LANGGRAPH_CONFIG": str(ROOT / "benchmarks" / "langgraph.json"),
            "LOG_FORMAT": "json",
        }
        environment.pop("REDIS_URL", None)
        environment |= {name: str(value) for name, value in settings.items()}
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=folder_of,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        server = Server(port, process.pid, embedded.url(folder / "data"))
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    for _ in range(WARMING):
                        ask(server.connect(), body("echo"))
                    break
                except ConnectionError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(log.read_text()) from None
                    time.sleep(0.1)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@contextlib.contextmanager
def stored() -> Iterator[tuple[Storage, redis.Redis]]:
    """The embedded Valkey alone, until the block ends: as the service reaches it, and a client."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        embedded.start(folder, print)
        try:
            storage = Storage(embedded.url(folder), 1)
            storage.start()
            with redis.Redis.from_url(embedded.url(folder)) as client:
                yield storage, client
        finally:
            embedded.stop()


class Loading:
    """Stands in for `Storage` where much is to be stored: sends many calls at once.

    Every call is answered, before it is sent, with what is given here.
    """

    def __init__(self, client: redis.Redis, answer: Any) -> None:
        self._client = client
        self._answer = answer
        # What is loaded here is never late.
        self.clock = None
        self._known: set[str] = set()
        self._pipeline = client.pipeline(transaction=False)

    def __enter__(self) -> Loading:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipeline.execute()

    def call(
        self, script: AnyScript, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """Have a script run later."""
        if script.sha not in self._known:
            self._client.script_load(script.text)
            self._known.add(script.sha)
        given = [each(60.0) if callable(each) else each for each in args]
        self._pipeline.evalsha(script.sha, len(keys), *keys, *given)
        if len(self._pipeline) >= 1000:
            self._pipeline.execute()
        return self._answer
