"""Searching 100,000 threads by their metadata: a page of ten, by the records and their index."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from typing import Any
from uuid import uuid4

from benchmarks.servers import Loading, stored
from runwait.storage.threads import ThreadNotFound, ThreadQuery, ThreadRecords

THREADS = 100_000
# Searches of each kind a round.
COUNT = 20


def measure(rounds: int) -> None:
    """Measure and print."""
    with stored() as (storage, client):
        with Loading(client, [None]) as loading:
            records = ThreadRecords(loading, "runwait", None)
            for _ in range(THREADS):
                # Each is read once it is made, and then is not made yet.
                with contextlib.suppress(ThreadNotFound):
                    records.create(str(uuid4()), _metadata())
        records = ThreadRecords(storage, "runwait", None)
        if records.count(ThreadQuery()) != THREADS:
            raise RuntimeError(f"not all of the {THREADS} threads were made")
        took: dict[str, list[float]] = {}
        for _ in range(rounds * COUNT):
            for name, query in _queries().items():
                began = time.perf_counter()
                records.search(query)
                took.setdefault(name, []).append(time.perf_counter() - began)
    print(f"{'terms found in':32}{'p50':>10}{'p99':>10}   reach")
    for name, each in took.items():
        print(
            f"{name:32}{statistics.median(each) * 1000:>7.2f} ms"
            f"{statistics.quantiles(each, n=100)[98] * 1000:>7.2f} ms   at most 10 ms"
        )


def _metadata() -> dict[str, Any]:
    """What a thread has: each value as often as any other of its name."""
    trial = random.randrange(2)
    return {
        "user": random.randrange(10_000),
        "team": random.randrange(100),
        "plan": random.randrange(10),
        "trial": trial,
        # No thread has the same of both.
        "paid": 1 - trial,
    }


def _queries() -> dict[str, ThreadQuery]:
    """Searches for values that some threads have, by how many have each."""
    of = _metadata()
    few, some, many, half = ({name: of[name]} for name in ("user", "team", "plan", "trial"))
    return {
        "10 threads": ThreadQuery(metadata=few),
        "50,000": ThreadQuery(metadata=half),
        "100,000": ThreadQuery(status="idle"),
        "10 and 50,000": ThreadQuery(metadata=few | half),
        "1,000 and 10,000": ThreadQuery(metadata=some | many),
        "10,000 and 50,000": ThreadQuery(metadata=many | half),
        "1,000, 10,000 and 50,000": ThreadQuery(metadata=some | many | half),
        "50,000 and 100,000": ThreadQuery(metadata=half, status="idle"),
        "50,000 and the other 50,000": ThreadQuery(metadata=half | {"paid": of["trial"]}),
    }
