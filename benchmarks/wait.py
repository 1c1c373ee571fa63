"""Runwait against a bare Flask route that calls `graph.invoke`.

Both serve the same graph of one node under the same gunicorn settings, and are asked in turns by
the same client, so that what else the machine does strikes both.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time

from benchmarks.servers import BARE, RUNWAIT, Server, ask, body, ratio, served

# Runs of one client a round.
COUNT = 400
CLIENTS = 8
# How long the clients rush, a round.
SECONDS = 3.0


def measure(rounds: int) -> None:
    """Measure and print."""
    configs = {"bare": BARE, "runwait": RUNWAIT}
    alone: dict[str, list[float]] = {name: [] for name in configs}
    rush: dict[str, list[float]] = {name: [] for name in configs}
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(served(each)) for name, each in configs.items()}
        for _ in range(rounds):
            for name, server in servers.items():
                alone[name].append(_p50(server))
            for name, server in servers.items():
                rush[name].append(_throughput(server))
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
    deadline = time.perf_counter() + SECONDS
    counts = [0] * CLIENTS
    content = body("echo")

    def work(number: int) -> None:
        connection = server.connect()
        while time.perf_counter() < deadline:
            ask(connection, content)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / SECONDS
