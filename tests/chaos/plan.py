"""What is asked for: runs of mixed kinds, drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from tests.e2e.sse import Sent

Kind = Literal["at once", "scheduled", "kept", "on a thread", "resume"]
Way = Literal["waited for", "streamed", "resumable", "in the background"]


@dataclass
class Attempt:
    """One sending of a run; `run_id` and `thread_id` are there once the headers came.

    Attributes:
        told: of a stream, the events that the client pieced together, each time from the beginning.
    """

    ticket: str
    thread_id: str | None
    run_id: str | None = None
    told: list[list[Sent]] = field(default_factory=list, repr=False)


@dataclass
class Ask:
    """A run to be had.

    Attributes:
        way: how it is asked for.
        key: its Idempotency-Key: it is then sent again under the same ticket.
        twice: two clients send it at the same time, with the same key.
        webhook: where its end is to be told.
        attempts: how it was sent; only the last can have been accepted for sure.
        answer: what came.
        events: of a stream that can be resumed, what is to be had of it after its end.
        problem: why it counts as lost or wrong.
    """

    number: int
    kind: Kind
    graph: str
    seconds: float
    n: int = 0
    way: Way = "waited for"
    key: str | None = None
    twice: bool = False
    webhook: str | None = None
    after: float | None = None
    durability: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    answer: dict[str, Any] | None = None
    events: list[Sent] = field(default_factory=list, repr=False)
    problem: str | None = None
    lost: bool = False

    @property
    def accepted(self) -> Attempt | None:
        """The attempt whose headers came."""
        return next((each for each in self.attempts if each.run_id is not None), None)


@dataclass
class Conversation:
    """Runs that are sent one after another: to one thread, where there are several.

    Attributes:
        together: each is sent once the one before was accepted, rather than once it ended.
        batch: they are sent as one batch; each has a thread of its own.
        thread_id: the thread's, if it is made before the first run rather than by it.
        watched: whether a client follows that thread, from before its first run.
        seen: what that client was told, of whichever run.
        problem: what kept it from being told all.
    """

    asks: list[Ask]
    together: bool = False
    batch: bool = False
    thread_id: str | None = None
    watched: bool = False
    seen: list[Sent] = field(default_factory=list, repr=False)
    problem: str | None = None


def draw(rng: random.Random, count: int, hooks: str | None) -> list[Conversation]:
    """So many runs, in conversations.

    Args:
        hooks: the URL below which webhooks go; None for no webhooks.
    """
    numbers = iter(range(count))
    left = count
    conversations = []
    while left:
        dice = rng.random()
        if left >= 2 and dice < 0.08:
            length = rng.randint(2, min(left, 6))
            conversation = _thread(rng, [next(numbers) for _ in range(length)])
        elif left >= 2 and dice < 0.14:
            length = 2
            conversation = _approval(rng, [next(numbers) for _ in range(2)])
        elif left >= 2 and dice < 0.18:
            length = rng.randint(2, min(left, 6))
            conversation = _batch(rng, [next(numbers) for _ in range(length)])
        else:
            length = 1
            conversation = Conversation([_single(rng, next(numbers), dice)])
        left -= length
        for ask in conversation.asks:
            if hooks is not None and rng.random() < 0.3:
                ask.webhook = f"{hooks}/{ask.number}"
            if conversation.batch:
                continue
            ask.way = rng.choices(
                ["waited for", "streamed", "resumable", "in the background"], [4, 1.5, 3, 1.5]
            )[0]
            # A resume that is sent again must be known as the same.
            if ask.kind == "resume" or rng.random() < 0.3:
                ask.key = f"{rng.getrandbits(64):x}-{ask.number}"
                ask.twice = rng.random() < 0.3
        conversations.append(conversation)
    return conversations


def _batch(rng: random.Random, numbers: list[int]) -> Conversation:
    key = f"{rng.getrandbits(64):x}-{numbers[0]}" if rng.random() < 0.5 else None
    asks = [_single(rng, number, rng.random()) for number in numbers]
    for ask in asks:
        ask.way, ask.key = "in the background", key
    return Conversation(asks, batch=True)


def _single(rng: random.Random, number: int, dice: float) -> Ask:
    after = rng.uniform(0.2, 4) if rng.random() < 0.3 else None
    if dice < 0.4:
        ask = _steps(rng, number, "kept")
        ask.after = after
        return ask
    graph = rng.choice(["quick_sync", "quick_async"])
    # Some end before they are recorded at all.
    seconds = rng.choice([0, rng.uniform(0, 0.1), rng.uniform(0, 4)])
    return Ask(number, "at once" if after is None else "scheduled", graph, seconds, after=after)


def _steps(rng: random.Random, number: int, kind: Kind) -> Ask:
    graph = rng.choice(["steps_sync", "steps_async"])
    ask = Ask(number, kind, graph, rng.uniform(0, 0.6), n=rng.randint(1, 5))
    ask.durability = rng.choice(["sync", "async", "exit", None])
    return ask


def _thread(rng: random.Random, numbers: list[int]) -> Conversation:
    asks = [_steps(rng, number, "on a thread") for number in numbers]
    conversation = Conversation(asks, together=rng.random() < 0.7)
    if rng.random() < 0.5:
        conversation.thread_id = str(UUID(int=rng.getrandbits(128), version=4))
        conversation.watched = rng.random() < 0.7
    else:
        asks[0].kind = "kept"
    return conversation


def _approval(rng: random.Random, numbers: list[int]) -> Conversation:
    first, second = numbers
    asks = [
        Ask(first, "kept", "approval", rng.uniform(0, 0.5)),
        Ask(second, "resume", "approval", 0),
    ]
    for ask in asks:
        ask.durability = rng.choice(["sync", "async", "exit", None])
    return Conversation(asks)
