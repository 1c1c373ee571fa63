"""How late 10,000 crons start their runs, on two workers, and what they cost while they wait.

They are put into Redis directly. A run is late by the time from when its cron is due, by Redis's
clock, to when it is admitted, and to its node, by the workers'; all are this machine's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

import redis

from benchmarks.idle import idle
from benchmarks.servers import Loading, served
from runwait.crons.crons import ids_of
from runwait.graphs.assistants import Assistant
from runwait.storage.crons import CronRecord, CronRecords
from runwait.storage.records import RunRecords

CRONS = 10_000
# Before the first is due, so that all are there by then.
LEAD_MS = 15_000
HOUR_MS = 3_600_000
PATIENCE = 300.0
GRAPH = "clock"


def measure(rounds: int) -> None:
    """Measure once, however many rounds are asked for, and print."""
    print(f"{f'{CRONS:,} crons':38}{'p50':>11}{'p99':>11}{'latest':>11}   reach")
    for within, seconds in (("a second", 1), ("a minute", 60)):
        admitted, executed = _lateness(seconds)
        _print(f"due within {within}: admitted", admitted, "p99 at most 5 s")
        _print(f"due within {within}: executed", executed, "")
    print(f"{'idle':38}{'workers':>11}{'Valkey':>11}{'commands':>11}   reach: alike")
    for number in (0, CRONS):
        with served() as server, redis.Redis.from_url(server.redis_url) as client:
            _load(client, [HOUR_MS] * number)
            used, sent, inner = idle(server, client)
        print(
            f"{f'with {number:,} that wait':38}{used['two workers']:>11.2%}{used['Valkey']:>11.2%}"
            f"{sent:>11.0f}   a minute, and {inner:.0f} inside scripts"
        )


def _lateness(seconds: int) -> tuple[list[float], list[float]]:
    """How late each was admitted and executed, in seconds, with so many seconds for all."""
    with served(LOG_LEVEL="WARNING") as server, redis.Redis.from_url(server.redis_url) as client:
        crons = _load(client, [LEAD_MS + i % seconds * 1000 for i in range(CRONS)])
        due = {ids_of(each, each.next or 0)[0]: (each.next or 0) / 1000 for each in crons}
        documents = _documents(client, list(due))
        admitted = []
        for run_id, time_due in due.items():
            record = json.loads(client.hget(f"{{runwait}}:run:{run_id}", "record") or b"{}")
            at = datetime.fromisoformat(record["created_at"]).timestamp()
            admitted.append(at - time_due)
    executed = [
        json.loads(document)["started"] - time_due
        for document, time_due in zip(documents, due.values(), strict=True)
    ]
    return sorted(admitted), sorted(executed)


def _load(client: redis.Redis, delays: Sequence[int]) -> list[CronRecord]:
    """Crons that are due, after so many ms each and once."""
    seconds, microseconds = client.time()
    now = seconds * 1000 + microseconds // 1000
    crons = [
        CronRecord(
            cron_id=str(uuid4()),
            assistant_id=Assistant.of_graph(GRAPH).assistant_id,
            graph_id=GRAPH,
            schedule="0 0 1 1 *",
            on_run_completed="delete",
            payload={"input": {}},
            next=now + delay,
            end_time=now + HOUR_MS,
        )
        for delay in delays
    ]
    before = client.zcard("{runwait}:crons")
    with Loading(client, 1) as loading:
        records = CronRecords(loading, "runwait", RunRecords(loading, "runwait", "benchmark", 1.0))
        for each in crons:
            records.create(each, of_system=True)
    if client.zcard("{runwait}:crons") != before + len(crons):
        raise RuntimeError("not all crons are there")
    return crons


def _documents(client: redis.Redis, run_ids: list[str]) -> list[bytes]:
    """The documents of all runs, once they are there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = client.mget([f"{{runwait}}:result:{run_id}" for run_id in run_ids])
        if None not in found:
            return found
        if time.monotonic() > deadline:
            raise RuntimeError(f"{found.count(None)} runs have not ended")
        time.sleep(1)


def _print(what: str, late: list[float], reach: str) -> None:
    p50, p99 = late[len(late) // 2], late[len(late) * 99 // 100 - 1]
    print(f"{what:38}{p50:>9.2f} s{p99:>9.2f} s{late[-1]:>9.2f} s   {reach}")
