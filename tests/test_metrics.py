"""Metrics: what is counted, under which labels, and what becomes of it where files fail."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runwait import metrics
from runwait.metrics import Metrics
from runwait.runs import ending
from runwait.runs.observer import Load, Observers
from runwait.runs.request import RunRequest
from runwait.runs.run import Run
from runwait.runs.watch import Block
from runwait.storage.outbox import Webhook
from runwait.storage.records import Queue, RunRecord
from tests.runs.records import a_record

QUEUE = Queue(1, 2, 3, 4, 5.5, 6.5, 7, 8)
WEBHOOK = Webhook("r", "http://example.org/secret", b"{}", "example.org", 1, 0.0, "c")


def read(text: bytes) -> dict[str, float]:
    """Each sample's value, by its name and labels."""
    lines = [each for each in text.decode().splitlines() if not each.startswith("#")]
    return {name: float(value) for name, _, value in (each.rpartition(" ") for each in lines)}


def a_run(record: RunRecord | None = None, attempt: int = 1, **asked: Any) -> Run:
    request = RunRequest(assistant_id="a", request_id="q", **asked)
    return Run(record or a_record(), request, attempt=attempt)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    """Metrics of this process alone, of the graph `g`."""
    monkeypatch.delenv(metrics.FOLDER, raising=False)
    monkeypatch.setattr(metrics, "files", metrics._Files())
    return Metrics(["g"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is given for the files; what is counted after this is this process's again."""
    before = metrics.values.ValueClass
    monkeypatch.setenv(metrics.FOLDER, str(tmp_path))
    monkeypatch.setattr(metrics, "files", metrics._Files())
    yield tmp_path
    metrics.values.ValueClass = before


def test_each_transition_is_counted(counted):
    run, error = a_run(), ValueError("no")
    everyone = Observers(counted)
    everyone.started(run)
    everyone.claimed(run)
    everyone.postponed(a_record())
    everyone.finished(run, ending.succeeded({}), None, stands=True)
    everyone.finished(run, ending.failed(error), error, stands=True)
    everyone.finished(run, ending.succeeded({}), None, stands=False)
    everyone.left(run, error)
    everyone.handed_back(run)
    everyone.blocked(Block(1, "g", "n", "r", ""))
    everyone.beat(0.004, 2)
    everyone.loaded(Load(1, 2, 3))
    everyone.attempted(WEBHOOK, "failed")
    everyone.cron_started("c", a_record(), late=0.5, missed=0)
    counted.answered("GET", "/threads/<thread_id>", 200, 0.0)
    counted.answered("GET", "/ok", 200, 0.01)
    found = read(counted.text(None))
    for name, value in {
        'runwait_runs_total{graph="g",status="success"}': 1,
        'runwait_runs_total{graph="g",status="error"}': 1,
        'runwait_run_duration_seconds_count{graph="g"}': 2,
        "runwait_queue_wait_seconds_count": 1,
        'runwait_runs_left_total{reason="graph"}': 1,
        'runwait_runs_left_total{reason="lost"}': 1,
        'runwait_runs_left_total{reason="stop"}': 1,
        "runwait_loop_blocked_total": 1,
        "runwait_leases_recovered_total": 2,
        'runwait_redis_latency_seconds_bucket{le="0.0025"}': 0,
        'runwait_redis_latency_seconds_bucket{le="0.005"}': 1,
        "runwait_executing": 1,
        "runwait_waiters": 2,
        "runwait_streams": 3,
        'runwait_webhook_attempts_total{outcome="failed"}': 1,
        "runwait_crons_fired_total": 1,
        "runwait_cron_lag_seconds_sum": 0.5,
        'runwait_http_requests_total{method="GET",route="/threads/{thread_id}",status="200"}': 1,
        'runwait_http_request_duration_seconds_sum{method="GET",route="/ok"}': 0.01,
    }.items():
        assert found[name] == value, name


def test_labels_are_bounded(counted):
    for number in range(100):
        counted.answered(f"NONSENSE{number}", None, 404, 0.0)
        run = a_run(replace(a_record(), graph_id=f"gone{number}"))
        counted.finished(run, ending.succeeded({}), None, stands=True)
    found = read(counted.text(None))
    assert found['runwait_runs_total{graph="other",status="success"}'] == 100
    assert found['runwait_http_requests_total{method="other",route="other",status="404"}'] == 100


def test_the_wait_for_a_place_is_without_the_delay_that_was_asked_for(counted):
    since = "2026-01-01T00:00:00+00:00"
    waited = time.time() - 1767225600
    counted.started(a_run(replace(a_record(), created_at=since), after_seconds=waited - 60))
    counted.started(a_run(replace(a_record(), created_at=since), attempt=2))
    found = read(counted.text(None))
    assert found["runwait_queue_wait_seconds_count"] == 1
    assert 60 <= found["runwait_queue_wait_seconds_sum"] < 3600


def test_what_waits_is_told_as_redis_has_it(counted):
    found = read(counted.text(QUEUE))
    states = ("running", "ready", "scheduled", "queued")
    assert [found[f'runwait_runs{{state="{each}"}}'] for each in states] == [1, 2, 3, 4]
    assert found['runwait_queue_oldest_age_seconds{state="ready"}'] == 5.5
    assert found['runwait_queue_oldest_age_seconds{state="queued"}'] == 6.5
    assert found['runwait_webhooks{state="pending"}'] == 7
    assert found['runwait_webhooks{state="dead"}'] == 8
    assert found["runwait_redis_up"] == 1
    away = read(counted.text(None))
    assert away["runwait_redis_up"] == 0
    assert not [each for each in away if each.startswith("runwait_runs{")]


def test_the_summary_has_queue_workers_and_api(counted):
    counted.loaded(Load(3, 2, 1))
    counted.answered("GET", "/ok", 200, 0.0)
    assert counted.summary(QUEUE, 10) == {
        "queue": {
            "n_pending": 6,
            "n_running": 3,
            "n_scheduled": 3,
            "pending_runs_wait_time_max_secs": 6.5,
            "run_wait_time_1st_attempt_avg_secs": None,
        },
        "workers": {"max": 10, "active": 3, "available": 7},
        "api": {"n_requests": 1, "n_waiting": 2, "n_streaming": 1},
    }
    assert counted.summary(None, 10)["queue"]["n_pending"] is None


def test_a_worker_goes_on_counting_where_the_one_before_it_ended(folder):
    for _ in range(2):
        metrics.files.enter("0")
        worker = Metrics(["g"])
        worker.answered("GET", "/ok", 200, 0.0)
        worker.loaded(Load(5, 0, 0))
    metrics.files.enter("1")
    other = Metrics(["g"])
    other.answered("GET", "/ok", 200, 0.0)
    other.loaded(Load(2, 0, 0))
    assert read(other.text(None))["runwait_executing"] == 7
    metrics.files.leave("0")
    found = read(other.text(None))
    assert found['runwait_http_requests_total{method="GET",route="/ok",status="200"}'] == 3
    assert found["runwait_executing"] == 2
    assert len(list(folder.glob("*.db"))) == 5


def test_a_new_master_begins_anew_and_leaves_alone_what_others_wrote(folder):
    for name in ("counter_0.db", "counter_work0.db", "notes"):
        (folder / name).touch()
    metrics.files.make()
    assert sorted(each.name for each in folder.iterdir()) == ["counter_work0.db", "notes"]


def test_the_folder_of_a_master_that_was_killed_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.delenv(metrics.FOLDER, raising=False)
    monkeypatch.setattr(metrics.tempfile, "tempdir", str(tmp_path))
    killed, serves, new = metrics._Files(), metrics._Files(), metrics._Files()
    left = []
    for each in (killed, serves):
        each.make()
        left.append(Path(os.environ.pop(metrics.FOLDER)))
        os.utime(left[-1], (1, 1))
    assert killed._lock is not None
    os.close(killed._lock)
    new.make()
    # With monkeypatch it would be there again after the test.
    del os.environ[metrics.FOLDER]
    assert [each.exists() for each in left] == [False, True]
    for each in (serves, new):
        each.remove()
    assert list(tmp_path.iterdir()) == []


def test_processes_that_no_other_starts_have_files_of_their_own(folder):
    one, two = metrics._Files(), metrics._Files()
    assert (one.enter_apart(), two.enter_apart()) == ("work0", "work1")


def test_a_full_disk_costs_the_metrics_and_nothing_else(folder, caplog):
    caplog.set_level(logging.WARNING, "runwait.metrics")
    metrics.files.enter("1")
    other = Metrics(["g"])
    other.answered("GET", "/ok", 200, 0.0)
    (folder / "counter_0.db").symlink_to("/dev/full")
    metrics.files.enter("0")
    counted = Metrics(["g"])
    counted.answered("GET", "/ok", 200, 0.0)
    assert read(counted.text(QUEUE))["runwait_redis_up"] == 1
    assert "runwait_executing" not in read(counted.text(QUEUE))
    (line,) = caplog.records
    assert "No space left on device" in line.getMessage()


def test_files_that_are_gone_cost_the_metrics_and_nothing_else(folder, monkeypatch):
    counted = Metrics(["g"])
    monkeypatch.setenv(metrics.FOLDER, str(folder / "gone"))
    assert list(read(counted.text(None))) == ["runwait_redis_up"]


def test_the_docs_name_every_metric_and_label(counted):
    page = (Path(__file__).parents[1] / "docs" / "observability.md").read_text()
    documented = {
        name: set(re.findall(r"`(\w+)`", labels))
        for names, labels in re.findall(r"^\|( `runwait_[^|]*)\|([^|]*)\|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    known = {
        family.name + ("_total" if family.type == "counter" else ""): set(labels)
        for family, labels in _families(counted)
    }
    assert documented == known


def _families(counted: Metrics) -> Iterator[tuple[Any, set[str]]]:
    for metric in counted._registry._collector_to_names:
        yield metric.describe()[0], set(metric._labelnames)  # type: ignore[attr-defined]
    for family in metrics._of_queue(QUEUE):
        yield family, {label for sample in family.samples for label in sample.labels}
