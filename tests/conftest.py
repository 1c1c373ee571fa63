"""Fixtures of tests across processes."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck

from runwait.storage import connection
from runwait.storage.connection import Storage
from tests import warm
from tests.e2e.calls import Gate
from tests.servers import PATIENCE, VERSION, VERSIONS, RedisServer

hypothesis.settings.register_profile(
    "at any speed",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
hypothesis.settings.load_profile("at any speed")


def pytest_configure(config: pytest.Config) -> None:
    """Import once what the servers of all of pytest's processes need."""
    if config.getoption("numprocesses", None):
        warm.share()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have Python's collector leave alone what lives as long as all tests: it is a lot."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def storages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cuts off every storage that a test starts, so that it can do nothing to later tests."""
    started: list[Storage] = []
    start = Storage.start

    def noted(storage: Storage) -> None:
        started.append(storage)
        start(storage)

    monkeypatch.setattr(Storage, "start", noted)
    yield
    for each in started:
        with each._changed:
            each._connect_all = threading.Event().wait  # type: ignore[method-assign, assignment]
            each._up.clear()
            while each._idle:
                each._idle.pop().disconnect()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], RedisServer]]:
    """A server of a version, the same one for all tests of this process."""
    servers: dict[str, RedisServer] = {}

    def get(version: str) -> RedisServer:
        if version not in servers:
            folder = tmp_path_factory.mktemp(version)
            server = RedisServer(folder, version)
            server.start()
            server.client.config_set("appendonly", "no")
            servers[version] = server
        return servers[version]

    yield get
    for each in servers.values():
        each.stop()


@pytest.fixture(scope="session", params=VERSIONS)
def any_redis(request: pytest.FixtureRequest, running: Callable[[str], RedisServer]) -> RedisServer:
    """The embedded Valkey, the machine's own Redis, and the oldest Redis that will do.

    Shared by tests, and not empty: each uses keys of its own.
    """
    return running(request.param)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has storages wait longer than in service, where a machine may be slow but no Redis away."""
    monkeypatch.setattr(connection, "WAIT_SECONDS", 10.0)


@pytest.fixture
def shared_valkey(running: Callable[[str], RedisServer], patient: None) -> RedisServer:
    """A Valkey that is empty. Tests share it: they leave its process and its settings alone."""
    server = running(VERSION)
    server.client.flushall()
    return server


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[RedisServer]:
    """A Valkey of the test's own, for tests that stop it, or change its settings."""
    folder = tmp_path / "valkey"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    yield server
    # Not in an orderly way: while one writes its first append-only file it refuses to end.
    server.kill()


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
