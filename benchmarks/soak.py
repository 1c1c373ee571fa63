"""`make soak`: minutes of mixed load on two workers and their Valkey, and whether anything grows.

Clients do errands of all kinds, at a pace that leaves the machine some rest. Meanwhile each process
is looked at, and Redis. What counts is the second half, and there the slope, per thousand errands:
the median of the slopes between any two looks, which a peak does not move. The bound of memory is
what a run's record would exceed that each errand leaves; malloc, with a hundred threads, still
settles by 200 bytes an errand while no object stays. At the end, once what
expires has had the time, Redis must have nothing that lasts for ever and was not there before:
no key, and no member of a set.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import redis.asyncio
from langgraph_sdk import get_client
from langgraph_sdk.errors import NotFoundError

from benchmarks.servers import VALUE, Server, served

CLIENTS = 16
# Seconds from the beginning of a client's errand to that of its next, if that has ended by then.
PACE = 0.4
LOOKS = 120
# What the server is told; short, so that what expires does.
SETTINGS = {
    "RESULT_TTL_SECONDS": 5,
    "IDEMPOTENCY_TTL_SECONDS": 5,
    "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
    "LOG_LEVEL": "WARNING",
}
# Seconds after which nothing of the errands is left: results go 30 s after they were delivered, and
# what sweeps see to has one a minute.
EXPIRED = 120.0
# The most that a thousand errands may leave, by what is looked at.
BOUNDS = {"MB": 0.5, "threads": 1.0, "descriptors": 1.0, "connections": 1.0, "keys": 10.0}
# What says for an hour that there was something: longer than the load lasts, so that they are no
# part of the keys that are to be flat.
REMINDERS = (b":gone:", b":fence", b":webhook:")
# The share of the errands that may fail: a machine that is busy with other things may keep Redis
# from answering within a second, and then requests are refused.
FAILURES = 0.001
LARGE = {"value": [{"number": n, "text": "word " * 30} for n in range(1000)]}
TICKS = {"value": {"count": 10, "seconds": 0.03}}


class Errands:
    """A client's errands, each with an answer that it knows."""

    def __init__(self, server: Server, hook: Hook) -> None:
        self._hook = hook
        self._client = get_client(url=f"http://127.0.0.1:{server.port}")
        self._runs, self._http = self._client.runs, self._client.http.client

    async def take_threads(self) -> None:
        """As many runs at once as there will ever be: their threads stay, and their memory."""
        given = {"value": {"seconds": 1.0}}
        await asyncio.gather(*(self._wait("sleep_sync", given) for _ in range(CLIENTS * 10)))

    async def wait(self) -> None:
        """Runs that are waited for, on a thread and on a loop, small and large."""
        for graph, given in (("echo", VALUE), ("echo_async", VALUE), ("echo", LARGE)):
            await self._wait(graph, given)

    async def _wait(self, graph: str, given: Any, **fields: Any) -> None:
        _expect(await self._runs.wait(None, graph, input=given, **fields), given)

    async def stream(self) -> None:
        """A stream of tokens."""
        given = {"value": 20}
        streamed = self._runs.stream(None, "tokens", input=given, stream_mode="messages-tuple")
        names = [part.event async for part in streamed]
        _expect((names.count("messages") >= 20, names[-1]), (True, "end"))

    async def resume(self) -> None:
        """A stream that is joined, left, and joined again where it was left."""
        options = {"stream_mode": "custom", "stream_resumable": True}
        run = await self._runs.create(None, "ticks", input=TICKS, **options)
        read: list[str] = []
        for most in (4, 100):
            last = read[-1] if read else "-1"
            joined = self._runs.join_stream(run["thread_id"], run["run_id"], last_event_id=last)
            async for part in joined:
                if part.event == "custom" and part.id is not None:
                    read.append(part.id)
                if len(read) >= most:
                    break
            await joined.aclose()
        _expect(len(set(read)), TICKS["value"]["count"])

    async def keep(self) -> None:
        """A thread, with runs and a cron on it, that is read and deleted."""
        threads, thread_id = self._client.threads, str(uuid4())
        try:
            await threads.create(thread_id=thread_id)
            await self._client.crons.create_for_thread(
                thread_id, "two_nodes", schedule="0 0 1 1 *", input=VALUE
            )
            for _ in range(3):
                _expect(await self._runs.wait(thread_id, "two_nodes", input=VALUE), VALUE)
            _expect((await threads.get_state(thread_id))["values"], VALUE)
            await threads.get_history(thread_id)
        finally:
            # However often it takes: what stays would look like a leak.
            for _ in range(60):
                try:
                    await threads.delete(thread_id)
                except NotFoundError:
                    break
                except httpx.HTTPError:
                    await asyncio.sleep(1)

    async def background(self) -> None:
        """Runs that are joined, one by itself and some of a batch."""
        one = await self._runs.create(None, "echo", input=VALUE)
        batch = await self._runs.create_batch([{"assistant_id": "echo", "input": VALUE}] * 5)
        for run in (one, *batch):
            _expect(await self._runs.join(run["thread_id"], run["run_id"]), VALUE)

    async def schedule(self) -> None:
        """A run that is not due at once."""
        await self._wait("echo", VALUE, after_seconds=0.3)

    async def be_told(self) -> None:
        """A run whose end is told to a webhook."""
        url, told = self._hook.expect()
        await self._runs.create(None, "echo", input=VALUE, webhook=url)
        async with asyncio.timeout(60):
            await told

    async def store(self) -> None:
        """Items of the store."""
        store, namespace = self._client.store, ("soak", str(uuid4()))
        await store.put_item(namespace, key="a", value=VALUE)
        _expect((await store.search_items(namespace))["items"][0]["value"], VALUE)
        await store.delete_item(namespace, key="a")

    async def fail(self) -> None:
        """A graph that raises, and requests that are refused."""
        answer = await self._runs.wait(None, "sleep_sync", input={"value": {}}, raise_error=False)
        _expect(answer["__error__"]["error"], "KeyError")
        for body in ({}, {"assistant_id": "echo", "input": VALUE, "on_completion": 1}):
            _expect((await self._http.post("/runs/wait", json=body)).status_code, 422)

    async def leave(self) -> None:
        """Clients that go away while their runs work."""
        for number, graph in enumerate(("sleep_async", "sleep_sync", "ticks")):
            body = {
                "assistant_id": graph,
                "input": {"value": {"seconds": 0.2, "count": 5}},
                "on_disconnect": ("cancel", "continue")[number % 2],
            }
            path = "/runs/stream" if graph == "ticks" else "/runs/wait"
            async with self._http.stream("POST", path, json=body) as response:
                _expect(response.status_code, 200)

    async def cancel(self) -> None:
        """A run that is stopped."""
        run = await self._runs.create(None, "ticks", input={"value": {"count": 99, "seconds": 1}})
        await self._runs.cancel(run["thread_id"], run["run_id"], wait=True)

    async def repeat(self) -> None:
        """A request that is sent twice."""
        headers = {"Idempotency-Key": str(uuid4())}
        body = {"assistant_id": "echo", "input": VALUE}
        for _ in range(2):
            answer = await self._http.post("/runs/wait", json=body, headers=headers)
            _expect(answer.json(), VALUE)

    async def look_around(self) -> None:
        """What monitors and tools ask for."""
        for path in ("/ok", "/ready", "/metrics", "/info", "/"):
            _expect((await self._http.get(path)).status_code, 200)
        await self._client.assistants.search()
        await self._client.threads.search(limit=5)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    KINDS = (
        *(wait, stream, resume, keep, background, schedule, be_told, store, fail, leave),
        *(cancel, repeat, look_around),
    )


def _expect(found: Any, right: Any) -> None:
    if found != right:
        raise RuntimeError(f"{found!r:.300} is not {right!r:.300}")


class Hook:
    """Receives webhooks, on this loop."""

    def __init__(self) -> None:
        self._port = 0
        self._expected: dict[str, asyncio.Future[None]] = {}

    async def listen(self) -> asyncio.Server:
        """Open it."""
        listening = await asyncio.start_server(self._receive, "127.0.0.1", 0)
        self._port = listening.sockets[0].getsockname()[1]
        return listening

    def expect(self) -> tuple[str, asyncio.Future[None]]:
        """A URL of its own, and what is done once that is called."""
        path = f"/{uuid4()}"
        self._expected[path] = asyncio.get_running_loop().create_future()
        return f"http://127.0.0.1:{self._port}{path}", self._expected[path]

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r")[0]))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()
        told = self._expected.pop(head.split(" ", 2)[1], None)
        if told is not None:  # it may be told twice
            told.set_result(None)


class Looks:
    """What was seen of the processes and of Redis.

    Attributes:
        errands: how many had ended, at each look.
        seen: by what was looked at, and its unit, at each look.
    """

    def __init__(self, server: Server, client: redis.asyncio.Redis) -> None:
        first, *others = server.processes()
        workers = [each for each in others if "valkey" not in each.name()]
        (valkey,) = [each for each in others if each not in workers]
        self._processes = {"master": first, "Valkey": valkey}
        self._processes |= {f"worker {n}": each for n, each in enumerate(workers, 1)}
        self._client = client
        self.errands: list[int] = []
        self.seen: dict[tuple[str, str], list[float]] = defaultdict(list)

    async def look(self, errands: int) -> None:
        """Look once.

        Raises:
            psutil.NoSuchProcess: a process has ended.
        """
        self.errands.append(errands)
        for name, process in self._processes.items():
            with process.oneshot():
                self.seen[name, "MB"].append(process.memory_info().rss / 1e6)
                self.seen[name, "threads"].append(process.num_threads())
            self.seen[name, "descriptors"].append(process.num_fds())
        info = await self._client.info()
        self.seen["Redis", "MB"].append(info["used_memory"] / 1e6)
        self.seen["Redis", "connections"].append(info["connected_clients"])
        keys = [key async for key in self._client.scan_iter(count=1000)]
        reminders = sum(any(each in key for each in REMINDERS) for key in keys)
        self.seen["Redis", "keys"].append(len(keys) - reminders)

    def grown(self) -> Iterator[str]:
        """Print what became of all that was looked at; what grows."""
        half = len(self.errands) // 2
        print(
            f"{'':24}{'at first':>10}{'half-way':>10}{'at last':>10}  a thousand errands  at most"
        )
        for (name, unit), figures in self.seen.items():
            slope = _slope(self.errands[half:], figures[half:]) * 1000
            grows = slope > BOUNDS[unit]
            print(
                f"{f'{name}, {unit}':24}{figures[0]:>10.1f}{figures[half]:>10.1f}"
                f"{figures[-1]:>10.1f}{slope:>+20.2f}{BOUNDS[unit]:>9g}{' GROWS' * grows}"
            )
            if grows:
                yield f"{name}, {unit}"


def _slope(places: list[int], figures: list[float]) -> float:
    """The median of the slopes between any two looks."""
    pairs = itertools.combinations(zip(places, figures, strict=True), 2)
    return statistics.median([(b - a) / (y - x) for (x, a), (y, b) in pairs if x != y] or [0.0])


async def _lasting(client: redis.asyncio.Redis) -> Counter[bytes]:
    """The keys that never expire, each with how much it holds."""
    counts = {"hash": client.hlen, "zset": client.zcard, "set": client.scard, "list": client.llen}
    found: Counter[bytes] = Counter()
    async for key in client.scan_iter(count=1000):
        if await client.ttl(key) == -1:
            count = counts.get((await client.type(key)).decode())
            found[key] = await count(key) if count else 1
    return found


async def soak(seconds: float, patience: float = EXPIRED) -> list[str]:
    """Have clients do errands for so long, and print.

    Args:
        patience: seconds until all that expires has.

    Returns:
        What is wrong: an errand that failed, what grows, what is left in Redis.
    """
    failed: Counter[str] = Counter()
    done = 0
    with served(**SETTINGS) as server:
        client = redis.asyncio.Redis.from_url(server.redis_url)
        hook = Hook()
        listening = await hook.listen()
        looks = Looks(server, client)
        warming = Errands(server, hook)
        await warming.take_threads()
        for kind in Errands.KINDS:
            await kind(warming)
        await warming.close()
        before = await _lasting(client)
        began = time.monotonic()

        async def do_errands(number: int) -> None:
            nonlocal done
            errands = Errands(server, hook)
            kinds = itertools.cycle(Errands.KINDS)
            for kind in itertools.islice(kinds, number % len(Errands.KINDS), None):
                if time.monotonic() > began + seconds:
                    break
                pause = asyncio.create_task(asyncio.sleep(PACE))
                try:
                    await kind(errands)
                except Exception as error:
                    failed[f"{kind.__name__}: {error!r:.500}"] += 1
                done += 1
                await pause
            await errands.close()

        clients = [asyncio.create_task(do_errands(number)) for number in range(CLIENTS)]
        while time.monotonic() < began + seconds:
            await looks.look(done)
            await asyncio.sleep(seconds / LOOKS)
        await asyncio.gather(*clients)
        listening.close()
        print(f"{done:,} errands of {len(Errands.KINDS)} kinds by {CLIENTS} clients")
        for what, count in failed.items():
            print(f"{count} times {what}")
        wrong = [f"{failed.total()} errands failed"] * (failed.total() > done * FAILURES)
        wrong += looks.grown()
        deadline = time.monotonic() + patience
        while (left := await _lasting(client) - before) and time.monotonic() < deadline:
            await asyncio.sleep(1)
        print(f"for ever in Redis, of what was not there before: {sum(left.values())}")
        wrong += [f"{count} left in {key!r}" for key, count in left.items()]
        await client.aclose()
    return wrong


def main() -> None:
    """Measure, print, and exit with 1 if anything grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of load")
    wrong = asyncio.run(soak(parser.parse_args().minutes * 60))
    print("\n".join(wrong) or "all flat")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
