"""Background runs: how many are taken in a second, and many that wait at once."""

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time
from typing import Any

from benchmarks.servers import VALUE, Loading, Server, body, ratio, served, stored
from runwait.storage.records import RunRecord, RunRecords, RunStatus

CLIENTS = 8
SECONDS = 3.0
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
    deadline = time.perf_counter() + SECONDS
    counts = [0] * CLIENTS
    content = body("echo")

    def work(number: int) -> None:
        connection = server.connect()
        while time.perf_counter() < deadline:
            connection.request("POST", path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise RuntimeError(answer.read())
            answer.read()
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / SECONDS


def _until_idle(server: Server) -> None:
    """Wait until what was taken in is done: it is not the next round's work."""
    connection = server.connect()
    connection.request("POST", "/runs/wait", body("echo", after_seconds=0.01))
    connection.getresponse().read()


async def _queue(server: Server) -> tuple[float, int]:
    """Seconds until all were done, and how many gave what they should."""

    async def ask(method: str, path: str, content: bytes) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
            % (method.encode(), path.encode(), len(content), content)
        )
        _, _, answer = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])

    one = json.loads(body("echo"))
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    content = json.dumps([one] * QUEUED).encode()
    writer.write(
        b"POST /runs/batch HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
        % (len(content), content)
    )
    _, _, answer = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    runs = json.loads(answer)
    right, took = 0, 0.0
    for start in range(0, len(runs), 100):
        paths = [
            f"/threads/{each['thread_id']}/runs/{each['run_id']}/join"
            for each in runs[start : start + 100]
        ]
        answers = await asyncio.gather(*(ask("GET", path, b"") for path in paths))
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
