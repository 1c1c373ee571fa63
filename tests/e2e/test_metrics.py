"""What /metrics says of real processes: all workers together, whichever dies."""

from __future__ import annotations

import os
import re
import signal
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.dashboard import queries
from tests.e2e.calls import Gate, fresh_get, only, output, post
from tests.receiver import Receiver, status
from tests.servers import PATIENCE, PROJECTS, RedisServer, Server, ServerFactory, eventually
from tests.test_metrics import read

ZOO = str(PROJECTS / "zoo" / "langgraph.json")
SAMPLE = re.compile(r"^(runwait_\w+)(?:\{(.*)\})? ", re.MULTILINE)
WAITS = 'runwait_http_requests_total{method="POST",route="/runs/wait",status="200"}'


@pytest.fixture(scope="module")
def server(shared: ServerFactory) -> Server:
    """Two workers whose beats are a quarter of a second apart."""
    return shared(LANGGRAPH_CONFIG=ZOO, RUN_LEASE_SECONDS=1, WEBHOOK_ALLOWED_HOSTS="127.0.0.1")


def metrics(server: Server) -> dict[str, float]:
    """What whichever worker says."""
    answer = fresh_get(server, "/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return read(answer.content)


def becomes(server: Server, name: str, value: float) -> None:
    eventually(lambda: metrics(server).get(name, 0) == value)


def test_each_worker_answers_for_all(server: Server, gate: Gate) -> None:
    before = metrics(server).get(WAITS, 0)
    workers = server.workers()
    for count, worker in enumerate(workers, 1):
        with only(server, worker):
            fresh_post(server)
            # An answer is counted once it is sent: not before the worker is paused, perhaps.
            becomes(server, WAITS, before + count)
    for worker in workers:
        with only(server, worker):
            assert metrics(server)[WAITS] == before + len(workers)
    found = metrics(server)
    assert found['runwait_runs_total{graph="echo",status="success"}'] >= 2
    assert found['runwait_run_duration_seconds_count{graph="echo"}'] >= 2
    assert found["runwait_queue_wait_seconds_count"] >= 2


def fresh_post(server: Server) -> None:
    body = {"assistant_id": "echo", "input": {"value": 1}}
    assert httpx.post(f"{server.url}/runs/wait", json=body, timeout=PATIENCE).json() == {"value": 1}


def test_who_waits_and_what_is_queued_is_seen(server: Server, gate: Gate, in_thread) -> None:
    thread = server.http.post("/threads", json={}).json()["thread_id"]
    in_thread(partial(output, server, "sleep_sync", input=gate.input))
    becomes(server, "runwait_executing", 1)
    becomes(server, "runwait_waiters", 1)
    becomes(server, 'runwait_runs{state="running"}', 1)
    busy = {"assistant_id": "sleep_sync", "input": gate.input}
    for _ in range(2):
        server.http.post(f"/threads/{thread}/runs", json=busy)
    server.http.post("/runs", json={**busy, "after_seconds": 3600})
    found = metrics(server)
    assert found['runwait_runs{state="queued"}'] == 1
    assert found['runwait_runs{state="scheduled"}'] == 1
    eventually(lambda: metrics(server)['runwait_queue_oldest_age_seconds{state="queued"}'] > 0)
    summary = fresh_get(server, "/metrics?format=json").json()
    assert summary["queue"]["n_pending"] == 1
    assert summary["workers"]["active"] >= 1
    gate.open()
    server.http.post("/runs/cancel", json={"status": "all"})
    becomes(server, "runwait_executing", 0)
    becomes(server, "runwait_waiters", 0)
    becomes(server, 'runwait_runs{state="scheduled"}', 0)


def test_webhooks_are_counted_by_what_came_of_them(server: Server) -> None:
    receiver = Receiver()
    try:
        receiver.answers = [status(500), status(200)]
        post(server, "echo", webhook=f"{receiver.url}/secret-path")
        becomes(server, 'runwait_webhook_attempts_total{outcome="failed"}', 1)
        becomes(server, 'runwait_webhook_attempts_total{outcome="delivered"}', 1)
        becomes(server, 'runwait_webhooks{state="pending"}', 0)
    finally:
        receiver.close()


def test_no_label_is_an_id_or_what_a_client_sent(server: Server) -> None:
    thread = server.http.post("/threads", json={}).json()["thread_id"]
    server.http.get(f"/threads/{thread}", headers={"X-Api-Key": "secret-key"})
    server.http.get("/secret-path?secret=1")
    post(server, "echo", input={"value": "secret-value"})
    text = fresh_get(server, "/metrics").text
    assert 'route="/threads/{thread_id}"' in text
    assert thread not in text
    assert "secret" not in text


def test_a_killed_worker_leaves_what_it_counted_and_is_counted_as_lost(
    server: Server, gate: Gate, tmp_path: Path
) -> None:
    recovered = metrics(server)["runwait_leases_recovered_total"]
    answer = server.http.post(
        "/runs",
        json={"assistant_id": "sleep_sync", "input": gate.input, "on_completion": "keep"},
    )
    becomes(server, "runwait_executing", 1)
    before = metrics(server).get(WAITS, 0) + 1
    assert post(server, "echo").status_code == 200
    becomes(server, WAITS, before)
    for worker in server.workers():
        os.kill(worker, signal.SIGKILL)
    becomes(server, "runwait_leases_recovered_total", recovered + 1)
    assert metrics(server)[WAITS] == before
    becomes(server, "runwait_executing", 1)
    gate.open()
    becomes(server, "runwait_executing", 0)
    run = answer.json()
    path = f"/threads/{run['thread_id']}/runs/{run['run_id']}"
    eventually(lambda: fresh_get(server, path).json()["status"] == "success")


def test_the_dashboard_asks_for_what_there_is(server: Server) -> None:
    output(server, "echo", input={"value": 1})
    eventually(lambda: metrics(server)["runwait_redis_latency_seconds_count"])
    text = fresh_get(server, "/metrics").text
    there = {name: set(re.findall(r"(\w+)=", labels)) for name, labels in SAMPLE.findall(text)}
    asked = queries()
    assert len(asked) > 20
    for title, query in asked:
        grouped = re.findall(r"\bby \(([^)]*)\)", query)
        names = re.findall(r"runwait_\w+", query)
        for name, matchers in re.findall(r"(runwait_\w+)\{([^}]*)\}", query):
            # Prometheus adds these two.
            labels = there[name] | {"job", "instance"}
            assert set(re.findall(r"(\w+)[=!]", matchers)) <= labels, (title, query)
            for by in grouped:
                assert set(re.split(", *", by)) <= labels, (title, query)
            names.remove(name)
        assert not names, (title, query)
    used = {re.sub("_(bucket|sum|count)$", "", name) for name in there}
    shown = re.findall(r"runwait_\w+", " ".join(query for _, query in asked))
    assert used == {name.removesuffix("_bucket") for name in shown}


def test_without_redis_there_is_what_the_processes_counted(
    serve: ServerFactory, valkey: RedisServer
) -> None:
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1)
    valkey.stop()
    assert output(server, "echo", input={"value": 1}) == {"value": 1}
    becomes(server, WAITS, 1)
    assert metrics(server)["runwait_redis_up"] == 0


def test_where_files_cannot_be_made_all_else_works_and_the_log_says_so_once(
    serve: ServerFactory, valkey: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    server = serve(
        REDIS_URL=valkey.url,
        LANGGRAPH_CONFIG=ZOO,
        PROMETHEUS_MULTIPROC_DIR=tmp_path / "file" / "metrics",
    )
    assert output(server, "echo", input={"value": 1}) == {"value": 1}
    assert list(metrics(server))[:1] == ["runwait_redis_up"]
    assert server.log.read_text().count("metrics of requests and runs are lost") == 1
