"""What tests ask of a server over and over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any

import httpx
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.schema import StreamPart

from tests.servers import PATIENCE, RedisServer, Server, eventually

# Long enough to outlast any test: for runs that a test stops itself.
FOREVER = {"n": 100_000, "seconds": 0.05}
UNLIMITED = {"recursion_limit": 1_000_000}


def post(
    server: Server, assistant_id: str, headers: dict[str, str] | None = None, **fields: Any
) -> httpx.Response:
    """The answer to POST /runs/wait; the input is `{}` unless it is among the fields."""
    body = {"assistant_id": assistant_id, "input": {}, **fields}
    return server.http.post("/runs/wait", json=body, headers=headers)


def output(server: Server, assistant_id: str, **fields: Any) -> Any:
    """The document of a run."""
    response = post(server, assistant_id, **fields)
    assert response.status_code == 200, response.text
    return response.json()


def detail(response: httpx.Response, status: int) -> str:
    """Why a request was refused, with this status."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    (name,) = response.json()
    assert name == "detail"
    text = response.json()["detail"]
    assert isinstance(text, str)
    return text


def bad_fields(response: httpx.Response) -> list[str]:
    """The paths of the fields that a 422 names."""
    return [each.partition(": ")[0] for each in detail(response, 422).split("; ")]


@contextlib.contextmanager
def begun(
    server: Server, assistant_id: str, base_url: str | None = None, **fields: Any
) -> Iterator[httpx.Response]:
    """A run whose answer's headers are here, on a connection that ends with the `with`."""
    body = {"assistant_id": assistant_id, "input": {}, **fields}
    url = f"{base_url or server.url}/runs/wait"
    with httpx.stream("POST", url, json=body, timeout=PATIENCE) as response:
        assert response.status_code == 200
        yield response


@contextlib.contextmanager
def joined(
    server: Server, response: httpx.Response, base_url: str | None = None, **query: str
) -> Iterator[httpx.Response]:
    """A join of the run that a response names, like `begun`."""
    url = f"{base_url or server.url}{response.headers['Location']}"
    with httpx.stream("GET", url, params=query, timeout=PATIENCE) as answer:
        assert answer.status_code == 200
        yield answer


def read_newlines(chunks: Iterator[bytes], number: int) -> None:
    """Wait for so many newlines, and have nothing else come first."""
    received = b""
    while len(received) < number:
        received += next(chunks)
    assert not received.strip()


def document(response: httpx.Response) -> Any:
    """The document of a streamed answer, once it is there."""
    response.read()
    return response.json()


def fresh_get(server: Server, path: str) -> httpx.Response:
    """GET on a connection of its own, so that whichever worker is free takes it."""
    return httpx.get(server.url + path, timeout=PATIENCE)


def is_ready(server: Server) -> bool:
    """Whether both workers say so, as far as many fresh connections tell."""
    return all(fresh_get(server, "/ready").status_code == 200 for _ in range(8))


def patiently(request: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer of a request that is sent again while it is a 503, as `Retry-After` asks.

    Redis is back for each worker when that worker has noticed.
    """

    def answer() -> httpx.Response | None:
        response = request()
        return None if response.status_code == 503 else response

    response: httpx.Response = eventually(answer)
    return response


def run_id_of(response: httpx.Response) -> str:
    """The id of the run that a response names."""
    return response.headers["Content-Location"].rpartition("/")[2]


def patient_get(server: Server, path: str) -> httpx.Response:
    """`fresh_get`, sent again while it is a 503."""
    return patiently(lambda: fresh_get(server, path))


def run_of(server: Server, response: httpx.Response) -> dict[str, Any]:
    """The record of the run that a response names."""
    answer = fresh_get(server, response.headers["Content-Location"])
    assert answer.status_code == 200, answer.text
    record: dict[str, Any] = answer.json()
    return record


def pause(pid: int) -> None:
    """Stop a process until it is resumed; it does nothing more when this returns."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: all(_is_stopped(each) for each in Path(f"/proc/{pid}/task").iterdir()))


def _is_stopped(thread: Path) -> bool:
    try:
        # After the name, which is in parentheses and may hold anything.
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] == "T"
    except (FileNotFoundError, ProcessLookupError):
        return True  # it has ended


def resume(pid: int) -> None:
    """Let a paused process go on."""
    os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def only(server: Server, worker: int) -> Iterator[None]:
    """Pauses all workers but one, which therefore takes every connection made meanwhile."""
    others = [pid for pid in server.workers() if pid != worker]
    try:
        for pid in others:
            pause(pid)
        yield
    finally:
        for pid in others:
            resume(pid)


def lines(file: Path) -> list[str]:
    """What a graph has noted in a file, if anything."""
    return file.read_text().split() if file.exists() else []


def stored_steps(server: Server, thread_id: str) -> list[int]:
    """The steps in a thread's latest checkpoint; none where there is no thread yet."""
    answer = fresh_get(server, f"/threads/{thread_id}/state")
    assert answer.status_code in (200, 404), answer.text
    steps: list[int] = (answer.json().get("values") or {}).get("steps", [])
    return steps


def in_the_third_step(server: Server, thread_id: str) -> None:
    """Waits until two steps are done and stored. The third then begins, and waits at its gate."""
    eventually(lambda: stored_steps(server, thread_id) == [1, 2])


def lapse(valkey: RedisServer, run_id: str) -> None:
    """As if the lease of a run had run out, and no process were in doubt of Redis.

    So a test need not wait for leases that are long enough for a process that is only slow.
    """
    seconds, _ = valkey.client.time()
    valkey.client.hset("{runwait}:beat", mapping={"at": seconds * 1000, "quiet_until": 0})
    valkey.client.zadd("{runwait}:leases", {run_id: 1}, xx=True)


def due_now(valkey: RedisServer, *run_ids: str) -> None:
    """Make these runs due, or all that are scheduled, and tell the processes."""
    for run_id in run_ids or valkey.client.zrange("{runwait}:ready", 0, -1):
        valkey.client.zadd("{runwait}:ready", {run_id: 1}, xx=True)
    valkey.client.publish("{runwait}:told:all", "ready")


def given_up(valkey: RedisServer, run_id: str, error: str) -> None:
    """As if the webhook of a run had been given up. Nobody claims it while it is made."""
    seconds, _ = valkey.client.time()
    fields = {"url": "http://127.0.0.1:9/x", "body": "{}", "receiver": "127.0.0.1:9"}
    times = {"created": seconds * 1000, "attempts": 4, "error": error}
    valkey.client.hset(f"{{runwait}}:webhook:{run_id}", mapping={**fields, **times})
    valkey.client.zadd("{runwait}:webhooks:dead", {run_id: seconds * 1000})


class Sdk:
    """Calls the SDK's methods; each on a connection of its own, so that any process answers."""

    def __init__(self, url: str, form: str) -> None:
        self.url = url
        self._form = form

    def __call__(self, method: str, *args: Any, **options: Any) -> Any:
        """What `client.<method>` returns, such as `threads.get`."""
        part, name = method.split(".")
        if self._form == "sync":
            with get_sync_client(url=self.url) as client:
                return getattr(getattr(client, part), name)(*args, **options)

        async def call() -> Any:
            async with get_client(url=self.url) as client:
                answer: Coroutine[Any, Any, Any] = getattr(getattr(client, part), name)(
                    *args, **options
                )
                return await answer

        return asyncio.run(call())

    def stream(self, method: str, *args: Any, **options: Any) -> Generator[StreamPart, None, None]:
        """What `client.<method>` yields, as it comes; closed, it ends its connection."""
        part, name = method.split(".")
        if self._form == "sync":
            with get_sync_client(url=self.url) as client:
                yield from getattr(getattr(client, part), name)(*args, **options)
            return

        async def next_of(events: AsyncIterator[StreamPart]) -> StreamPart | None:
            return await anext(events, None)

        with asyncio.Runner() as runner:
            aclient = get_client(url=self.url)
            events = getattr(getattr(aclient, part), name)(*args, **options)
            if asyncio.iscoroutine(events):
                events = runner.run(events)
            try:
                while (event := runner.run(next_of(events))) is not None:
                    yield event
            finally:
                runner.run(events.aclose())
                runner.run(aclient.aclose())


class Gate:
    """Holds up runs until the test lets them go on: see tests/projects/zoo/zoo/timing.py."""

    def __init__(self, folder: Path) -> None:
        self.path = Path(tempfile.mkdtemp(dir=folder)) / "gate"

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *raised: object) -> None:
        self.open()

    @property
    def input(self) -> dict[str, Any]:
        """The input of a run to hold up; one of steps needs its `n` besides."""
        return {"seconds": 0, "gate": str(self.path)}

    def open(self) -> None:
        """Let the runs go on."""
        self.path.touch()
