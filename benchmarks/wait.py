"""Runwait against a bare Flask route that calls `graph.invoke`.

Both serve the same graph of one node from two workers, and are asked in turns by the same client,
so that what else the machine does strikes both.
"""

from __future__ import annotations

import contextlib
import statistics
from pathlib import Path

from benchmarks.servers import (
    BARE,
    CLIENTS,
    ROOT,
    RUNWAIT,
    Server,
    ask,
    body,
    earlier,
    ratio,
    rush,
    served,
)

# Runs of one client a round.
COUNT = 400


def measure(rounds: int, against: Path | None = None) -> None:
    """Measure and print.

    Args:
        rounds: how many.
        against: a checkout of an earlier version, with its packages in .venv, to be measured too.
    """
    commands = {"bare": (BARE, ROOT), "runwait": (RUNWAIT, ROOT)}
    if against is not None:
        commands["earlier"] = (earlier(against), against)
    alone: dict[str, list[float]] = {name: [] for name in commands}
    rush: dict[str, list[float]] = {name: [] for name in commands}
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(served(*each)) for name, each in commands.items()}
        for _ in range(rounds):
            for name, server in servers.items():
                alone[name].append(_p50(server))
            for name, server in servers.items():
                rush[name].append(_throughput(server))
    if against is not None:
        p50, runs = (ratio(each["runwait"], each["earlier"]) for each in (alone, rush))
        print(
            f"against {against}: one client's p50 {p50:.2f} times, runs a second {runs:.2f} times"
        )
    print(f"{'':24}{'bare':>10}{'Runwait':>10}{'ratio':>8}   reach")
    print(
        f"{'one client, p50':24}{statistics.median(alone['bare']) * 1000:>7.2f} ms"
        f"{statistics.median(alone['runwait']) * 1000:>7.2f} ms"
        f"{ratio(alone['runwait'], alone['bare']):>8.2f}   at most 2.5"
    )
    print(
        f"{f'{CLIENTS} clients, runs/s':24}{statistics.median(rush['bare']):>10.0f}"
        f"{statistics.median(rush['runwait']):>10.0f}"
        f"{ratio(rush['runwait'], rush['bare']):>8.2f}   at least 0.6"
    )


def _p50(server: Server) -> float:
    """One client's median, in seconds."""
    connection, content = server.connect(), body("echo")
    return statistics.median(ask(connection, content) for _ in range(COUNT))


def _throughput(server: Server) -> float:
    """Runs a second that all clients get done."""
    content = body("echo")
    return rush(server, lambda connection: ask(connection, content))
