"""Many streams at once: joined in another process, and open for long."""

from __future__ import annotations

import asyncio
import json
import statistics
import time

from benchmarks.crowd import Watch
from benchmarks.servers import Server, asked, served

# Streams, and how many events each has, after so many seconds each.
JOINED, JOINED_EVENTS, JOINED_SECONDS = 50, 200, 0.05
OPEN, OPEN_EVENTS, OPEN_SECONDS = 2000, 10, 1.0


def measure(rounds: int) -> None:
    """Measure once, however many rounds are asked for, and print."""
    late, runs = asyncio.run(_joined())
    print(
        f"{runs} streams of 20 events a second, joined in the other process: late p50 "
        f"{statistics.median(late) * 1000:.0f} ms, p99 {late[int(len(late) * 0.99)] * 1000:.0f} ms"
        " (at most 100)"
    )
    with served(RUN_CONCURRENCY=5000, WAITERS_MAX=5000) as server, Watch(server) as watch:
        came = asyncio.run(_open(server))
    print(
        f"{OPEN} open streams, an event a second each: {came.count(OPEN_EVENTS)} whole, "
        f"{watch.megabytes:.0f} MB (at most 500)"
    )


async def _joined() -> tuple[list[float], int]:
    """How late events come, in seconds, that another process streams."""
    late: list[float] = []
    value = {"value": {"count": JOINED_EVENTS, "seconds": JOINED_SECONDS}}
    body = {"assistant_id": "ticks", "input": value, "stream_mode": "custom"}
    body |= {"stream_resumable": True}
    with (
        served(WEB_CONCURRENCY=1) as first,
        served(WEB_CONCURRENCY=1, REDIS_URL=first.redis_url, CLAIM_RUNS="false") as second,
    ):

        async def follow() -> None:
            created = asked(first, "POST", "/runs", json.dumps(body).encode())
            run = json.loads(b"".join([each async for each in created]))
            path = f"/threads/{run['thread_id']}/runs/{run['run_id']}/stream"
            async for line in asked(second, "GET", path):
                if line.startswith(b"data: ") and b'"at"' in line:
                    late.append(time.time() - json.loads(line[6:])["at"])

        await asyncio.gather(*(follow() for _ in range(JOINED)))
    return sorted(late), JOINED


async def _open(server: Server) -> list[int]:
    """How many events came of each of many streams."""
    value = {"value": {"count": OPEN_EVENTS, "seconds": OPEN_SECONDS}}
    body = {"assistant_id": "ticks", "input": value, "stream_mode": "custom"}

    async def follow() -> int:
        lines = asked(server, "POST", "/runs/stream", json.dumps(body).encode())
        return sum([line.startswith(b"event: custom") async for line in lines])

    return list(await asyncio.gather(*(follow() for _ in range(OPEN))))
