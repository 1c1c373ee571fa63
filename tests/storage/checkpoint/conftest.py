"""What the tests of the checkpointer share."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis.asyncio

from runwait.storage.checkpoint import ClientRunner, RedisSaver
from tests.servers import RedisServer


class CountingRunner(ClientRunner):
    """Counts the calls, each of which is a round trip."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__(server.client)
        self.url = server.url
        self.calls = 0
        # How many times each call is sent.
        self.sends = 1

    def call(self, script: Any, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        self.calls += 1
        for _ in range(self.sends - 1):
            super().call(script, keys, args)
        return super().call(script, keys, args)

    async def acall(
        self, script: Any, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        self.calls += 1
        # A client belongs to one event loop, and a test may have several.
        async with redis.asyncio.Redis.from_url(self.url) as aclient:
            runner = ClientRunner(aclient=aclient)
            for _ in range(self.sends - 1):
                await runner.acall(script, keys, args)
            return await runner.acall(script, keys, args)


@pytest.fixture
def runner(any_redis: RedisServer) -> CountingRunner:
    """Runs scripts on each kind of server in turn."""
    return CountingRunner(any_redis)


@pytest.fixture
def saver(runner: CountingRunner) -> RedisSaver:
    """A saver with keys of its own."""
    return RedisSaver(runner, prefix=f"test-{uuid.uuid4().hex}")


Contents = dict[str, Any]


@pytest.fixture
def contents(any_redis: RedisServer, saver: RedisSaver) -> Callable[..., Contents]:
    """Reads all that Redis holds for the saver, or for one of its threads, by names of keys."""
    client: Any = any_redis.client
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"zset": lambda key: client.zrange(key, 0, -1),
    }

    def read(thread: str | None = None, *, without: Sequence[str] = ("fence",)) -> Contents:
        start = f"{saver.prefix}:" + (f"{{{thread}}}:" if thread is not None else "")
        return {
            key.decode().removeprefix(start): readers[client.type(key)](key)
            for key in sorted(client.scan_iter(match=f"{start}*", count=1000))
            if key.decode().rpartition(":")[2] not in without
        }

    return read
