"""Connections to Redis that break in the middle of a command, before it or before its answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from runwait.runs.admission import TOGETHER
from runwait.storage import records
from runwait.storage.checkpoint import plans
from runwait.storage.connection import _in_time
from tests import warm
from tests.e2e.calls import lines, patient_get, patiently
from tests.faulty import FaultyNetwork, Side
from tests.servers import PATIENCE, PROJECTS, RedisServer, Server, eventually

ZOO = str(PROJECTS / "zoo" / "langgraph.json")
KINDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "kept": ({"on_completion": "keep", "durability": "sync"}, []),
    "scheduled": ({"after_seconds": 0.2}, []),
    "keyed": ({}, ["Idempotency-Key"]),
}
SCRIPTS = {
    "admit": _in_time(records._ADMIT.text).sha,
    "claim": records._CLAIM.sha,
    "finish": records._FINISH.sha,
    "put": plans._PUT.sha,
    "put_writes": plans._PUT_WRITES.sha,
}


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    valkey = RedisServer(tmp_path_factory.mktemp("valkey"))
    valkey.start()
    yield valkey
    valkey.kill()


@pytest.fixture(scope="module")
def network(valkey: RedisServer) -> Iterator[FaultyNetwork]:
    network = FaultyNetwork(valkey.port)
    yield network
    network.close()


@pytest.fixture(scope="module")
def worker(network: FaultyNetwork, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker that has had a run of each kind: Redis knows the scripts, so that each is one
    command from now on."""
    settings = {"REDIS_URL": network.url(), "LANGGRAPH_CONFIG": ZOO}
    # Connections break at once here; nothing is to take a slow machine for a silent Redis.
    settings |= {"WEB_CONCURRENCY": "1", "RUN_LEASE_SECONDS": "2", warm.PATIENT: "1"}
    server = Server(tmp_path_factory.mktemp("cut"), settings)
    server.start()
    for kind in KINDS:
        answer = Asked(kind).of(server)
        assert answer.status_code == 200, answer.text
    yield server
    server.kill()


@pytest.fixture
def server(worker: Server) -> Server:
    """The worker, with all its connections to Redis whole."""
    patiently(lambda: worker.http.get("/ready"))
    return worker


class Asked:
    """A run of two steps, asked for in one of these ways."""

    def __init__(self, kind: str, file: Path | None = None) -> None:
        body, headers = KINDS[kind]
        noted = {} if file is None else {"file": str(file)}
        self._body = {"assistant_id": "steps_sync", "input": {"n": 2, **noted}, **body}
        self._headers = dict.fromkeys(headers, uuid4().hex)

    def of(self, server: Server) -> httpx.Response:
        """The answer; the same idempotency key goes with it each time."""
        return httpx.post(
            f"{server.url}/runs/wait", json=self._body, headers=self._headers, timeout=PATIENCE
        )


@pytest.mark.parametrize("side", ["request", "reply"])
@pytest.mark.parametrize(
    ("kind", "script"),
    [
        ("kept", "admit"),
        ("kept", "put"),
        ("kept", "put_writes"),
        ("kept", "finish"),
        ("scheduled", "admit"),
        ("scheduled", "claim"),
        ("scheduled", "finish"),
        ("keyed", "admit"),
        ("keyed", "finish"),
    ],
)
def test_a_command_that_is_cut_is_sent_again_to_the_same_effect(
    server, network, tmp_path, kind, script, side: Side
):
    file = tmp_path / "file"
    with network.cut(SCRIPTS[script], side) as cut:
        answer = Asked(kind, file).of(server)
        assert cut.done == 1
    assert answer.json()["steps"] == [1, 2]
    assert lines(file) == ["1", "2"]
    assert patient_get(server, answer.headers["Location"]).json() == answer.json()
    assert patient_get(server, answer.headers["Content-Location"]).json()["status"] == "success"


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_admission_of_which_nothing_more_is_heard_is_taken_back(
    server, network, valkey, tmp_path, kind
):
    file = tmp_path / "file"
    asked = Asked(kind, file)
    before = set(valkey.client.keys("*"))
    with network.cut(SCRIPTS["admit"], "reply", times=2) as cut:
        refused = asked.of(server)
        assert cut.done == 2
    assert refused.status_code == 503
    assert "Retry-After" in refused.headers

    def nothing_is_left() -> bool:
        # But marks that go by themselves: of what was withdrawn, and of the thread's removal.
        left = set(valkey.client.keys("*")) - before - {b"{runwait}:beat"}
        return all(0 < valkey.client.ttl(key) <= 3600 for key in left)

    eventually(nothing_is_left)
    again = asked.of(server)
    assert again.json()["steps"] == [1, 2]
    assert "Idempotency-Replayed" not in again.headers
    assert lines(file) == ["1", "2"]


# More than two scripts take in.
MANY = TOGETHER * 5 // 2


def batch(marker: str) -> list[dict[str, Any]]:
    """Runs that are not due yet; the marker is only in what the second script is sent of them."""
    each = {"assistant_id": "steps_sync", "input": {"n": 1}, "after_seconds": 3600}
    marked = {**each, "on_completion": "keep", "checkpoint_id": marker}
    return [marked if TOGETHER <= place < 2 * TOGETHER else each for place in range(MANY)]


def posted(server: Server, runs: list[dict[str, Any]], key: str | None = None) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return httpx.post(f"{server.url}/runs/batch", json=runs, headers=headers, timeout=PATIENCE)


def ready(valkey: RedisServer) -> list[str]:
    return [each.decode() for each in valkey.client.zrange("{runwait}:ready", 0, -1)]


@pytest.mark.parametrize("side", ["request", "reply"])
def test_a_batch_of_which_nothing_more_is_heard_is_taken_back_whole(
    server, network, valkey, side: Side
):
    marker = str(uuid4())
    before = set(valkey.client.keys("*"))
    with network.cut(marker, side, times=10_000) as cut:
        refused = posted(server, batch(marker))
        assert cut.done >= 2
    assert refused.status_code == 503

    def nothing_is_left() -> bool:
        left = [*set(valkey.client.keys("*")) - before - {b"{runwait}:beat"}]
        pipe = valkey.client.pipeline()
        for key in left:
            pipe.ttl(key)
        return all(0 < ttl <= 3600 for ttl in pipe.execute())

    eventually(nothing_is_left)


@pytest.mark.parametrize("side", ["request", "reply"])
def test_a_batch_with_a_key_goes_on_where_it_was_cut_and_has_each_run_once(
    server, network, valkey, side: Side
):
    marker, key = str(uuid4()), uuid4().hex
    valkey.client.delete("{runwait}:ready")
    with network.cut(marker, side, times=10_000):
        assert posted(server, batch(marker), key).status_code == 503
    there = ready(valkey)
    assert len(there) == (TOGETHER if side == "request" else 2 * TOGETHER)
    answer = posted(server, batch(marker), key)
    assert (answer.status_code, answer.headers["Idempotency-Replayed"]) == (200, "true")
    ids = [each["run_id"] for each in answer.json()]
    assert len(ids) == MANY and set(there) < set(ids)
    assert sorted(ready(valkey)) == sorted(ids)
    assert posted(server, batch(marker), key).json() == answer.json()
    assert len(ready(valkey)) == MANY
    valkey.client.delete("{runwait}:ready")


def test_a_command_that_arrives_after_it_was_given_up_starts_nothing(server, network, valkey):
    run = records.RunRecord(
        run_id="01a20acd-2b83-70b2-a8d5-eb34efcb8229",
        thread_id="01a20acd-2b83-70b2-a8d5-eb34efcb8230",
        assistant_id="a",
        graph_id="echo",
        metadata={},
        status=records.RunStatus.RUNNING,
        kwargs={},
    )
    storage = records.Storage(valkey.url, 1)
    storage.start()
    late = records.RunRecords(storage, "runwait", "a-process", 300)
    late.withdraw(run)
    assert late.admit(run, 15, may_start=False).kind == "ended"
    assert valkey.client.zcard("{runwait}:ready") == 0


def test_a_claim_of_which_nothing_more_is_heard_costs_no_attempt(server, network, valkey, tmp_path):
    file = tmp_path / "file"
    with network.cut(SCRIPTS["claim"], "reply", times=6) as cut:
        answer = Asked("scheduled", file).of(server)
        assert cut.done == 6
    assert answer.json()["steps"] == [1, 2]
    assert lines(file) == ["1", "2"]
