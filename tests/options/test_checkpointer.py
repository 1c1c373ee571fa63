"""How long threads live, by the settings and langgraph.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runwait.graphs.config import GraphLoadError, LanggraphConfig
from runwait.options.checkpointer import completed
from runwait.settings import Settings


def config(**ttl: Any) -> LanggraphConfig:
    return LanggraphConfig(Path("x.json"), {}, (), {}, sections={"checkpointer": {"ttl": ttl}})


def test_threads_live_as_long_as_it_says_in_minutes():
    done = completed(Settings(), config(default_ttl=1.5, sweep_interval_minutes=10))
    assert (done.thread_ttl_seconds, done.thread_ttl_strategy) == (90, "delete")
    done = completed(Settings(), config(default_ttl=2, strategy="keep_latest"))
    assert (done.thread_ttl_seconds, done.thread_ttl_strategy) == (120, "keep_latest")


def test_what_the_environment_says_of_them_counts_alone():
    given = Settings(thread_ttl_seconds=5.0)
    assert completed(given, config(default_ttl=2, strategy="keep_latest")) == given


@pytest.mark.parametrize("ttl", [{}, {"default_ttl": None}, {"strategy": "keep_latest"}])
def test_without_a_number_they_live_for_ever(ttl):
    assert completed(Settings(), config(**ttl)) == Settings()


@pytest.mark.parametrize(
    ("ttl", "key"),
    [
        ({"default_ttl": 0}, "default_ttl"),
        ({"default_ttl": "5"}, "default_ttl"),
        ({"default_ttl": True}, "default_ttl"),
        ({"default_ttl": 1e9}, "default_ttl"),
        ({"strategy": "forget"}, "strategy"),
        ({"strategy": []}, "strategy"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_its_key(ttl, key):
    for given in (Settings(), Settings(thread_ttl_seconds=5.0)):
        with pytest.raises(GraphLoadError) as got:
            completed(given, config(**ttl))
        assert str(got.value).startswith(f"x.json: checkpointer.ttl.{key}: must be ")
