"""Background runs: how many are taken in a second, and many that wait at once."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import Any

from benchmarks.load import gives, load, post, rush
from benchmarks.servers import (
    CLIENTS,
    SECONDS,
    VALUE,
    Loading,
    Server,
    asked,
    ratio,
    served,
    stored,
)
from runwait.storage.records import RunRecord, RunRecords, RunStatus

RUN = {"assistant_id": "echo", "input": VALUE}
QUEUED = 10_000
CLAIMS = 300


def measure(rounds: int) -> None:
    """Measure and print."""
    rates: dict[str, list[float]] = {"/runs": [], "/runs/wait": []}
    with served() as server:
        for _ in range(rounds):
            for path in rates:
                rates[path].append(_throughput(server, path))
                _until_idle(server)
        print(
            f"{CLIENTS} clients, requests a second: /runs/wait "
            f"{statistics.median(rates['/runs/wait']):.0f}, /runs "
            f"{statistics.median(rates['/runs']):.0f}: "
            f"{ratio(rates['/runs'], rates['/runs/wait']):.2f} (at least 1.0)"
        )
        took, right = asyncio.run(_queue(server))
        print(f"{QUEUED} background runs queued at once: {right} right, after {took:.1f} s")
    few, many = (_claims(count) for count in (10, QUEUED))
    print(
        f"a claim with 10 queued {few * 1e6:.0f} us, with {QUEUED} {many * 1e6:.0f} us: "
        f"{many / few:.2f} (as cheap)"
    )


def _throughput(server: Server, path: str) -> float:
    request = post(path, RUN)
    return rush(server.port, request, lambda _: True, CLIENTS, SECONDS).rate


def _until_idle(server: Server) -> None:
    """Wait until what was taken in is done: it is not the next round's work."""
    load(server.port, post("/runs/wait", {**RUN, "after_seconds": 0.01}), gives(VALUE))


async def _queue(server: Server) -> tuple[float, int]:
    """Seconds until all were done, and how many gave what they should."""

    async def ask(method: str, path: str, content: bytes = b"") -> bytes:
        return b"".join([line async for line in asked(server, method, path, content)])

    async def join(run: dict[str, str]) -> Any:
        path = f"/threads/{run['thread_id']}/runs/{run['run_id']}/join"
        answer = await ask("GET", path)
        return json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])

    began = time.perf_counter()
    runs = json.loads(await ask("POST", "/runs/batch", json.dumps([RUN] * QUEUED).encode()))
    right, took = 0, 0.0
    for start in range(0, len(runs), 100):
        answers = await asyncio.gather(*map(join, runs[start : start + 100]))
        right += sum(each == VALUE for each in answers)
        took = time.perf_counter() - began
    return took, right


def _claims(queued: int) -> float:
    """The median time of a claim, in seconds, where so many are queued."""
    with stored() as (storage, client):
        with Loading(client, [b"pending"]) as loading:
            records = RunRecords(loading, "bench", "loader", 300)  # type: ignore[arg-type]
            for number in range(queued):
                records.admit(_run(number), 15, may_start=False)
        records = RunRecords(storage, "bench", "claimer", 300)
        times = []
        for number in range(CLAIMS):
            # One goes, one comes.
            RunRecords(storage, "bench", "loader", 300).admit(
                _run(queued + number), 15, may_start=False
            )
            began = time.perf_counter()
            claim, _ = records.claim(15)
            times.append(time.perf_counter() - began)
            assert claim is not None
        return statistics.median(times)


def _run(number: int) -> RunRecord:
    return RunRecord(
        run_id=f"r{number}",
        thread_id=f"t{number}",
        assistant_id="a",
        graph_id="g",
        metadata={},
        status=RunStatus.PENDING,
        kwargs={"input": None},
    )
