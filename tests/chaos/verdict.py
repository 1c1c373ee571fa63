"""What came of the runs: counted, with the reasons."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

import redis

from tests.chaos.clients import Clients
from tests.chaos.graphs import EVENTS
from tests.chaos.plan import Ask, Attempt, Conversation
from tests.e2e.sse import Sent
from tests.receiver import Received

TAG = "{runwait}"
# A receiver's longest time between its answer and its note of that.
NOTE_SECONDS = 5.0


@dataclass
class Verdict:
    """The counts, and a line for each thing that is not as it should be."""

    asked: int
    right: int = 0
    lost: int = 0
    wrong: int = 0
    twice: int = 0
    streams: int = 0
    streams_whole: int = 0
    webhooks: int = 0
    webhooks_lost: int = 0
    threads: int = 0
    threads_whole: int = 0
    crons: int = 0
    crons_right: int = 0
    cron_times: int = 0
    leftovers: int = 0
    calm: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing was lost, nothing ended twice and nothing is left over, in a storm."""
        return (
            not self.calm
            and self.right == self.asked
            and self.threads_whole == self.threads
            and self.streams_whole == self.streams
            and self.crons_right == self.crons > 0
            and not (self.lost or self.wrong or self.twice or self.webhooks_lost or self.leftovers)
        )

    def __str__(self) -> str:
        lines = [
            ("answers right", f"{self.right:,} of {self.asked:,}"),
            ("answers lost", self.lost),
            ("answers wrong", self.wrong),
            ("runs finished twice", self.twice),
            ("streams whole", f"{self.streams_whole} of {self.streams}"),
            ("webhooks lost", f"{self.webhooks_lost} of {self.webhooks}"),
            ("kept threads whole", f"{self.threads_whole} of {self.threads}"),
            ("crons right", f"{self.crons_right} of {self.crons}, due {self.cron_times} times"),
            ("left over in Redis", self.leftovers),
        ]
        return "\n".join(f"{name:<22}{value}" for name, value in lines)


async def judge(
    conversations: list[Conversation],
    clients: Clients,
    hooks: Hooks | None,
    server: redis.Redis,
    patience: float,
) -> Verdict:
    """Look at everything, once no run is under way.

    Args:
        patience: seconds that webhooks and runs that nobody knows of may still take.
    """
    asks = [ask for each in conversations for ask in each.asks]
    verdict = Verdict(len(asks))
    deadline = time.monotonic() + patience
    clients.ask_until(deadline)
    verdict.leftovers = await _settled(server, deadline, verdict.notes)
    for each in conversations:
        alone = [Conversation([ask]) for ask in each.asks]
        for conversation in alone if each.batch else [each]:
            await _judge_thread(conversation, clients, verdict)
        _judge_watch(each, verdict)
    if hooks is not None:
        await _judge_webhooks(asks, hooks, clients, verdict)
    for ask in asks:
        _judge_stream(ask, verdict)
        _judge_answer(ask, verdict)
    for run_id, answers in clients.answers.items():
        if any(document != answers[0][1] for _, document in answers):
            verdict.twice += 1
            verdict.notes.append(f"run {run_id} ended twice: {answers}")
    return verdict


def _judge_answer(ask: Ask, verdict: Verdict) -> None:
    if ask.answer is None:
        verdict.lost += 1
        verdict.notes.append(f"lost: {ask.problem or 'never sent'}: {ask}")
        return
    runs = {each.run_id for each in ask.attempts if each.run_id is not None}
    if len(runs) != 1:
        ask.problem = f"{len(runs)} runs for one key"
    if ask.problem is None and not _fits(ask, ask.answer):
        ask.problem = "not what was asked for"
    if ask.problem is None:
        verdict.right += 1
    else:
        verdict.wrong += 1
        verdict.notes.append(f"wrong: {ask.problem}: {ask}")


def _fits(ask: Ask, answer: Any) -> bool:
    """Whether an answer is what the input must give."""
    attempt = ask.accepted
    if attempt is None or not isinstance(answer, dict):
        return False
    ticket = attempt.ticket
    if ask.kind == "resume":
        return bool(answer["reply"] == f"reply {ticket}" and answer["execution"])
    if answer.get("ticket") != ticket or answer.get("seconds") != ask.seconds:
        return False
    if ask.graph == "approval":
        return [each["value"] for each in answer["__interrupt__"]] == [{"ticket": ticket}]
    if ask.graph.startswith("quick"):
        return bool(answer["answer"] == f"to {ticket}" and answer["execution"])
    steps = _done(answer["steps"])
    expected = [(ticket, str(number + 1)) for number in range(ask.n)]
    alone = ask.kind == "kept"
    return answer["n"] == ask.n and (steps if alone else steps[-ask.n :]) == expected


def _done(steps: list[str]) -> list[tuple[str, str]]:
    """Ticket and number of each step."""
    return [(ticket, number) for ticket, number, _ in (step.split(" ") for step in steps)]


# Streams


def _judge_stream(ask: Ask, verdict: Verdict) -> None:
    """Whether what clients were told is right; of a stream that can be resumed, whether all is."""
    if ask.way not in ("streamed", "resumable") or ask.answer is None or ask.accepted is None:
        return
    verdict.streams += 1
    try:
        told = [events for each in ask.attempts if each.run_id for events in each.told if events]
        if ask.way == "resumable":
            _look_at_events(ask, ask.accepted)
            for events in told:
                odd = [x for x, y in zip(events, ask.events, strict=False) if x != y]
                _require(not odd and len(events) <= len(ask.events), f"a client was told {odd[:5]}")
        else:
            for events in told:
                _require(events[0].name == "metadata", f"it began with {events[0]}")
        verdict.streams_whole += 1
    except ValueError as error:
        verdict.notes.append(f"a stream is not whole: {error}: {ask}{_listed(ask.events)}")


def _judge_watch(conversation: Conversation, verdict: Verdict) -> None:
    """Whether who followed a thread was told all of its runs that can be resumed."""
    if not conversation.watched:
        return
    verdict.streams += 1
    try:
        _require(conversation.problem is None, str(conversation.problem))
        # Of a run that cannot be resumed, the process that executes it has them without ids.
        seen = [each for each in conversation.seen if each.id is not None]
        ids, places = [each.id for each in seen], list(map(_place, seen))
        _require(all(x < y for x, y in pairwise(places)), "the ids do not grow")
        for ask in conversation.asks:
            own = [each.id for each in ask.events]
            told = [each for each in ids if each in own]
            _require(told == own, f"of {own} were told {told}")
        verdict.streams_whole += 1
    except ValueError as error:
        listed = _listed(conversation.seen)
        verdict.notes.append(f"who followed a thread: {error}: {conversation}{listed}")


def _place(event: Sent) -> tuple[int, int]:
    token, number = str(event.id).split("-")
    return int(token), int(number)


def _listed(events: list[Sent]) -> str:
    return "".join(f"\n  {each.id} {each.name} {each.data}" for each in events)


def _look_at_events(ask: Ask, attempt: Attempt) -> None:
    """The events of a stream that can be resumed, as it is to be had after its end."""
    events = ask.events
    _require(all(each.id is not None for each in events), "an event has no id")
    ids = list(map(_place, events))
    _require(all(later > earlier for earlier, later in pairwise(ids)), "the ids do not grow")
    # Whenever another process, or another attempt of the same one, has the run, that is said first.
    attempts = []
    parts: dict[int, list[Sent]] = defaultdict(list)
    for (token, _), each in zip(ids, events, strict=True):
        parts[token].append(each)
    for first, *rest in parts.values():
        _require(first.name == "metadata", f"{first} begins a part of it")
        ours = {"thread_id": attempt.thread_id, "run_id": attempt.run_id}
        _require({**first.data, **ours} == first.data, f"{first} is of another run")
        attempts.append(first.data["attempt"])
        _require(all(each.name != "metadata" for each in rest), "a part of it begins twice")
    _require(all(x < y for x, y in pairwise(attempts)), f"its attempts were {attempts}")
    waits = ask.graph == "approval" and ask.kind != "resume"
    end = {"run_id": attempt.run_id, "status": "interrupted" if waits else "success"}
    ends = [each.data for each in events if each.name in ("end", "error")]
    _require(ends == [end], f"its ends were {ends}")
    values = [each.data for each in events if each.name == "values"]
    _require(values[-1:] == [ask.answer], "its last values are not the answer")
    told: dict[str, list[int]] = defaultdict(list)
    for each in events:
        if each.name == "custom":
            told[each.data["execution"]].append(each.data["number"])
    for execution, numbers in told.items():
        _require(numbers == list(range(len(numbers))), f"{execution} told {numbers}")
    for execution in _executions(ask, attempt):
        _require(len(told[execution]) == EVENTS, f"{execution} told {told[execution]}")


def _executions(ask: Ask, attempt: Attempt) -> list[str]:
    """The executions of nodes whose results are in a run's answer."""
    answer = ask.answer or {}
    steps = [each.split(" ") for each in answer.get("steps", ())]
    own = [execution for ticket, _, execution in steps if ticket == attempt.ticket]
    return own + ([answer["execution"]] if "execution" in answer else [])


# Threads


async def _judge_thread(conversation: Conversation, clients: Clients, verdict: Verdict) -> None:
    first = conversation.asks[0]
    if first.kind not in ("kept", "on a thread"):
        return
    verdict.threads += 1
    thread_id = first.accepted.thread_id if first.accepted else None
    try:
        assert thread_id is not None, "its first run was not accepted"
        await _look_at_thread(thread_id, conversation, clients, verdict)
        verdict.threads_whole += 1
    except Exception as error:
        verdict.notes.append(f"thread {thread_id} is not whole: {error!r}: {conversation.asks}")


async def _look_at_thread(
    thread_id: str, conversation: Conversation, clients: Clients, verdict: Verdict
) -> None:
    thread = await clients.call(lambda c: c.threads.get(thread_id))
    runs = await clients.call(lambda c: c.runs.list(thread_id, limit=1000))
    history = await clients.call(lambda c: c.threads.get_history(thread_id, limit=1000))
    asks = conversation.asks
    waits = asks[-1].graph == "approval" and asks[-1].kind != "resume"
    _require(thread["status"] == ("interrupted" if waits else "idle"), thread["status"])
    tickets = {run["run_id"]: run["metadata"]["ticket"] for run in runs}
    sent = list(dict.fromkeys(each.ticket for ask in asks for each in ask.attempts))
    for ask in asks:
        _require(ask.accepted is not None and ask.accepted.run_id in tickets, "a run is missing")
    for run in runs:
        ended = "interrupted" if run["kwargs"].get("input") and _waits_first(asks) else "success"
        _require(run["status"] == ended, f"run {run['run_id']} is {run['status']}")

    # The history is one line, without what anybody wrote who had lost the thread.
    for later, earlier in pairwise(history):
        parent = later["parent_checkpoint"]
        _require(
            parent is not None
            and parent["checkpoint_id"] == earlier["checkpoint"]["checkpoint_id"],
            f"{later['checkpoint']} does not follow {earlier['checkpoint']}",
        )
        _require(later["metadata"]["step"] > earlier["metadata"]["step"], "steps go back")
    _require(history[-1]["parent_checkpoint"] is None, "the history has no beginning")
    writers = [tickets[state["metadata"]["run_id"]] for state in reversed(history)]
    turns = [ticket for ticket, _ in groupby(writers)]
    _require(turns == _in_order(sent, turns), f"the turns were {turns}")

    values = thread["values"]
    answer = dict(asks[-1].answer or {})
    answer.pop("__interrupt__", None)
    _require(values == answer, f"it holds {values}, and the last answer is {answer}")
    if asks[0].graph == "approval":
        return
    steps = values["steps"]
    n = {each.ticket: ask.n for ask in asks for each in ask.attempts}
    expected = [(ticket, str(number + 1)) for ticket in turns for number in range(n[ticket])]
    _require(_done(steps) == expected, f"it holds {steps}")
    for ask in asks:
        own = (ask.answer or {})["steps"]
        _require(own == steps[: len(own)], f"{own} was answered, and it holds {steps}")
    seen = {step for state in history for step in state["values"].get("steps", [])}
    if len(seen) != len(steps):
        verdict.twice += 1
        _require(False, f"a step is there twice: {sorted(seen)}")


def _waits_first(asks: list[Ask]) -> bool:
    """Whether the first of these runs ends with a question."""
    return asks[0].graph == "approval"


def _in_order(sent: Iterable[str], turns: list[str]) -> list[str]:
    return [ticket for ticket in sent if ticket in turns]


def _require(true: bool, otherwise: str) -> None:
    if not true:
        raise ValueError(otherwise)


# Webhooks


@dataclass
class Hooks:
    """What the receiver was told.

    Attributes:
        received: all requests.
        taken: the ids of those that it answered with 200.
    """

    received: list[Received]
    taken: set[str]


async def _judge_webhooks(
    asks: list[Ask], hooks: Hooks, clients: Clients, verdict: Verdict
) -> None:
    expected = {ask.accepted.run_id: ask for ask in asks if ask.webhook and ask.accepted}
    verdict.webhooks = len(expected)
    # The outbox is empty: nothing can come but what the receiver is just noting.
    deadline = time.monotonic() + NOTE_SECONDS
    while True:
        taken = {each.json["run_id"] for each in hooks.received if each.id in hooks.taken}
        missing = expected.keys() - taken
        if not missing or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.2)
    verdict.webhooks_lost = len(missing)
    verdict.notes += [f"webhook of run {run_id} is lost: {expected[run_id]}" for run_id in missing]
    ids: dict[str, set[str]] = defaultdict(set)
    bodies: dict[str, list[Any]] = defaultdict(list)
    for each in hooks.received:
        body = each.json
        run_id = body["run_id"]
        clients.answers[run_id].append(("a webhook", body["values"]))
        ids[run_id].add(each.id)
        body.pop("webhook_sent_at")
        if body not in bodies[run_id]:
            bodies[run_id].append(body)
    for run_id in ids:
        if len(ids[run_id]) > 1 or len(bodies[run_id]) > 1:
            verdict.twice += 1
            verdict.notes.append(f"webhooks of run {run_id} differ: {ids[run_id]} {bodies[run_id]}")


# Redis


async def _settled(server: redis.Redis, deadline: float, notes: list[str]) -> int:
    """Wait until Redis holds nothing of runs under way; how much is left then."""
    while True:
        left = await asyncio.to_thread(_left_over, server)
        if not left:
            return 0
        if time.monotonic() > deadline:
            notes += [f"left over: {each}" for each in left]
            return len(left)
        await asyncio.sleep(0.5)


def _left_over(server: redis.Redis) -> list[str]:
    left = []
    for name in ("leases", "ready", "queued", "outbox"):
        left += [f"{name}: {each!r}" for each in server.zrange(f"{TAG}:{name}", 0, -1)]
    for key in server.scan_iter(f"{TAG}:*", count=1000):
        _, family, *rest = key.decode().split(":")
        endless = server.ttl(key) == -1
        if family == "waiting" and endless:
            left.append(f"{key!r} has no end")
        elif family == "run" and endless:
            record = server.hgetall(key)
            if b"kept" not in record or b"ended_by" not in record:
                left.append(f"{key!r}: {record}")
        elif family == "thread" and rest[1:] == ["queue"]:
            left.append(f"{key!r}: {server.lrange(key, 0, -1)}")
        elif family == "thread" and len(rest) == 1:
            thread = server.hgetall(key)
            if b"temporary" in thread or b"active" in thread:
                left.append(f"{key!r}: {thread}")
    return left
