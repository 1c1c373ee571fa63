"""What it costs to add a run to the schedule and to claim one, while 100,000 others wait.

The schedule of 100,000 and an empty one are in the same Valkey, and take turns.
"""

from __future__ import annotations

import random
import statistics
import time
from uuid import uuid4

from benchmarks.servers import Loading, ratio, stored
from runwait.storage.records import RunRecord, RunRecords, RunStatus

WAITING = 100_000
# Runs added to each schedule and claimed from it, a round.
COUNT = 200
LEASE = 15.0
# When those that wait are due: long after all is measured.
FIRST, LAST = 3_600.0, 90_000.0


def measure(rounds: int) -> None:
    """Measure and print."""
    added: dict[str, list[float]] = {"empty": [], "full": []}
    claimed: dict[str, list[float]] = {"empty": [], "full": []}
    with stored() as (storage, client):
        with Loading(client, [b"pending"]) as loading:
            schedule = RunRecords(loading, "full", "benchmark", 1.0)
            for _ in range(WAITING):
                schedule.admit(_run(), LEASE, may_start=False, delay=_delay())
        waiting = client.zcard("{full}:ready")
        if waiting != WAITING:
            raise RuntimeError(f"{waiting} runs wait, not {WAITING}")
        schedules = {name: RunRecords(storage, name, "benchmark", 1.0) for name in added}
        for _ in range(rounds):
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in schedules}
            for _ in range(COUNT):
                for name, schedule in schedules.items():
                    times[name].append((_add(schedule), _claim(schedule)))
            for name, each in times.items():
                added[name].append(statistics.median(add for add, _ in each))
                claimed[name].append(statistics.median(claim for _, claim in each))
    print(f"{'p50':24}{'empty':>10}{'100,000':>10}{'ratio':>8}   reach")
    for what, took in ("adding a run", added), ("claiming a run", claimed):
        print(
            f"{what:24}{statistics.median(took['empty']) * 1000:>7.2f} ms"
            f"{statistics.median(took['full']) * 1000:>7.2f} ms"
            f"{ratio(took['full'], took['empty']):>8.2f}   at most 2"
        )


def _run() -> RunRecord:
    return RunRecord(
        run_id=str(uuid4()),
        thread_id=str(uuid4()),
        assistant_id=str(uuid4()),
        graph_id="echo",
        metadata={},
        status=RunStatus.PENDING,
        kwargs={"input": {"value": {"a": 1, "b": "x"}}},
    )


def _delay() -> float:
    return random.uniform(FIRST, LAST)


def _add(schedule: RunRecords) -> float:
    """Schedule a run and take it back; the seconds that the former took."""
    run, delay = _run(), _delay()
    began = time.perf_counter()
    schedule.admit(run, LEASE, may_start=False, delay=delay)
    took = time.perf_counter() - began
    schedule.withdraw(run)
    return took


def _claim(schedule: RunRecords) -> float:
    """Claim a run that is due, and end it; the seconds that the former took."""
    run = _run()
    schedule.admit(run, LEASE, may_start=False)
    began = time.perf_counter()
    claim, _ = schedule.claim(LEASE)
    took = time.perf_counter() - began
    if claim is None or claim.record.run_id != run.run_id:
        raise RuntimeError(f"claimed {claim}, not {run.run_id}")
    schedule.finish(claim.record.moved_to(RunStatus.SUCCESS), b"null", token=claim.token)
    return took
