"""How long threads live, by the settings and langgraph.json's `checkpointer`."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from runwait.graphs.config import LanggraphConfig
from runwait.options.section import Section
from runwait.settings import Settings, TTLStrategy

# A hundred years; more would be beyond what a date can be.
MOST_MINUTES = 100 * 365 * 24 * 60


def completed(settings: Settings, config: LanggraphConfig) -> Settings:
    """The settings, and what langgraph.json says of threads where they leave that open.

    Raises:
        GraphLoadError: it says what cannot be done.
    """
    ttl = Section.of(config, "checkpointer").inner("ttl")
    strategy = ttl.given.get("strategy", "delete")
    if strategy not in get_args(TTLStrategy):
        raise ttl.wrong("strategy", "must be one of: delete, keep_latest")
    minutes = ttl.minutes("default_ttl", MOST_MINUTES)
    if minutes is None or settings.thread_ttl_seconds is not None:
        return settings
    return replace(settings, thread_ttl_seconds=minutes * 60, thread_ttl_strategy=strategy)
