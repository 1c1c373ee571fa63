"""Clients that do not give up: the Python SDK, and what its user would do where it fails.

Streams are read by plain HTTP, so that their clients can also leave by themselves, and join again
wherever they like.
"""

from __future__ import annotations

import asyncio
import random
import time
import warnings
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from langgraph_sdk import get_client

from tests.chaos.plan import Ask, Attempt, Conversation
from tests.e2e.sse import Reader

PAUSE_SECONDS = 0.3
# A client's socket is silent for as long while its process is paused.
READ_SECONDS = 60.0
RETRIED = (429, 502, 503, 504)
# How often a client leaves a stream that it can resume, for each event.
LEAVES = 0.02
MODES = ["values", "custom"]


class Clients:
    """Has conversations with whichever of the servers answers.

    Attributes:
        answers: by run id, each document that anybody was given, and where it came from.
        refused: how often an attempt was refused, or broke before anything was promised.
        joined: how often a run was joined after its connection broke.
        repeated: how often a request was repeated with its key after its end.
        resumed: how often a stream was joined again by one of its events.
        forgotten: runs that were streamed and whose process died before Redis heard of them.
    """

    def __init__(self, urls: list[str], rng: random.Random, deadline: float) -> None:
        """Prepare; `deadline` is on the monotonic clock."""
        self._rng = rng
        self._deadline = deadline
        timeout = (5.0, READ_SECONDS, READ_SECONDS, 30.0)
        self._clients = [get_client(url=url, timeout=timeout) for url in urls]
        self.answers: dict[str, list[tuple[str, Any]]] = defaultdict(list)
        self.refused = 0
        self.joined = 0
        self.repeated = 0
        self.resumed = 0
        self.forgotten = 0
        self.ended = 0

    def ask_until(self, deadline: float) -> None:
        """Ask again and again until then, on the monotonic clock."""
        self._deadline = deadline

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.aclose()

    async def talk(self, conversations: list[Conversation], at_once: int) -> None:
        """Have all conversations, so many at a time."""
        places = asyncio.Semaphore(at_once)

        async def one(conversation: Conversation) -> None:
            async with places:
                await self._converse(conversation)

        # The SDK warns whenever it joins again, which is what all this is about.
        warnings.filterwarnings("ignore", "Request failed, attempting reconnect")
        async with asyncio.TaskGroup() as group:
            for conversation in conversations:
                group.create_task(one(conversation))

    async def call(self, what: Callable[[Any], Any]) -> Any:
        """The result of a call that may be repeated, from whichever server answers."""
        while True:
            try:
                return await what(self._rng.choice(self._clients))
            except httpx.HTTPError as error:
                if not _passing(error) or time.monotonic() > self._deadline:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)

    async def _converse(self, conversation: Conversation) -> None:
        if conversation.batch:
            await self._have_batch(conversation.asks)
            return
        thread_id = conversation.thread_id
        if thread_id is not None:
            await self.call(lambda c: c.threads.create(thread_id=thread_id, if_exists="do_nothing"))
        under_way = []
        ended = asyncio.Event()
        watching = None
        if conversation.watched:
            watching = asyncio.create_task(self._watch(conversation, ended))
        for ask in conversation.asks:
            accepted = asyncio.Event()
            task = asyncio.create_task(self._ask(ask, thread_id, accepted))
            under_way.append(task)
            task.add_done_callback(lambda _, accepted=accepted: accepted.set())
            await accepted.wait()
            if ask.accepted is None:
                break  # what follows cannot be had either
            if len(conversation.asks) > 1:
                thread_id = ask.accepted.thread_id
            if not conversation.together:
                await task
        for task in under_way:
            await task
        ended.set()
        if watching is not None:
            await watching

    async def _watch(self, conversation: Conversation, ended: asyncio.Event) -> None:
        """Follow a thread, until its runs ended and all that can be resumed were told of."""
        path, seen = f"/threads/{conversation.thread_id}/stream", conversation.seen
        over: set[str] = set()

        def is_over() -> bool:
            told = [ask.accepted for ask in conversation.asks if ask.way == "resumable"]
            return ended.is_set() and {each.run_id for each in told if each} <= over

        while not is_over():
            ids = [each.id for each in seen if each.id is not None]
            headers = {"Last-Event-ID": ids[-1] if ids else "-"}
            reader = Reader()
            try:
                async with self._http().stream("GET", path, headers=headers) as response:
                    response.raise_for_status()
                    async for line in response.aiter_lines():
                        if (event := reader.feed(line)) is not None:
                            seen.append(event)
                            if event.data.get("status") == "run_done":
                                over.add(event.data["run_id"])
                            if self._rng.random() < LEAVES:
                                break
                        if is_over():
                            break
            except httpx.HTTPError as error:
                if not _passing(error) or time.monotonic() > self._deadline:
                    conversation.problem = repr(error)
                    return
                await asyncio.sleep(self._rng.uniform(0, PAUSE_SECONDS))

    async def _have_batch(self, asks: list[Ask]) -> None:
        problem = await self._send_batch(asks)

        async def one(ask: Ask) -> None:
            if problem is not None:
                raise problem
            ask.answer = await self._join_and_note(ask.attempts[-1], "a join of one of a batch")

        await asyncio.gather(*(self._see_to(ask, one(ask)) for ask in asks))
        if asks[0].key is not None and problem is None:
            self.repeated += 1
            await self._send_batch(asks)

    async def _send_batch(self, asks: list[Ask]) -> Exception | None:
        """Send runs as a batch until they are accepted; what is in the way."""
        while True:
            bodies = []
            for ask in asks:
                ticket = str(ask.number) if ask.key else f"{ask.number}/{len(ask.attempts)}"
                ask.attempts.append(Attempt(ticket, None))
                bodies.append({"assistant_id": ask.graph, **_body(ask, ticket)})
            try:
                response = await self._http().post(
                    "/runs/batch", json=bodies, headers=_headers(asks[0])
                )
                response.raise_for_status()
            except httpx.HTTPError as error:
                self.refused += 1
                if not _passing(error) or time.monotonic() > self._deadline:
                    return error
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            for ask, run in zip(asks, response.json(), strict=True):
                _note(ask.attempts[-1], run)
            return None

    async def _ask(self, ask: Ask, thread_id: str | None, accepted: asyncio.Event) -> None:
        async def work() -> None:
            ask.answer = await self._answer(ask, thread_id, accepted)
            await self._look_again(ask, thread_id)

        await self._see_to(ask, work())

    async def _see_to(self, ask: Ask, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            ask.problem = f"{type(error).__name__}: {error}"
            ask.lost = ask.answer is None
        self.ended += 1

    async def _answer(self, ask: Ask, thread_id: str | None, accepted: asyncio.Event) -> Any:
        if not ask.twice:
            return await self._send(ask, thread_id, accepted)
        first, second = await asyncio.gather(
            self._send(ask, thread_id, accepted), self._send(ask, thread_id, accepted)
        )
        if first != second:
            ask.problem = f"two answers to one key: {first} and {second}"
        return first

    async def _send(self, ask: Ask, thread_id: str | None, accepted: asyncio.Event) -> Any:
        """Send a run until it is accepted, and have its answer, come what may."""
        while True:
            ticket = str(ask.number) if ask.key else f"{ask.number}/{len(ask.attempts)}"
            attempt = Attempt(ticket, thread_id)
            ask.attempts.append(attempt)
            try:
                document = await self._begin(ask, attempt, accepted)
                source = "the response"
            except httpx.HTTPError as error:
                if attempt.run_id is None and isinstance(error, httpx.HTTPStatusError):
                    _note_in_flight(attempt, error.response)
                if attempt.run_id is None:
                    self.refused += 1
                    if not _passing(error) or time.monotonic() > self._deadline:
                        raise
                    await asyncio.sleep(self._rng.uniform(0.1, PAUSE_SECONDS))
                    continue
                accepted.set()
                self.joined += 1
                try:
                    document = await self._go_on(ask, attempt)
                except httpx.HTTPStatusError as gone:
                    if gone.response.status_code != 404 or not _may_be_forgotten(ask):
                        raise
                    self.forgotten += 1
                    attempt.run_id = None
                    continue
                source = "a join after a break"
            assert attempt.run_id is not None
            self.answers[attempt.run_id].append((source, document))
            return document

    async def _begin(self, ask: Ask, attempt: Attempt, accepted: asyncio.Event) -> Any:
        """Send a run, and have its answer in the way that is asked for."""

        def created(run: Any) -> None:
            _note(attempt, run)
            accepted.set()

        body = _body(ask, attempt.ticket)
        if ask.way == "waited for":
            return await self._rng.choice(self._clients).runs.wait(
                attempt.thread_id,
                ask.graph,
                headers=_headers(ask),
                on_run_created=created,
                raise_error=False,
                **body,
            )
        path = f"/threads/{attempt.thread_id}/runs" if attempt.thread_id else "/runs"
        body["assistant_id"] = ask.graph
        if ask.way == "in the background":
            response = await self._http().post(path, json=body, headers=_headers(ask))
            response.raise_for_status()
            created(response.json())
            return await self._join(attempt)
        body |= {"stream_mode": MODES, "stream_resumable": ask.way == "resumable"}
        attempt.told.append([])
        leaves = ask.way == "resumable"
        headers = _headers(ask)
        await self._read(attempt, "POST", f"{path}/stream", headers, body, created, leaves=leaves)
        return _told(attempt)

    async def _go_on(self, ask: Ask, attempt: Attempt) -> Any:
        """Have the answer of a run that was accepted, after its connection broke."""
        if ask.way in ("waited for", "in the background"):
            return await self._join(attempt)
        resumable = ask.way == "resumable"
        while not _is_whole(attempt):
            after = None
            if resumable and attempt.told and attempt.told[-1] and self._rng.random() < 0.8:
                self.resumed += 1
                after = attempt.told[-1][-1].id
            else:
                attempt.told.append([])
                after = "-1" if resumable else None
            await self._join_stream(attempt, after, leaves=resumable)
        return _told(attempt) if resumable else await self._join(attempt)

    async def _join_stream(self, attempt: Attempt, after: str | None, *, leaves: bool) -> None:
        """Read a stream to its end, or to where it breaks."""
        path = f"/threads/{attempt.thread_id}/runs/{attempt.run_id}/stream"
        headers = {} if after is None else {"Last-Event-ID": after}
        try:
            await self._read(attempt, "GET", path, headers, leaves=leaves)
        except httpx.HTTPError as error:
            if not _passing(error) or time.monotonic() > self._deadline:
                raise
            await asyncio.sleep(self._rng.uniform(0, PAUSE_SECONDS))

    async def _read(
        self,
        attempt: Attempt,
        method: str,
        path: str,
        headers: dict[str, str],
        body: dict[str, Any] | None = None,
        created: Callable[[Any], None] = lambda run: None,
        *,
        leaves: bool,
    ) -> None:
        """Read a stream to its end.

        Raises:
            httpx.HTTPError: it was refused, or broke; or this client left it.
            ValueError: it closed as if it were whole.
        """
        events, reader = attempt.told[-1], Reader()
        async with self._http().stream(method, path, headers=headers, json=body) as response:
            response.raise_for_status()
            _, _, thread_id, _, run_id = response.headers["Content-Location"].split("/")
            created({"thread_id": thread_id, "run_id": run_id})
            async for line in response.aiter_lines():
                if (event := reader.feed(line)) is None:
                    continue
                if event.id is None and event.name == "metadata" and "Last-Event-ID" in headers:
                    continue  # a join begins with it
                events.append(event)
                if event.name == "end":
                    return
                if leaves and self._rng.random() < LEAVES:
                    raise httpx.ReadError("the client left")
        raise ValueError(f"a stream closed without an end: {events[-3:]}")

    def _http(self) -> httpx.AsyncClient:
        client: httpx.AsyncClient = self._rng.choice(self._clients).http.client
        return client

    async def _join(self, attempt: Attempt) -> Any:
        return await self.call(lambda c: c.runs.join(attempt.thread_id, attempt.run_id))

    async def _join_and_note(self, attempt: Attempt, source: str) -> Any:
        document = await self._join(attempt)
        assert attempt.run_id is not None
        self.answers[attempt.run_id].append((source, document))
        return document

    async def _look_again(self, ask: Ask, thread_id: str | None) -> None:
        """Whether others are told the same."""
        attempt = ask.accepted
        assert attempt is not None and attempt.run_id is not None
        if ask.way == "resumable":
            # Read whole by itself, at any process.
            again = Attempt(attempt.ticket, attempt.thread_id, attempt.run_id)
            while not _is_whole(again):
                again.told.append([])
                await self._join_stream(again, "-1", leaves=False)
            ask.events = again.told[-1]
        if self._rng.random() < 0.3 or ask.way in ("streamed", "resumable"):
            await self._join_and_note(attempt, "a later join")
        if ask.key and self._rng.random() < 0.7:
            self.repeated += 1
            await self._send(ask, thread_id, asyncio.Event())
            if ask.attempts[-1].run_id != attempt.run_id:
                ask.problem = f"its key made two runs: {ask.attempts}"


def _told(attempt: Attempt) -> Any:
    """The answer that a whole stream told."""
    values = [each.data for each in attempt.told[-1] if each.name == "values"]
    return values[-1] if values else f"no values among {attempt.told[-1]}"


def _is_whole(attempt: Attempt) -> bool:
    """Whether the stream was read to its end."""
    return bool(attempt.told and attempt.told[-1] and attempt.told[-1][-1].name == "end")


def _may_be_forgotten(ask: Ask) -> bool:
    """Whether its run may go with its process: docs/decisions/one-log-of-events.md says when."""
    return ask.way == "streamed" and ask.kind == "at once" and not (ask.key or ask.webhook)


def _headers(ask: Ask) -> dict[str, str]:
    return {"Idempotency-Key": ask.key} if ask.key else {}


def _note(attempt: Attempt, run: Any) -> None:
    attempt.run_id, attempt.thread_id = run["run_id"], run["thread_id"]


def _body(ask: Ask, ticket: str) -> dict[str, Any]:
    body: dict[str, Any] = {"metadata": {"ticket": ticket}}
    if ask.kind == "resume":
        body["command"] = {"resume": f"reply {ticket}"}
    else:
        body["input"] = {"ticket": ticket, "seconds": ask.seconds}
        if ask.n:
            body["input"]["n"] = ask.n
    if ask.kind == "kept":
        body["on_completion"] = "keep"
    optional = {
        "after_seconds": ask.after,
        "durability": ask.durability,
        "webhook": ask.webhook,
    }
    return body | {name: value for name, value in optional.items() if value is not None}


def _note_in_flight(attempt: Attempt, response: httpx.Response) -> None:
    """A 409 names the run that the key stands for."""
    if response.status_code == 409 and "Location" in response.headers:
        _, _, attempt.thread_id, _, attempt.run_id, _ = response.headers["Location"].split("/")


def _passing(error: Exception) -> bool:
    """Whether what went wrong may go right the next time."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in RETRIED
    return isinstance(error, httpx.TransportError)
