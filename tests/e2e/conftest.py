"""Servers: of a test's own, of a module, and the zoo of all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import warm
from tests.servers import PROJECTS, RedisServer, Server, ServerFactory


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[RedisServer]:
    """A Valkey of the test's own, empty, to do to it what may befall one."""
    server = _valkey(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[ServerFactory]:
    """Starts servers with these settings, and ends them with the test."""
    servers: list[Server] = []

    def start(
        *, started: bool = True, command: Sequence[str] | None = None, **environment: Any
    ) -> Server:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        server = Server(folder, _texts(environment), command)
        servers.append(server)
        if started:
            server.start()
        else:
            server.launch()
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerFactory]:
    """Starts servers that tests of a module leave as they are, each with a Valkey of its own."""
    servers: list[Server] = []

    def start(*, command: Sequence[str] | None = None, **environment: Any) -> Server:
        servers.append(_with_valkey(tmp_path_factory.mktemp("shared"), command, **environment))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
        server.valkey.kill()


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers that serve tests/projects/zoo, shared by tests that leave them as they are."""
    server = _with_valkey(
        tmp_path_factory.mktemp("zoo"),
        LANGGRAPH_CONFIG=PROJECTS / "zoo" / "langgraph.json",
        HEARTBEAT_SECONDS=0.2,
        LOG_LEVEL="DEBUG",
    )
    yield server
    server.kill()
    server.valkey.kill()


def _valkey(folder: Path) -> RedisServer:
    (folder / "valkey").mkdir()
    valkey = RedisServer(folder / "valkey")
    valkey.start()
    return valkey


def _with_valkey(folder: Path, command: Sequence[str] | None = None, **environment: Any) -> Server:
    valkey = _valkey(folder)
    # Nobody does anything to this Valkey.
    given = {**environment, "REDIS_URL": valkey.url, warm.PATIENT: 1}
    server = Server(folder, _texts(given), command)
    server.valkey = valkey
    server.start()
    return server


def _texts(environment: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in environment.items()}
