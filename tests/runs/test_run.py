"""A run while a process has it."""

from __future__ import annotations

import time

import pytest

from runwait.runs.request import RunRequest
from runwait.runs.run import SKEW, Run
from tests.runs.records import a_record

TOKEN = 1_800_000_000_000_000


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds since the run was claimed, by the process's clock, and by one that only goes on."""
    clocks = {"wall": 0.0, "steady": 0.0}
    monkeypatch.setattr(time, "time_ns", lambda: TOKEN * 1000 + round(clocks["wall"] * 1e9))
    monkeypatch.setattr(time, "monotonic", lambda: clocks["steady"])
    return clocks


@pytest.fixture
def run(clocks: dict[str, float]) -> Run:
    record = a_record()
    request = RunRequest(assistant_id="a", request_id="")
    return Run(record, request, token=TOKEN, logged=True, started=0.0)


def test_the_ids_of_its_events_are_the_times_by_the_process(
    run: Run, clocks: dict[str, float]
) -> None:
    clocks.update(wall=3.5, steady=3.0)
    assert run.next_ids(2) == [(TOKEN, 3_500_000), (TOKEN, 3_500_001)]
    assert run.next_ids(1) == [(TOKEN, 3_500_002)]


@pytest.mark.parametrize(("wall", "skew"), [(1e6, SKEW), (-1e6, -SKEW)])
def test_they_are_near_redis_times_however_wrong_the_process_is(
    run: Run, clocks: dict[str, float], wall: float, skew: int
) -> None:
    clocks.update(wall=wall, steady=60.0)
    assert run.next_ids(1) == [(TOKEN, 60_000_000 + skew)]


def test_they_grow_although_the_clock_of_the_process_is_set_back(
    run: Run, clocks: dict[str, float]
) -> None:
    clocks.update(wall=2.0, steady=2.0)
    first = run.next_ids(1)
    clocks.update(wall=-1.0, steady=2.1)
    assert first < run.next_ids(1) < run.next_ids(1)
