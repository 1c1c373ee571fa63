"""Searching the store by meaning: a page of ten, of items of 1,536 numbers each."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence

from langgraph.store.base import PutOp
from langgraph.store.base.embed import ensure_embeddings

from benchmarks.servers import stored
from runwait.storage import vectors
from runwait.storage.embedding import Embedder
from runwait.storage.store import PAGE_ITEMS, RedisStore
from runwait.storage.vectors import Index

DIMS = 1536
ITEMS = (1000, 20_000)


def measure(rounds: int) -> None:
    """Measure and print."""
    print(f"{'items':>10}{'with numpy':>16}{'without':>16}")
    numpy = vectors.numpy
    with stored() as (storage, client):
        index = Index(Embedder(ensure_embeddings(_embed), DIMS), "random", DIMS, ["text"])
        store = RedisStore(storage, "runwait", index)
        for items in ITEMS:
            client.flushdb()
            for start in range(0, items, PAGE_ITEMS):
                numbers = range(start, min(items, start + PAGE_ITEMS))
                store.batch([PutOp(("n",), str(n), {"text": f"text {n}"}) for n in numbers])
            took = []
            for found in (numpy(), None):
                vectors.numpy = lambda found=found: found
                store.search(("n",), query="q")  # what is imported is imported once
                took.append(statistics.median(_timed(store) for _ in range(rounds)))
            vectors.numpy = numpy
            print(f"{items:>10}{took[0]:>14.2f} s{took[1]:>14.2f} s")


def _timed(store: RedisStore) -> float:
    began = time.perf_counter()
    store.search(("n",), query="q", limit=10)
    return time.perf_counter() - began


def _embed(texts: Sequence[str]) -> list[list[float]]:
    return [[random.gauss(0, 1) for _ in range(DIMS)] for _ in texts]
