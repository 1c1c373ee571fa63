"""What the tests of scripts share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.servers import RedisServer


@pytest.fixture
def redis_server(any_redis: RedisServer, patient: None) -> RedisServer:
    """A server that is empty, of each version in turn. Tests share it, as `shared_valkey`."""
    any_redis.client.flushall()
    return any_redis


@pytest.fixture
def configure(any_redis: RedisServer) -> Iterator[Callable[[str, int], None]]:
    """Changes a setting of the server, for this test."""
    before: dict[str, str] = {}

    def change(name: str, value: int) -> None:
        before.update(any_redis.client.config_get(name))  # type: ignore[arg-type]
        any_redis.client.config_set(name, value)

    yield change
    for name, value in before.items():
        any_redis.client.config_set(name, value)
