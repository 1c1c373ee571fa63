"""Streams: against a bare route of server-sent events, and many of them at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
from http.client import HTTPConnection
from typing import Any

from benchmarks.crowd import Watch
from benchmarks.servers import BARE, ROOT, RUNWAIT, VALUE, Server, asked, ratio, served

# Streams of one client a round.
COUNT = 200
TOKENS = 1000
LONG = 5
JOINED = 50
OPEN = 2000


def measure(rounds: int) -> None:
    """Measure and print."""
    with contextlib.ExitStack() as stack:
        commands = {"bare": BARE, "runwait": RUNWAIT}
        servers = {name: stack.enter_context(served(each, ROOT)) for name, each in commands.items()}
        _against_bare(servers["bare"], servers["runwait"], rounds)
    late, runs = asyncio.run(_joined())
    print(
        f"{runs} streams of 20 events a second, joined in the other process: late p50 "
        f"{statistics.median(late) * 1000:.0f} ms, p99 {late[int(len(late) * 0.99)] * 1000:.0f} ms"
        " (at most 100)"
    )
    with served(RUN_CONCURRENCY=5000, WAITERS_MAX=5000) as server, Watch(server) as watch:
        came = asyncio.run(_open(server))
    print(
        f"{OPEN} open streams, an event a second each: {came.count(10)} whole, "
        f"{watch.megabytes:.0f} MB (at most 500)"
    )


def _against_bare(bare: Server, runwait: Server, rounds: int) -> None:
    values = {"assistant_id": "echo", "input": VALUE, "stream_mode": "values"}
    tokens = {"assistant_id": "tokens", "input": {"value": TOKENS}}
    first: dict[str, list[float]] = {"bare": [], "runwait": []}
    whole: dict[str, list[float]] = {"bare": [], "runwait": [], "resumable": []}
    for _ in range(rounds):
        for name, server in (("bare", bare), ("runwait", runwait)):
            connection = server.connect()
            times = [_times(connection, values, b"event: values")[0] for _ in range(COUNT)]
            first[name].append(statistics.median(times))
        for name, server, fields in (
            ("bare", bare, {"stream_mode": "messages"}),
            ("runwait", runwait, {"stream_mode": "messages-tuple"}),
            ("resumable", runwait, {"stream_mode": "messages-tuple", "stream_resumable": True}),
        ):
            connection = server.connect()
            times = [
                _times(connection, {**tokens, **fields}, b"event: messages", TOKENS)[1]
                for _ in range(LONG)
            ]
            whole[name].append(statistics.median(times))
    print(f"{'':32}{'bare':>10}{'Runwait':>10}{'ratio':>8}   reach")
    rows = [("first event, one client, p50", first["bare"], first["runwait"], 1.2)]
    rows += [(f"{TOKENS} tokens, whole", whole["bare"], whole["runwait"], 1.3)]
    rows += [("the same, resumable", whole["bare"], whole["resumable"], 1.6)]
    for name, base, ours, reach in rows:
        print(
            f"{name:32}{statistics.median(base) * 1000:>7.2f} ms"
            f"{statistics.median(ours) * 1000:>7.2f} ms{ratio(ours, base):>8.2f}   at most {reach}"
        )


def _times(
    connection: HTTPConnection, body: dict[str, Any], event: bytes, count: int = 1
) -> tuple[float, float]:
    """Seconds until the first such event of a stream came, and until all of it had."""
    began = time.perf_counter()
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/runs/stream", json.dumps(body).encode(), headers)
    answer = connection.getresponse()
    came, first = b"", 0.0
    while data := answer.read1(65536):
        came += data
        if not first and event in came:
            first = time.perf_counter() - began
    whole = time.perf_counter() - began
    answer.read()  # ends it for http.client
    if came.count(event) < count:
        raise RuntimeError(f"a wrong stream: {came!r}")
    return first, whole


async def _joined() -> tuple[list[float], int]:
    """How late events come, in seconds, that another process streams."""
    late: list[float] = []
    value = {"value": {"count": 200, "seconds": 0.05}}
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
    value = {"value": {"count": 10, "seconds": 1.0}}
    body = {"assistant_id": "ticks", "input": value, "stream_mode": "custom"}

    async def follow() -> int:
        lines = asked(server, "POST", "/runs/stream", json.dumps(body).encode())
        return sum([line.startswith(b"event: custom") async for line in lines])

    return list(await asyncio.gather(*(follow() for _ in range(OPEN))))
