"""How late runs start that are due one after another, on two workers.

They are scheduled over HTTP by clients that do not wait for the answers. A run is late by the time
from when it is due, by Redis's clock, to its node, by the worker's; both are this machine's.
"""

from __future__ import annotations

import http.client
import json
import statistics
import time

import redis

from benchmarks.servers import Server, body, served

RUNS = 1_000
SECONDS = 10.0
# Before the first is due, so that all are scheduled by then.
LEAD = 10.0
PATIENCE = 60.0


def measure(rounds: int) -> None:
    """Measure once, however many rounds are asked for, and print."""
    with served() as server, redis.Redis.from_url(server.redis_url) as client:
        first = time.time() + LEAD
        run_ids = [_schedule(server, first + SECONDS * i / RUNS) for i in range(RUNS)]
        due = {
            run_id.decode(): score / 1000
            for run_id, score in client.zrange("{runwait}:ready", 0, -1, withscores=True)
        }
        if due.keys() != set(run_ids):
            raise RuntimeError("some runs started before all were scheduled")
        time.sleep(max(0.0, first + SECONDS - time.time()))
        documents = _documents(client, run_ids)
    late = sorted(
        json.loads(document)["started"] - due[run_id]
        for run_id, document in zip(run_ids, documents, strict=True)
    )
    print(f"{f'{RUNS:,} runs in {SECONDS:.0f} s':24}{'late':>10}   reach")
    print(f"{'p50':24}{statistics.median(late) * 1000:>7.1f} ms")
    print(f"{'p99':24}{late[RUNS * 99 // 100 - 1] * 1000:>7.1f} ms   at most 100 ms")
    print(f"{'the latest':24}{late[-1] * 1000:>7.1f} ms")


def _schedule(server: Server, due: float) -> str:
    """Schedule a run and leave; its id."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    content = body("clock", input={}, after_seconds=due - time.time())
    connection.request("POST", "/runs/wait", content, {"Content-Type": "application/json"})
    location = connection.getresponse().headers["Content-Location"]
    connection.close()
    return location.rpartition("/")[2]


def _documents(client: redis.Redis, run_ids: list[str]) -> list[bytes]:
    """The documents of all runs, once they are there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = client.mget([f"{{runwait}}:result:{run_id}" for run_id in run_ids])
        if None not in found:
            return found
        if time.monotonic() > deadline:
            raise RuntimeError(f"{found.count(None)} runs have not ended")
        time.sleep(0.2)
