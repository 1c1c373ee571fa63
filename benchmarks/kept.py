"""A kept run against a deleted one: a graph of two nodes, one client.

The three kinds take turns run by run.
"""

from __future__ import annotations

import statistics
from uuid import uuid4

from benchmarks.servers import ask, body, ratio, served

# Runs of each kind a round.
COUNT = 300


def measure(rounds: int) -> None:
    """Measure and print."""
    kinds = {
        "deleted": ("/runs/wait", body("two_nodes")),
        "kept, a new thread": ("/runs/wait", body("two_nodes", on_completion="keep")),
        "kept, one thread": (
            f"/threads/{uuid4()}/runs/wait",
            body("two_nodes", if_not_exists="create"),
        ),
    }
    p50s: dict[str, list[float]] = {name: [] for name in kinds}
    with served() as server:
        connection = server.connect()
        for _ in range(rounds):
            took: dict[str, list[float]] = {name: [] for name in kinds}
            for _ in range(COUNT):
                for name, (path, content) in kinds.items():
                    took[name].append(ask(connection, content, path))
            for name, each in took.items():
                p50s[name].append(statistics.median(each))
    print(f"{'':24}{'p50':>10}{'ratio':>8}   reach")
    base = p50s["deleted"]
    for name, each in p50s.items():
        print(
            f"{name:24}{statistics.median(each) * 1000:>7.2f} ms{ratio(each, base):>8.2f}"
            f"   {'' if each is base else 'at most 2.5'}"
        )
