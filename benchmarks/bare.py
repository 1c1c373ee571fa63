"""Runwait against bare Flask routes that call the graph, both served by two workers.

They are asked in turns by the same clients, so that what else the machine does strikes both.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.load import gives, load, post, rush
from benchmarks.servers import BARE, ROOT, RUNWAIT, VALUE, Server, cpu, earlier, ratio, served

# How often one client asks a round: for a small answer, a large one, and a stream of tokens.
COUNT, LARGE_COUNT, STREAMS = 400, 20, 5
# For how many seconds a round many clients ask.
SECONDS = 3.0
TOKENS = 1000
# A megabyte of JSON, of objects as states have them.
LARGE = {"value": [{"number": n, "text": "word " * 30, "right": True} for n in range(5_400)]}
# What the kernel counts a process's CPU in, in seconds.
TICK = 0.01
# Seconds after which a new server has nothing more to do.
SETTLING = 2.0

Measure = Callable[[Server], Sequence[float]]


@dataclass
class Row:
    """A row of the table.

    Attributes:
        name, unit: what it shows.
        reach: of the ratio; with `of_runwait`, of Runwait's own figure.
        at_most: whether the reach is the most that may be; else the least.
        measured: by server, a figure a round.
    """

    name: str
    unit: str
    reach: float
    at_most: bool = True
    of_runwait: bool = False
    measured: dict[str, list[float]] = field(default_factory=dict)

    def line(self) -> str:
        """It, as it is printed."""
        bare, ours = self.measured["bare"], self.measured["runwait"]
        each = sorted(mine / its for mine, its in zip(ours, bare, strict=True))
        found = statistics.median(ours if self.of_runwait else each)
        is_reached = found <= self.reach if self.at_most else found >= self.reach
        reach = f"{'at most' if self.at_most else 'at least'} {self.reach:g}"
        line = (
            f"| {self.name:42} | {self._figure(bare):>10} | {self._figure(ours):>10} "
            f"| {f'{statistics.median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})':19} "
            f"| {f'{reach} {self.unit}' if self.of_runwait else reach:14} "
            f"| {'' if is_reached else 'missed':6} |"
        )
        if "earlier" in self.measured:
            line += f" {ratio(ours, self.measured['earlier']):.2f} times the earlier version's |"
        return line

    def _figure(self, each: Sequence[float]) -> str:
        median = statistics.median(each)
        return f"{f'{median:,.0f}' if median >= 100 else f'{median:.3g}'} {self.unit}".rstrip()


@dataclass
class Case:
    """What is measured at once: the rows that it fills, and how."""

    rows: list[Row]
    bare: Measure
    runwait: Measure


def measure(rounds: int, against: Path | None = None, only: str = "") -> None:
    """Measure and print.

    Args:
        rounds: how many.
        against: a checkout of an earlier version, with its packages in .venv, to be measured too.
        only: part of the names of the rows that are wanted.
    """
    cases = [
        each for each in _cases() if any(only.lower() in row.name.lower() for row in each.rows)
    ]
    commands = {"bare": (BARE, ROOT), "runwait": (RUNWAIT, ROOT)}
    if against is not None:
        commands["earlier"] = (earlier(against), against)
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(served(*each)) for name, each in commands.items()}
        for _ in range(rounds):
            for case in cases:
                for name, server in servers.items():
                    found = (case.bare if name == "bare" else case.runwait)(server)
                    for row, figure in zip(case.rows, found, strict=True):
                        row.measured.setdefault(name, []).append(figure)
    print(f"| {'':42} | Bare route | {'Runwait':10} | {'Ratio (its range)':19} | {'Reach':14} | |")
    print("|---|---|---|---|---|---|")
    for case in cases:
        for row in case.rows:
            print(row.line())


def _cases() -> list[Case]:
    """What is measured, in turns."""
    wait = "/runs/wait"
    echo, two_nodes = _run("echo"), _run("two_nodes")
    async_ = _run("echo_async")
    tokens = {"assistant_id": "tokens", "input": {"value": TOKENS}}
    theirs, ours = ({**tokens, "stream_mode": mode} for mode in ("messages", "messages-tuple"))
    streamed = _run("echo", stream_mode="values")
    large = _p50(wait, {**echo, "input": LARGE}, LARGE_COUNT)
    return [
        Case([Row("One client, p50", "ms", 1.0)], *[_p50(wait, echo, COUNT)] * 2),
        Case(
            [
                Row("8 clients, runs a second", "", 1.0, at_most=False),
                Row("8 clients, CPU a request, all processes", "ms", 1.0),
                Row("8 clients, CPU a request of the clients", "ms", 0.1, of_runwait=True),
            ],
            *[_asked_by(8, wait, echo)] * 2,
        ),
        Case(
            [
                Row("64 clients, runs a second", "", 1.0, at_most=False),
                Row("64 clients, CPU a request", "ms", 1.0),
                Row("64 clients, CPU a request of the clients", "ms", 0.1, of_runwait=True),
            ],
            *[_asked_by(64, wait, echo)] * 2,
        ),
        Case(
            [
                Row("An async graph, 64 clients, runs a second", "", 1.0, at_most=False),
                Row("An async graph, 64 clients, CPU a request", "ms", 1.0),
                Row("An async graph, CPU of the clients", "ms", 0.1, of_runwait=True),
            ],
            _asked_by(64, "/async/runs/wait", async_),
            _asked_by(64, wait, async_),
        ),
        Case(
            [
                Row("A kept run, two nodes, a new thread, p50", "ms", 2.0),
                Row("A kept run, two nodes, one thread, p50", "ms", 2.0),
                Row("A new thread, against a deleted run", "times", 2.5, of_runwait=True),
            ],
            _kept("/kept/runs/wait", two_nodes),
            _kept(wait, two_nodes),
        ),
        Case([Row("A 1 MB state in and out, p50", "ms", 1.3)], *[large] * 2),
        Case([Row("First event of a stream, p50", "ms", 1.2)], *[_first(streamed, b"event: ")] * 2),
        Case(
            [Row("First values of a stream, p50", "ms", 1.2)], *[_first(streamed, b"event: v")] * 2
        ),
        Case(
            [Row("Tokens a second, one stream", "", 0.9, at_most=False)],
            _tokens(theirs, 1, STREAMS),
            _tokens(ours, 1, STREAMS),
        ),
        Case(
            [Row("Tokens a second, one resumable stream", "", 0.62, at_most=False)],
            _tokens(theirs, 1, STREAMS),
            _tokens({**ours, "stream_resumable": True}, 1, STREAMS),
        ),
        Case(
            [Row("Tokens a second, 50 streams at once", "", 0.9, at_most=False)],
            _tokens(theirs, 50, 1),
            _tokens(ours, 50, 1),
        ),
        Case(
            [
                Row("From its start to the first answer", "s", 3.0, of_runwait=True),
                Row("An idle web process after one run, RSS", "MB", 100, of_runwait=True),
                Row("An idle web process after one run, PSS", "MB", 100, of_runwait=True),
            ],
            *[_start] * 2,
        ),
    ]


def _run(graph: str, **fields: Any) -> dict[str, Any]:
    return {"assistant_id": graph, "input": VALUE, **fields}


def _p50(path: str, body: dict[str, Any], times: int) -> Measure:
    """One client's median, in ms, of so many answers that give the input."""
    request, is_right = post(path, body), gives(body["input"])
    return lambda server: [load(server.port, request, is_right, times=times).p50 * 1000]


def _asked_by(clients: int, path: str, body: dict[str, Any]) -> Measure:
    """How many answers clients have a second, and what CPU each answer takes, in ms.

    First that of all processes of the server, Valkey too; then the clients' own.
    """
    request, is_right = post(path, body), gives(body["input"])

    def measure(server: Server) -> Sequence[float]:
        processes = server.processes()
        before = cpu(processes)
        answers = rush(server.port, request, is_right, clients, SECONDS)
        theirs, own = max(cpu(processes) - before, TICK), answers.cpu
        return answers.rate, *(each / len(answers.took) * 1000 for each in (theirs, own))

    return measure


def _kept(path: str, body: dict[str, Any]) -> Measure:
    """The medians, in ms, on new threads and on one; and the former over that of deleted runs."""
    fields = {**body, "on_completion": "keep"}
    new, deleted = _p50(path, fields, COUNT), _p50("/runs/wait", body, COUNT)

    def measure(server: Server) -> Sequence[float]:
        of_one = f"/threads/{uuid4()}/runs/wait"
        one = _p50(of_one, {**body, "if_not_exists": "create"}, COUNT)
        on_new, on_one, without = (each(server)[0] for each in (new, one, deleted))
        return on_new, on_one, on_new / without

    return measure


def _first(body: dict[str, Any], mark: bytes) -> Measure:
    """One client's median, in ms, until a stream has come as far as the mark."""
    request = post("/runs/stream", body)

    def measure(server: Server) -> Sequence[float]:
        answers = load(server.port, request, lambda _: True, times=COUNT, mark=mark)
        return [statistics.median(answers.first) * 1000]

    return measure


def _tokens(body: dict[str, Any], clients: int, times: int) -> Measure:
    """How many tokens a second come, on all streams together."""
    request = post("/runs/stream", body)

    def is_right(stream: bytes) -> bool:
        return stream.count(b"event: messages") >= TOKENS

    def measure(server: Server) -> Sequence[float]:
        answers = load(server.port, request, is_right, clients, times=times)
        return [answers.rate * TOKENS]

    return measure


def _start(server: Server) -> Sequence[float]:
    """What another such server takes: seconds to its first answer, and the MB of a worker."""
    with served(server.command, server.folder, warming=1) as another:
        time.sleep(SETTLING)
        used = [each.memory_full_info() for each in another.workers()]
        rss, pss = max(each.rss for each in used), max(each.pss for each in used)
    return another.starting, rss / 1e6, pss / 1e6
