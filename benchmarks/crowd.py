"""Many clients at once: thousands that wait for runs, and thousands that only hold connections.

All of them are one thread's, which shares the machine with the servers.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import psutil

from benchmarks.graph import State, sleep_async
from benchmarks.load import gives, post, together
from benchmarks.servers import Server, served

# Room for all of them, whichever of the two workers they come to.
ROOM = 5000
IDLE = 5000
TRICKLING = 1000
# Requests with and without the idle connections, in turns.
REQUESTS = 300


@dataclass(frozen=True)
class Crowd:
    """Clients that wait, and what they may cost.

    Attributes:
        graph: what they run.
        clients: how many there are.
        seconds: how long the graph takes.
        megabytes, threads, late: the reach, of all processes; `late` in seconds over the graph's.
    """

    graph: str
    clients: int
    seconds: float
    megabytes: int
    threads: int | None
    late: float


CROWDS = (
    Crowd("sleep_async", 5000, 5.0, 400, 100, 2.0),
    Crowd("sleep_sync", 1000, 1.0, 350, None, 1.5),
)


def measure(rounds: int) -> None:
    """Measure each once, however many rounds are asked for, and print."""
    for crowd in CROWDS:
        with served(RUN_CONCURRENCY=ROOM, WAITERS_MAX=ROOM) as server, Watch(server) as watch:
            took = _wait(server, crowd)
        late = sorted(each - crowd.seconds for each in took)
        p99 = late[int(len(late) * 0.99)]
        print(
            f"{crowd.clients} clients, {crowd.seconds:g} s on {crowd.graph}: all right; "
            f"{watch.megabytes:.0f} MB (at most {crowd.megabytes}), {watch.threads} threads"
            f"{f' (at most {crowd.threads})' if crowd.threads else ''}, "
            f"late p50 {statistics.median(late):.2f} s, p99 {p99:.2f} s (at most {crowd.late:g})"
        )
    late, megabytes = _by_themselves(CROWDS[0])
    print(
        f"the first, by LangGraph alone in two processes: {megabytes:.0f} MB, "
        f"late p50 {statistics.median(late):.2f} s, p99 {late[int(len(late) * 0.99)]:.2f} s"
    )
    with served() as server:
        without, with_them = asyncio.run(_beside_idle(server))
    print(f"{IDLE} idle connections, {TRICKLING} of them sending a byte a second, in turns:")
    for name in without:
        ratio = statistics.median(with_them[name]) / statistics.median(without[name])
        print(
            f"  {name:12} p50 {statistics.median(without[name]) * 1000:.2f} ms without, "
            f"{statistics.median(with_them[name]) * 1000:.2f} ms with: {ratio:.2f} (at most 1.2)"
        )


class Watch:
    """Looks, every moment, at all processes of a server.

    Attributes:
        megabytes: the most memory they had; pages that they share count once.
        threads: the most threads they had.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.megabytes = 0.0
        self.threads = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(0.25):
            every = self._server.processes()
            ours = [each for each in every if "valkey" not in each.name()]
            self.threads = max(self.threads, sum(each.num_threads() for each in ours))
            pss = sum(each.memory_full_info().pss for each in every)
            self.megabytes = max(self.megabytes, pss / 1e6)


def _by_themselves(crowd: Crowd) -> tuple[list[float], float]:
    """The same graphs in two processes that do nothing else: how late they are, in seconds, sorted,
    and the most MB that both had; pages that they share count once."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        counts = [crowd.clients // 2] * 2
        # Once for nothing, so that what is imported does not count.
        list(processes.map(_stream, [1, 1], [0.0, 0.0]))
        found = list(processes.map(_stream, counts, [crowd.seconds] * 2))
    return sorted(each for late, _ in found for each in late), sum(used for _, used in found)


def _stream(count: int, seconds: float) -> tuple[list[float], float]:
    most = 0.0

    async def look() -> None:
        nonlocal most
        while True:
            most = max(most, psutil.Process().memory_full_info().pss / 1e6)
            await asyncio.sleep(0.25)

    async def one() -> float:
        began = time.perf_counter()
        given: State = {"value": {"seconds": seconds}}
        async for _ in sleep_async.astream(given, stream_mode=["updates", "values"]):
            pass
        return time.perf_counter() - began - seconds

    async def every() -> list[float]:
        looking = asyncio.create_task(look())
        late = await asyncio.gather(*(one() for _ in range(count)))
        looking.cancel()
        return late

    return asyncio.run(every()), most


def _wait(server: Server, crowd: Crowd) -> list[float]:
    """All clients at once; how long each took, in seconds."""
    asked = []
    for number in range(crowd.clients):
        value = {"seconds": crowd.seconds, "n": number}
        request = post("/runs/wait", {"assistant_id": crowd.graph, "input": {"value": value}})
        asked.append((request, gives({"value": value})))
    return together(server.port, asked)


async def _beside_idle(server: Server) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds that requests take, without many idle connections and with them, in turns."""
    paths: dict[str, tuple[str, bytes]] = {
        "/ok": ("GET", b""),
        "/runs/wait": (
            "POST",
            json.dumps({"assistant_id": "echo", "input": {"value": 1}}).encode(),
        ),
    }
    without: dict[str, list[float]] = {name: [] for name in paths}
    with_them: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(3):
        for name, (method, content) in paths.items():
            without[name] += await _ask(server, method, name, content)
        held = [await _connect(server) for _ in range(IDLE)]
        for _, writer in held[:TRICKLING]:
            writer.write(b"GET /ok HTTP/1.1\r\nX-Slow: ")
        trickle = {asyncio.create_task(_trickle([writer for _, writer in held[:TRICKLING]]))}
        for name, (method, content) in paths.items():
            with_them[name] += await _ask(server, method, name, content)
        trickle.pop().cancel()
        for _, writer in held:
            writer.close()
    return without, with_them


async def _trickle(writers: Sequence[asyncio.StreamWriter]) -> None:
    while True:
        for writer in writers:
            writer.write(b"x")
        await asyncio.sleep(1)


async def _ask(server: Server, method: str, path: str, content: bytes) -> list[float]:
    took = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        reader, writer = await _connect(server)
        writer.write(_request(method, path, content))
        answer = await reader.read()
        took.append(time.perf_counter() - began)
        writer.close()
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"a wrong answer: {answer!r}")
    return took


async def _connect(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        try:
            return await asyncio.open_connection("127.0.0.1", server.port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)


def _request(method: str, path: str, content: bytes) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
