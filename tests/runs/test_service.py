"""What the service makes of what its parts say."""

from __future__ import annotations

import pytest

from runwait.runs.events import RunNotFound
from runwait.runs.service import Service
from runwait.settings import Settings
from runwait.storage.connection import StorageUnavailable


@pytest.mark.parametrize(
    ("removed", "cancelled", "outcome"),
    [
        ([True], None, None),
        ([None], None, RunNotFound),
        ([False, True], True, None),
        # It ended by itself, just before it was to be cancelled.
        ([False, True], False, None),
        ([False, None], False, RunNotFound),
        # It went with its end: nobody is to have its result.
        ([False, None], True, None),
        ([False, False], True, StorageUnavailable),
    ],
)
def test_a_run_is_deleted_whatever_it_does_meanwhile(monkeypatch, removed, cancelled, outcome):
    service = Service(Settings(), {})
    answers = iter(removed)
    monkeypatch.setattr(service._records, "remove", lambda thread_id, run_id: next(answers))

    def cancel(thread_id: str, run_id: str, action: str, *, wait: bool) -> None:
        assert wait
        if not cancelled:
            raise RunNotFound(run_id)

    monkeypatch.setattr(service, "cancel", cancel)
    if outcome is None:
        service.delete("t", "r")
    else:
        with pytest.raises(outcome):
            service.delete("t", "r")
    assert list(answers) == []
