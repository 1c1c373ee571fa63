"""What is measured, started: gunicorn servers, the embedded Valkey, and clients that ask them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from benchmarks.load import gives, load, post
from runwait.server import embedded
from runwait.storage.connection import AnyScript, Storage
from runwait.storage.urls import of_embedded

ROOT = Path(__file__).resolve().parent.parent
RUNWAIT = (sys.executable, "-m", "runwait.cli", "serve")
BARE = (sys.executable, "-m", "gunicorn", "-c", "benchmarks/bare_gunicorn.py")
# More than there are workers, so that each has run the graph before it counts.
WARMING = 50
# Clients that ask without a pause, and for how many seconds a round.
CLIENTS = 8
SECONDS = 3.0
# Between two looks at whether a server answers yet.
PAUSE = 0.02
VALUE = {"value": {"a": 1, "b": "x"}}


def earlier(checkout: Path) -> tuple[str, ...]:
    """The command of an earlier version, of which this is a checkout with its packages."""
    python = str(checkout / ".venv" / "bin" / "python")
    if (checkout / "config" / "work.py").exists():  # 0.2 and before
        return python, "-m", "gunicorn", "-c", "config/gunicorn.py", "wsgi:app"
    return python, "-m", "runwait.cli", "serve"


@dataclass(frozen=True)
class Server:
    """A server with its processes.

    Attributes:
        command, folder: what started it, and where.
        port: where it serves.
        process_id: of the first process, which for gunicorn is the master.
        redis_url: of its embedded Valkey.
        starting: seconds from its start to its first answer.
    """

    command: Sequence[str]
    folder: Path
    port: int
    process_id: int
    redis_url: str
    starting: float

    def processes(self) -> list[psutil.Process]:
        """All of them, its Valkey too."""
        first = psutil.Process(self.process_id)
        return [first, *first.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """Those that answer."""
        return [each for each in self.processes()[1:] if "valkey" not in each.name()]


def cpu(processes: Sequence[psutil.Process]) -> float:
    """Seconds of CPU that they have used."""
    return sum(used.user + used.system for used in (each.cpu_times() for each in processes))


def body(graph: str, **fields: Any) -> bytes:
    """A request's body."""
    return json.dumps({"assistant_id": graph, "input": VALUE, **fields}).encode()


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
    command: Sequence[str] = RUNWAIT,
    folder_of: Path = ROOT,
    warming: int = WARMING,
    **settings: object,
) -> Iterator[Server]:
    """A server of two workers, until the block ends.

    Args:
        command: what starts it; `{port}` in it becomes its port, as PORT of its environment is.
        folder_of: where it is started.
        warming: how many runs it has had by then.
        settings: environment variables; None: it has none of that name.
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
        settings = {"REDIS_URL": None, **settings}
        for name, value in settings.items():
            environment.pop(name, None)
            if value is not None:
                environment[name] = str(value)
        log = folder / "log"
        began = time.perf_counter()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [each.format(port=port) for each in command],
                cwd=folder_of,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            request = post("/runs/wait", {"assistant_id": "echo", "input": VALUE})
            while True:
                try:
                    load(port, request, gives(VALUE))
                    break
                except ConnectionError:
                    if process.poll() is not None or time.perf_counter() > began + 60:
                        raise RuntimeError(log.read_text()) from None
                    time.sleep(PAUSE)
            starting = time.perf_counter() - began
            # One after another: what comes at once makes threads, and those stay.
            for _ in range(warming - 1):
                load(port, request, gives(VALUE))
            redis_url = of_embedded(folder / "data")
            yield Server(command, folder_of, port, process.pid, redis_url, starting)
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
            storage = Storage(of_embedded(folder), 1)
            storage.start()
            with redis.Redis.from_url(of_embedded(folder)) as client:
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
