"""The leases of this process's runs: renewed by a beat, given up in an orderly way.

A run whose process does not renew its lease counts as lost, and whichever process beats next makes
it ready for all (lua/runs/beat.lua). A run that stopped here for want of Redis is given back as
soon as Redis can be told. Both count against RUN_MAX_ATTEMPTS.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import partial

from runwait.runs import ending, resume
from runwait.runs.events import End, Hub
from runwait.runs.executor import Executor
from runwait.runs.observer import Load, Observer
from runwait.runs.run import Run
from runwait.runs.runner import Runner
from runwait.runs.savers import Savers
from runwait.serialization import dumps
from runwait.settings import Settings
from runwait.storage.checkpoint import Fenced
from runwait.storage.connection import Storage, StorageUnavailable
from runwait.storage.records import DELIVERED_SECONDS, RunRecords

log = logging.getLogger("runwait.runs")

# Beats in the time of a lease. One may fail or come late, and half a lease pass without Redis (see
# lua/runs/beat.lua), before it lapses.
LEASE_BEATS = 4
LONGEST_BEAT_SECONDS = 5.0
# A run that could not go on here is taken again after so many seconds, longer with each attempt.
PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 10.0


class Leases:
    """Keeps Redis and this process in step about the runs that it has."""

    def __init__(
        self,
        settings: Settings,
        storage: Storage,
        records: RunRecords,
        savers: Savers,
        executor: Executor,
        runner: Runner,
        hub: Hub,
        observer: Observer,
    ) -> None:
        """Prepare; nothing is renewed before `start`."""
        self._lease = settings.run_lease_seconds
        self._result_ttl = settings.result_ttl_seconds
        self._storage = storage
        self._records = records
        self._savers = savers
        self._executor = executor
        self._runner = runner
        self._hub = hub
        self._observer = observer
        self._pause = min(self._lease / LEASE_BEATS, LONGEST_BEAT_SECONDS)
        self._faults = storage.faults
        self._catching_up = threading.Lock()
        # Runs that stopped here unfinished and are to go on wherever there is a place.
        self._left: dict[str, Run] = {}
        self._delivered: list[str] = []
        runner.on_left = self._leave

    def start(self) -> None:
        """Renew leases from now on, on a thread of its own."""
        threading.Thread(target=self._beat_for_ever, name="beat", daemon=True).start()

    def note_delivery(self, run_id: str) -> None:
        """A run's document was written whole to a client: it is not needed for long any more."""
        if self._result_ttl > DELIVERED_SECONDS:
            self._delivered.append(run_id)

    def give_back(self) -> None:
        """Have the runs that stopped here unfinished go on, wherever there is a place."""
        for run_id in list(self._left):
            run = self._left.pop(run_id, None)
            if run is None or self._runner.get(run_id) is not None:
                continue
            try:
                self._give_back_one(run)
            except StorageUnavailable:
                self._left[run_id] = run
                return

    def _leave(self, run: Run) -> None:
        self._left[run.run_id] = run
        self._executor.help(self.give_back)

    def _give_back_one(self, run: Run) -> None:
        assert run.token is not None or not run.kept
        if run.kept and not run.record_lost:
            assert run.token is not None
            beat = self._records.beat([(run.run_id, run.token)], self._lease)
            run.record_lost = bool(beat.missing)
        state_lost = run.kept and run.record_lost and self._has_lost_its_state(run)
        # As it may be: recorded still, lost by Redis, or another process's by now.
        if not self._runner.record_again(run):
            if run.record_lost:
                # Its thread was removed.
                document = dumps(ending.cancelled(run.values).answer)
                self._hub.publish(run.run_id, End(document))
        elif state_lost:
            self._runner.finish_lost(run)
        elif run.token is not None:
            pause = min(run.attempt * PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
            self._records.hand_back([(run.run_id, run.token)], pause=pause, counts=True)

    def _has_lost_its_state(self, run: Run) -> bool:
        """Whether nothing is left of the thread that a run was asked to go on with."""
        if run.request.thread_id is None:
            return False
        return resume.latest(self._savers.plain(self._storage), run.record.thread_id) is None

    def _beat_for_ever(self) -> None:
        pause = self._pause
        while True:
            time.sleep(pause)
            pause = self._pause
            try:
                self._observer.loaded(Load(len(self._runner.executing), *self._hub.crowd))
                self._beat()
            except StorageUnavailable as error:
                log.debug("no beat: %s", error)
                # Processes whose beats happen to fall around an absence of Redis have not noticed
                # it, and will claim what this one does not renew in time.
                pause /= LEASE_BEATS
            except Exception:
                log.exception("fault in the beat")

    def _beat(self) -> None:
        runs = {run.run_id: run for run in self._runner.held}
        before = time.monotonic()
        ours = [(run_id, run.token) for run_id, run in runs.items() if run.token is not None]
        beat = self._records.beat(ours, self._lease)
        self._observer.beat(time.monotonic() - before, beat.recovered)
        missing = [runs.pop(run_id) for run_id in beat.missing]
        for run_id in beat.lost:
            self._runner.leave(runs.pop(run_id), Fenced("another process took it"))
        for run_id, action in beat.cancelled:
            self._runner.cancel(runs[run_id], action)
        for run in runs.values():
            run.leased_until = before + self._lease
        self._executor.help(partial(self._catch_up, missing))

    def _catch_up(self, missing: list[Run]) -> None:
        """Tell Redis what it lacks. That may be large, and no beat waits for it."""
        if not self._catching_up.acquire(blocking=False):
            return  # the next beat finds the same
        try:
            faults = self._storage.faults
            self._runner.drop_expired_ends()
            for run in self._runner.executing:
                if run.token is None or (run in missing and not run.kept):
                    self._runner.record_start(run)
                elif run in missing:
                    self._record_again(run)
            self._shorten_delivered()
            self._runner.record_ends()
            self.give_back()
            if faults != self._faults:
                # Messages come with connections; of calls that were refused alone, nobody else
                # tells.
                self._faults = faults
                self._runner.on_faults()
        except StorageUnavailable as error:
            log.debug("Redis lacks something still: %s", error)
        finally:
            self._catching_up.release()

    def _record_again(self, run: Run) -> None:
        if self._runner.record_again(run):
            run.record_lost = True
        else:
            self._runner.drop(run)

    def _shorten_delivered(self) -> None:
        delivered, self._delivered = self._delivered, []
        for start in range(0, len(delivered), 500):
            self._records.shorten(delivered[start : start + 500], DELIVERED_SECONDS - self._pause)
