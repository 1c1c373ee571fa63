"""`make instructions`: what a request for a run costs the processor, a stage at a time.

callgrind counts instructions: of two runs they differ by a hundredth or two, however busy the
machine is, where seconds differ by half. It needs Debian's package valgrind. What the kernel and
Valkey do is not counted, nor what it costs that several threads want Python's lock.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import logging.config
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from benchmarks.servers import ROOT, VALUE
from runwait.server import embedded

BODY = json.dumps({"assistant_id": "echo", "input": VALUE}).encode()
HEAD = b"POST /runs/wait HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
REQUEST = b"%bContent-Length: %d\r\n\r\n%b" % (HEAD, len(BODY), BODY)
WARMING, COUNT = 20, 40
_FOLDER = "RUNWAIT_INSTRUCTIONS"
_TOTAL = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)


def main() -> None:
    """Count and print; in a process of its own, under callgrind."""
    if folder := os.environ.get(_FOLDER):
        code = 1
        try:
            _count(Path(folder))
            sys.stdout.flush()
            code = 0
        finally:
            # Not sys.exit: threads of the service would be waited for.
            embedded.stop()
            os._exit(code)
    with tempfile.TemporaryDirectory() as made:
        environment = {
            **os.environ,
            _FOLDER: made,
            "DATA_DIR": f"{made}/data",
            "PROMETHEUS_MULTIPROC_DIR": made,
            "LANGGRAPH_CONFIG": str(ROOT / "benchmarks" / "langgraph.json"),
            "LOG_FORMAT": "json",
        }
        environment.pop("REDIS_URL", None)
        options = ("--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={made}/count")
        python = (sys.executable, "-m", "benchmarks.instructions")
        subprocess.run(
            ["valgrind", "-q", *options, *python],
            env=environment,
            stderr=subprocess.DEVNULL,
            check=True,
        )


def _count(folder: Path) -> None:
    from benchmarks.bare_app import app as bare
    from benchmarks.graph import graph
    from runwait import create_app
    from runwait.logs import config_for
    from runwait.settings import Settings

    settings = Settings.from_env()
    settings.enter_project()
    logging.config.dictConfig(config_for(settings))
    embedded.start(folder / "data", lambda line: None)
    app = create_app(settings)
    runwait = app.extensions["runwait"]
    runwait.start()
    service: Any = runwait.service

    def stream() -> None:
        for _ in graph.stream(VALUE, stream_mode=["updates", "values"]):
            pass

    def counted(name: str, work: Callable[[], object], without: float = 0) -> float:
        found = _instructions(work, folder)
        print(f"| {name:58} | {found:6,.0f} | {found - without:6,.0f} |", flush=True)
        return found

    print(f"| {'Thousands of instructions of user space':58} | Whole  | Adds   |")
    print("|---|---|---|")
    graphs = counted("LangGraph: `graph.stream`, as a run is executed", stream)
    counted("LangGraph: `graph.invoke`", lambda: graph.invoke(cast(Any, VALUE)))
    counted("A bare Flask route that calls `graph.invoke`", lambda: _called(bare), graphs)
    # On the thread that calls, as it is on a request's; no other is counted then.
    service._executor._pool = _Inline()
    finish, level = service._records.finish, logging.root.manager.disable
    service._records.finish = lambda *_, **__: True
    logging.disable()
    found = counted("Runwait: Flask, admission, execution, ending", lambda: _called(app), graphs)
    logging.disable(level)
    found = counted("... with its two log lines", lambda: _called(app), found)
    service._records.finish = finish
    found = counted("... with its record in Redis", lambda: _called(app), found)
    counted("... with gunicorn's parser and response", _handled(app), found)


class _Inline:
    """In place of a pool of threads."""

    def submit_or_put_off(self, work: Callable[[], object]) -> None:
        work()


def _instructions(work: Callable[[], object], folder: Path) -> float:
    """The thousands of instructions that something takes, after it was done some times."""
    for _ in range(WARMING):
        work()
    before = set(folder.glob("count.*"))
    _control("-i", "on")
    _control("-z")
    for _ in range(COUNT):
        work()
    _control("-d")
    _control("-i", "off")
    (dump,) = [
        text
        for each in set(folder.glob("count.*")) - before
        if (text := each.read_text(errors="replace")) and _TOTAL.search(text)
    ][:1]
    total = _TOTAL.search(dump)
    assert total is not None
    return int(total[1]) / COUNT / 1000


def _control(*arguments: str) -> None:
    command = ["callgrind_control", *arguments, str(os.getpid())]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _called(app: Any) -> None:
    """Have a WSGI application answer a request."""
    environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/runs/wait",
        "QUERY_STRING": "",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(BODY)),
        "HTTP_HOST": "localhost",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(BODY),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    body = app(environ, lambda *_: None)
    assert json.loads(b"".join(body)) == VALUE
    if hasattr(body, "close"):
        body.close()


def _handled(app: Any) -> Callable[[], None]:
    """What has the same application answer what came on a connection."""
    from gunicorn.config import Config

    from runwait.server.arrival import Arrival, Limits
    from runwait.server.connections import Connection, Connections, Handler, Rules

    worker = SimpleNamespace(cfg=Config(), count_request=lambda: False)
    handler = Handler(worker, app)
    limits = Limits(100_000, 8190, 1 << 20)
    rules = Rules(limits, 60, 60, connections=10)
    loop = asyncio.new_event_loop()
    every = Connections(rules, 60, loop, cast(Any, None), handler)

    class Client:
        """In place of a client's socket."""

        sent = 0

        def fileno(self) -> int:
            return sys.stderr.fileno()

        def send(self, data: bytes) -> int:
            self.sent += 1
            assert data.startswith(b"HTTP/1.1 200")
            return len(data)

    loop.add_reader = lambda *_: None  # type: ignore[method-assign]
    client = Client()
    connection = Connection(every, cast(Any, client), ("127.0.0.1", 1), ("127.0.0.1", 80))

    def handle() -> None:
        before = client.sent
        arrival = Arrival(limits)
        arrival.feed(REQUEST)
        handler(connection, arrival)
        assert client.sent == before + 1

    return handle


if __name__ == "__main__":
    main()
