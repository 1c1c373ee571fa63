"""Searching records by the index zsets that they are in (lua/threads/search.lua)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runwait.storage.connection import Script, Scripts


def find(
    scripts: Scripts,
    records: str,
    keys: Sequence[str],
    order: str,
    skip: int,
    wanted: int,
    names: Sequence[str],
) -> tuple[list[Any], int, int]:
    """Find what is in all of some zsets, in the order of their scores.

    Args:
        scripts: where to ask.
        records: what the keys of the records begin with.
        keys: the zsets.
        order: asc or desc.
        skip: how many to leave out.
        wanted: how many are wanted after those.
        names: the fields of the records to be read.

    Returns:
        Rows of id and fields, how many match in all or -1, and what of `skip` was too many.
    """
    rows: list[Any] = []
    rank, keys = 0, list(keys)
    while True:
        total, rank, rarest, skip, found = scripts.call(
            _SEARCH,
            keys,
            records=records,
            order=order,
            rank=rank,
            skip=skip,
            wanted=wanted - len(rows),
            fields=[*names],
        )
        rows += found
        if rank < 0 or len(rows) >= wanted:
            return rows, total, skip
        keys.insert(0, keys.pop(rarest - 1))


_SEARCH = Script.load("threads/search", large=True)
