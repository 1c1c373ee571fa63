"""LangGraph's own test suite for checkpointers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import redis.asyncio
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES
from langgraph.checkpoint.conformance.initializer import checkpointer_test
from langgraph.checkpoint.conformance.validate import validate

from runwait.storage.checkpoint import ClientRunner, RedisSaver
from tests.servers import RedisServer


class Synchronous(RedisSaver):
    """Its methods for event loops call the others."""

    async def aput(self, *args: Any, **kwargs: Any) -> RunnableConfig:
        return self.put(*args, **kwargs)

    async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
        self.put_writes(*args, **kwargs)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self.get_tuple(config)

    async def alist(self, *args: Any, **kwargs: Any) -> AsyncIterator[CheckpointTuple]:
        for each in self.list(*args, **kwargs):
            yield each

    async def adelete_thread(self, thread_id: str) -> None:
        self.delete_thread(thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str], **kwargs: Any) -> None:
        self.delete_for_runs(run_ids, **kwargs)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self.copy_thread(source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self.prune(thread_ids, strategy=strategy)


@pytest.mark.parametrize("kind", [RedisSaver, Synchronous])
def test_all_capabilities_pass(
    kind: type[RedisSaver], any_redis: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server: Any = any_redis.client.info("server")
    version = server.get("valkey_version", server["redis_version"])

    @checkpointer_test(name=f"{kind.__name__} on {any_redis.folder.name} {version}")
    async def make() -> AsyncIterator[RedisSaver]:
        async with redis.asyncio.Redis.from_url(any_redis.url) as aclient:
            prefix = f"conformance-{uuid.uuid4().hex}"
            yield kind(ClientRunner(any_redis.client, aclient), prefix=prefix)

    report = asyncio.run(validate(make))

    with capsys.disabled():
        report.print_report()
    assert {name: found.failures for name, found in report.results.items()} == {
        capability.value: [] for capability in ALL_CAPABILITIES
    }
    assert all(found.passed and found.tests_passed for found in report.results.values())
    assert report.conformance_level() == "FULL"
