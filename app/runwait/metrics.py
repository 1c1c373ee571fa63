"""Metrics for Prometheus: what the processes of this machine counted, together.

Each process writes what it counts to files of its own, in a folder that gunicorn's master makes;
whichever is asked for `/metrics` reads them all. Files are named for a worker's place, not for its
process id, so that a new worker goes on counting where the one before it ended.

What waits in Redis is read there when it is asked for: it is the same for all processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client import multiprocess as untyped_multiprocess
from prometheus_client import values as untyped_values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runwait.runs.ending import Outcome
from runwait.runs.observer import Load, Observer
from runwait.runs.run import Run
from runwait.runs.watch import Block
from runwait.storage.outbox import Webhook, WebhookOutcome
from runwait.storage.records import Queue, RunRecord

log = logging.getLogger("runwait.metrics")

multiprocess: Any = untyped_multiprocess
values: Any = untyped_values

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# prometheus-client's own variable: the folder of the files.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# What our own folders are called, before what tells them apart.
_OURS = "runwait-metrics-"
# How long one may be there before its master locks it.
_NEW_SECONDS = 60.0
# The files of a process, by what is in them; and the room that they have from the start. More is
# needed only for hundreds of graphs. Without that room a write could end the process (SIGBUS).
_KINDS = ("counter", "histogram", "gauge_livesum")
_FILE_BYTES = 1 << 20

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
OTHER = "other"

_SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


# The files


class _Files:
    """Where this process and its children keep what they count.

    Attributes:
        lost: nothing is counted, since there is nowhere to.
    """

    def __init__(self) -> None:
        self.lost = False
        self._made: Path | None = None
        self._lock: int | None = None

    def make(self) -> None:
        """Make a folder, in the process that starts the others; of a given one, empty our part."""
        given = os.environ.get(FOLDER)
        try:
            # One that a gunicorn made which starts this one (SIGUSR2) is still its own.
            if given and not Path(given).name.startswith(_OURS):
                Path(given).mkdir(parents=True, exist_ok=True)
                for each in Path(given).glob("*_[0-9]*.db"):
                    each.unlink()
            else:
                _remove_what_was_left()
                self._made = Path(tempfile.mkdtemp(prefix=_OURS))
                os.environ[FOLDER] = str(self._made)
                # Until the last process is gone. What tidies /tmp leaves a locked folder alone.
                self._lock = os.open(self._made, os.O_RDONLY)
                fcntl.flock(self._lock, fcntl.LOCK_SH)
        except OSError as error:
            self._lose(error)

    def remove(self) -> None:
        """Remove the folder that was made."""
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)

    def enter(self, name: str) -> None:
        """Count in files of this name from now on, which no other process has.

        Called before the first metric is made.
        """
        folder = os.environ.get(FOLDER)
        if not folder or self.lost:
            return
        try:
            for kind in _KINDS:
                path = Path(folder, f"{kind}_{name}.db")
                if kind.startswith("gauge"):
                    path.unlink(missing_ok=True)
                with path.open("ab") as file:
                    file.write(bytes(max(0, _FILE_BYTES - file.tell())))
            values.ValueClass = values.MultiProcessValue(lambda: name)
        except OSError as error:
            self._lose(error)

    def enter_apart(self) -> str:
        """The same for a process that no other starts, where a folder is given; its name."""
        folder = os.environ.get(FOLDER, "")
        for number in itertools.count():
            name = f"work{number}"
            if not folder or self.lost:
                break
            try:
                self._lock = os.open(Path(folder, f"{name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # another process has it
            except OSError as error:
                self._lose(error)
            self.enter(name)
            break
        return name

    def leave(self, name: str) -> None:
        """What was going on in the process of this name is not any more; what it counted stays."""
        with contextlib.suppress(OSError):
            if folder := os.environ.get(FOLDER):
                multiprocess.mark_process_dead(name, folder)

    def _lose(self, error: OSError) -> None:
        self.lost = True
        values.ValueClass = values.MutexValue
        log.warning("metrics of requests and runs are lost: %s", error)


def _remove_what_was_left() -> None:
    """Remove the folders of masters that were killed."""
    for each in Path(tempfile.gettempdir()).glob(f"{_OURS}*"):
        with contextlib.suppress(OSError):  # it is in use, or another user's
            lock = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if time.time() - os.fstat(lock).st_mtime > _NEW_SECONDS:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(each, ignore_errors=True)
            finally:
                os.close(lock)


files = _Files()


# What is counted


class Metrics(Observer):
    """Counts what it hears of. What names a metric's labels is bounded: no ids, no free text."""

    def __init__(self, graphs: Collection[str]) -> None:
        """Nothing was counted yet, or as much as the files say.

        Args:
            graphs: the names of those that are loaded.
        """
        self._graphs = graphs
        self._registry = registry = CollectorRegistry()

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(name, about, labels, registry=registry)

        def histogram(name: str, about: str, *labels: str, buckets: Any = _LONG) -> Histogram:
            return Histogram(name, about, labels, buckets=buckets, registry=registry)

        def gauge(name: str, about: str) -> Gauge:
            return Gauge(name, about, registry=registry, multiprocess_mode="livesum")

        self._requests = counter(
            "runwait_http_requests_total", "Requests answered.", "method", "route", "status"
        )
        self._request_seconds = histogram(
            "runwait_http_request_duration_seconds",
            "From a request to the end of its answer, which for a wait or a stream is the run's.",
            "method",
            "route",
        )
        self._runs = counter("runwait_runs_total", "Runs that ended.", "graph", "status")
        self._run_seconds = histogram(
            "runwait_run_duration_seconds", "From a run's last start to its end.", "graph"
        )
        self._queue_wait = histogram(
            "runwait_queue_wait_seconds", "From when a run could have started to its first start."
        )
        self._left = counter(
            "runwait_runs_left_total", "Runs that this process left to another.", "reason"
        )
        self._recovered = counter(
            "runwait_leases_recovered_total", "Runs of lost processes that were made ready again."
        )
        self._blocked = counter(
            "runwait_loop_blocked_total", "Nodes that kept all asynchronous runs for a second."
        )
        self._redis = histogram(
            "runwait_redis_latency_seconds", "What a beat's call to Redis took.", buckets=_SHORT
        )
        self._executing = gauge("runwait_executing", "Runs that execute in these processes.")
        self._waiters = gauge("runwait_waiters", "Clients that wait for the end of a run.")
        self._streams = gauge("runwait_streams", "Clients that are given a run's events.")
        self._webhooks = counter(
            "runwait_webhook_attempts_total", "Attempts to deliver a webhook.", "outcome"
        )
        self._crons = counter("runwait_crons_fired_total", "Runs that crons started.")
        self._cron_lag = histogram("runwait_cron_lag_seconds", "How late crons started runs.")
        # Those whose labels are known are there from the start, so that a first increase is seen.
        for reason in ("graph", "lost", "stop"):
            self._left.labels(reason)
        for outcome in get_args(WebhookOutcome):
            self._webhooks.labels(outcome)

    # What is heard

    def answered(self, method: str, rule: str | None, status: int, seconds: float) -> None:
        """A request was answered; `rule` is that of its path, as Flask has it."""
        method = method if method in _METHODS else OTHER
        route = OTHER if rule is None else rule.replace("<", "{").replace(">", "}")
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(method, route).observe(seconds)

    def started(self, run: Run) -> None:
        """How long a run waited counts for its first attempt."""
        if run.attempt == 1:
            created = datetime.fromisoformat(run.record.created_at).timestamp()
            self._queue_wait.observe(max(0.0, time.time() - created - run.request.delay))

    def finished(
        self, run: Run, outcome: Outcome, error: BaseException | None, *, stands: bool
    ) -> None:
        """An end that does not stand is counted where the other one is."""
        if stands:
            graph = run.record.graph_id if run.record.graph_id in self._graphs else OTHER
            self._runs.labels(graph, str(outcome.status)).inc()
            self._run_seconds.labels(graph).observe(time.monotonic() - run.started)

    def postponed(self, record: RunRecord) -> None:
        """For want of its graph."""
        self._left.labels("graph").inc()

    def left(self, run: Run, error: BaseException) -> None:
        """For want of Redis, or since another process took it."""
        self._left.labels("lost").inc()

    def handed_back(self, run: Run) -> None:
        """Since the process stops."""
        self._left.labels("stop").inc()

    def blocked(self, block: Block) -> None:
        """Each time."""
        self._blocked.inc()

    def beat(self, seconds: float, recovered: int) -> None:
        """A beat is a call like any other, made all the time."""
        self._redis.observe(seconds)
        if recovered:
            self._recovered.inc(recovered)

    def loaded(self, load: Load) -> None:
        """Noted every few seconds, so that a run need not."""
        self._executing.set(load.executing)
        self._waiters.set(load.waiters)
        self._streams.set(load.streams)

    def attempted(self, webhook: Webhook, outcome: WebhookOutcome) -> None:
        """By what came of it."""
        self._webhooks.labels(outcome).inc()

    def cron_started(self, cron_id: str, record: RunRecord, *, late: float, missed: int) -> None:
        """Counted, and how late."""
        self._crons.inc()
        self._cron_lag.observe(max(0.0, late))

    # What is told

    def text(self, queue: Queue | None) -> bytes:
        """All metrics, in Prometheus's text format.

        Args:
            queue: what there is to do; None if Redis is away.
        """
        registry = CollectorRegistry()
        registry.register(_Given([*self._collected(), *_of_queue(queue)]))
        return generate_latest(registry)

    def summary(self, queue: Queue | None, places: int) -> dict[str, dict[str, Any]]:
        """As the Agent Server sums it up, for `?format=json`.

        Args:
            queue: what there is to do; None if Redis is away.
            places: how many runs a machine's processes may execute at once.
        """
        total: dict[str, float] = {}
        for metric in self._collected():
            for sample in metric.samples:
                total[sample.name] = total.get(sample.name, 0.0) + sample.value

        def of(name: str) -> float:
            return total.get(f"runwait_{name}", 0.0)

        active = round(of("executing"))
        waits = of("queue_wait_seconds_count")
        return {
            "queue": {
                "n_pending": None if queue is None else queue.ready + queue.queued,
                "n_running": None if queue is None else max(active, queue.running),
                "n_scheduled": None if queue is None else queue.scheduled,
                "pending_runs_wait_time_max_secs": None
                if queue is None
                else max(queue.ready_age, queue.queued_age),
                "run_wait_time_1st_attempt_avg_secs": of("queue_wait_seconds_sum") / waits
                if waits
                else None,
            },
            "workers": {"max": places, "active": active, "available": max(0, places - active)},
            "api": {
                "n_requests": round(of("http_requests_total")),
                "n_waiting": round(of("waiters")),
                "n_streaming": round(of("streams")),
            },
        }

    def _collected(self) -> list[Metric]:
        if files.lost:
            return []
        folder = os.environ.get(FOLDER)
        if folder is None:
            return list(self._registry.collect())
        try:
            return list(multiprocess.MultiProcessCollector(None, folder).collect())
        except (OSError, ValueError, RuntimeError) as error:
            log.warning("the metrics of requests and runs cannot be read: %s", error)
            return []


class _Given(Collector):
    """Metrics that are there already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        yield from self._metrics


def _of_queue(queue: Queue | None) -> Iterator[Metric]:
    yield GaugeMetricFamily("runwait_redis_up", "Whether Redis answers.", queue is not None)
    if queue is None:
        return
    runs = GaugeMetricFamily("runwait_runs", "Runs that have not ended.", labels=["state"])
    for state in ("running", "ready", "scheduled", "queued"):
        runs.add_metric([state], getattr(queue, state))
    yield runs
    ages = GaugeMetricFamily(
        "runwait_queue_oldest_age_seconds", "How long the first has waited.", labels=["state"]
    )
    for state in ("ready", "queued"):
        ages.add_metric([state], getattr(queue, f"{state}_age"))
    yield ages
    webhooks = GaugeMetricFamily("runwait_webhooks", "Webhooks to be told.", labels=["state"])
    webhooks.add_metric(["pending"], queue.webhooks)
    webhooks.add_metric(["dead"], queue.dead_webhooks)
    yield webhooks
