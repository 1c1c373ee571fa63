"""Runs of all kinds, while whatever can die does: the smaller brother of `make chaos`.

CHAOS_SEED repeats what was asked for and how it was struck; not at which moments.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from tests.chaos.chaos import hold

RUNS = 60
LEASE_SECONDS = 1.0
# For the answers, and for webhooks whose process died while it delivered them.
SECONDS = 90
PATIENCE_SECONDS = 60


@pytest.mark.timeout(SECONDS + PATIENCE_SECONDS + 60)
@pytest.mark.long
def test_no_answer_is_lost_and_none_is_given_twice_whatever_dies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbits(32))
    with capsys.disabled():
        print(f"\nCHAOS_SEED={seed}")
    verdict = hold(
        tmp_path,
        seed=seed,
        runs=RUNS,
        at_once=10,
        seconds=SECONDS,
        patience=PATIENCE_SECONDS,
        lease=LEASE_SECONDS,
    )
    assert verdict.good, "\n".join([f"CHAOS_SEED={seed}", str(verdict), *verdict.notes])
