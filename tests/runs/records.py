"""The record of a run, for tests that care little about what is in it."""

from __future__ import annotations

from runwait.storage.records import RunRecord, RunStatus


def a_record(run_id: str = "r", thread_id: str = "t", status: str = "running") -> RunRecord:
    """A run of the graph `g`, of which nothing was asked."""
    return RunRecord(
        run_id=run_id,
        thread_id=thread_id,
        assistant_id="a",
        graph_id="g",
        metadata={},
        status=RunStatus(status),
        kwargs={},
    )
