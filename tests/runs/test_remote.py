"""Waits for runs of other processes, as they are told and as they ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from runwait.runs.executor import Executor
from runwait.runs.remote import RemoteWaits, RunNotFound
from runwait.runs.timers import Timers
from runwait.runs.waits import Wait
from runwait.storage.records import RunRecord, RunRecords, RunStatus, StoredRun


class Once:
    """Records whose result is there for the first who reads it, as those of undone runs are."""

    def __init__(self) -> None:
        record = RunRecord(
            run_id="r",
            thread_id="t",
            assistant_id="a",
            graph_id="g",
            metadata={},
            status=RunStatus.SUCCESS,
            kwargs={},
        )
        self.stored: StoredRun | None = StoredRun(record, b"1")

    def read(self, run_id: str, *, wait: bool = False) -> StoredRun | None:
        stored, self.stored = self.stored, None
        return stored

    def is_gone(self, thread_id: str) -> bool:
        return False


class AtOnce:
    """Does at once what is to be done soon."""

    def help(self, work: Callable[[], None]) -> None:
        work()


def waits_of(records: Once) -> RemoteWaits:
    def never(stored: StoredRun) -> bytes:
        raise AssertionError("the result is there")

    fakes: tuple[Any, Any] = (records, AtOnce())
    return RemoteWaits(cast(RunRecords, fakes[0]), cast(Executor, fakes[1]), Timers(), 60.0, never)


def test_what_one_who_comes_late_reads_is_for_all_who_wait_in_the_process() -> None:
    waits = waits_of(Once())
    early, late = Wait("t", "r"), Wait("t", "r")
    waits.add([early])
    waits.join(late)
    waits.told("r")
    assert (early.document(0), late.document(0)) == (b"1", b"1")


def test_who_comes_after_all_have_it_finds_nothing() -> None:
    waits = waits_of(Once())
    early = Wait("t", "r")
    waits.add([early])
    waits.told("r")
    assert early.document(0) == b"1"
    with pytest.raises(RunNotFound):
        waits.join(Wait("t", "r"))
