"""What a step costs on threads of any length: storing a checkpoint and a task's writes.

Straight through the checkpointer, without LangGraph. What a round adds to a thread is rolled back
after it, so that the threads stay as long as they are said to be.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import redis
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base.id import uuid6

from benchmarks.servers import ratio, stored
from runwait.storage.checkpoint import RedisSaver

# Earlier checkpoints of a thread, and messages in a channel that the steps leave alone.
THREADS = {
    "10 checkpoints": (10, 0),
    "1,000 checkpoints": (1_000, 0),
    "10,000 checkpoints": (10_000, 0),
    "10, and 10,000 messages": (10, 10_000),
}
# Steps on each thread a round; and so many rounds for each that is asked for, as they are short.
STEPS = 20
ROUNDS = 4
TOKEN = 1


@dataclass
class Thread:
    """A thread that grows step by step."""

    saver: RedisSaver
    config: RunnableConfig
    values: dict[str, Any]
    versions: dict[str, str]
    step: int = 0

    @classmethod
    def new(cls, saver: RedisSaver, messages: int) -> Thread:
        """A thread with nothing but a channel of so many messages."""
        thread_id = str(uuid4())
        saver.raise_fence(thread_id, TOKEN)
        config: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        thread = cls(saver, config, {}, {})
        if messages:
            thread.values["messages"] = [HumanMessage(f"message {i}") for i in range(messages)]
            thread.versions["messages"] = saver.get_next_version(None, None)
            thread.put(dict(thread.versions))
        return thread

    @property
    def thread_id(self) -> str:
        """Its id."""
        thread_id: str = self.config["configurable"]["thread_id"]
        return thread_id

    def put(self, new_versions: dict[str, str], run_id: str = "before") -> None:
        """Store a checkpoint."""
        self.step += 1
        config: RunnableConfig = {**self.config, "metadata": {"run_id": run_id}}
        self.config = self.saver.put(
            config,
            {
                "v": 4,
                "id": str(uuid6(clock_seq=self.step)),
                "ts": datetime.now(UTC).isoformat(),
                "channel_values": self.values,
                "channel_versions": self.versions,
                "versions_seen": {"__input__": {}, "node": dict(self.versions)},
                "updated_channels": list(new_versions),
            },
            {"source": "loop", "step": self.step, "parents": {}},
            new_versions,
        )

    def take_step(self, run_id: str = "before") -> float:
        """Store a step's checkpoint and its task's writes; the seconds that it took."""
        began = time.perf_counter()
        version = self.saver.get_next_version(self.versions.get("value"), None)
        self.values = {**self.values, "value": {"a": self.step, "b": "x"}}
        self.versions = {**self.versions, "value": version}
        self.put({"value": version}, run_id)
        writing: RunnableConfig = {**self.config, "metadata": {"run_id": run_id}}
        self.saver.put_writes(writing, [("value", {"a": self.step, "b": "x"})], str(uuid4()))
        return time.perf_counter() - began

    def take_round(self) -> float:
        """Take some steps and take them back; the median of their seconds."""
        before = self.config, self.values, self.versions, self.step
        run_id = str(uuid4())
        p50 = statistics.median(self.take_step(run_id) for _ in range(STEPS))
        self.saver.delete_for_runs([run_id], thread_id=self.thread_id)
        self.config, self.values, self.versions, self.step = before
        return p50


def measure(rounds: int) -> None:
    """Measure and print."""
    with stored() as (storage, client):
        saver = RedisSaver(storage, prefix="benchmark", token=TOKEN)
        threads: dict[str, Thread] = {}
        memory = 0.0
        for name, (length, messages) in THREADS.items():
            thread = threads[name] = Thread.new(saver, messages)
            before = _memory(client)
            for _ in range(length - thread.step):
                thread.take_step()
            if length == 10_000:
                memory = (_memory(client) - before) / length
        p50s: dict[str, list[float]] = {name: [] for name in threads}
        for _ in range(rounds * ROUNDS):
            for name, thread in threads.items():
                p50s[name].append(thread.take_round())
    base = p50s["10 checkpoints"]
    print(f"{'a step after':24}{'p50':>10}{'ratio':>8}   reach")
    for name, each in p50s.items():
        print(
            f"{name:24}{statistics.median(each) * 1000:>7.2f} ms{ratio(each, base):>8.2f}"
            f"   {'' if each is base else 'at most 1.2'}"
        )
    print(f"Redis memory per step: {memory:.0f} bytes")


def _memory(client: redis.Redis) -> int:
    """Bytes that the data in Redis takes."""
    size: int = client.info("memory")["used_memory_dataset"]
    return size
