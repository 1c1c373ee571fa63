"""Clients that do not give up: the Python SDK, and what its user would do where it fails."""

from __future__ import annotations

import asyncio
import random
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import httpx
from langgraph_sdk import get_client

from tests.chaos.plan import Ask, Attempt, Conversation

PAUSE_SECONDS = 0.3
# A client's socket is silent for as long while its process is paused.
READ_SECONDS = 60.0
RETRIED = (429, 502, 503, 504)


class Clients:
    """Has conversations with whichever of the servers answers.

    Attributes:
        answers: by run id, each document that anybody was given, and where it came from.
        refused: how often an attempt was refused, or broke before anything was promised.
        joined: how often a run was joined after its connection broke.
        repeated: how often a request was repeated with its key after its end.
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
        self.ended = 0

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
        thread_id = conversation.thread_id
        if thread_id is not None:
            await self.call(lambda c: c.threads.create(thread_id=thread_id, if_exists="do_nothing"))
        under_way = []
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

    async def _ask(self, ask: Ask, thread_id: str | None, accepted: asyncio.Event) -> None:
        try:
            ask.answer = await self._answer(ask, thread_id, accepted)
            await self._look_again(ask, thread_id)
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
            client = self._rng.choice(self._clients)

            def created(run: Any, attempt: Attempt = attempt) -> None:
                attempt.run_id, attempt.thread_id = run["run_id"], run["thread_id"]
                accepted.set()

            try:
                document = await client.runs.wait(
                    thread_id,
                    ask.graph,
                    headers={"Idempotency-Key": ask.key} if ask.key else None,
                    on_run_created=created,
                    raise_error=False,
                    **_body(ask, ticket),
                )
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
                document = await self._join(attempt)
                source = "a join after a break"
            assert attempt.run_id is not None
            self.answers[attempt.run_id].append((source, document))
            return document

    async def _join(self, attempt: Attempt) -> Any:
        return await self.call(lambda c: c.runs.join(attempt.thread_id, attempt.run_id))

    async def _look_again(self, ask: Ask, thread_id: str | None) -> None:
        """Whether others are told the same."""
        attempt = ask.accepted
        assert attempt is not None and attempt.run_id is not None
        if self._rng.random() < 0.3:
            document = await self._join(attempt)
            self.answers[attempt.run_id].append(("a later join", document))
        if ask.key and self._rng.random() < 0.7:
            self.repeated += 1
            document = await self._send(ask, thread_id, asyncio.Event())
            if ask.attempts[-1].run_id != attempt.run_id:
                ask.problem = f"its key made two runs: {ask.attempts}"


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
