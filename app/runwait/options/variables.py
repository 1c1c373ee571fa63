"""What whoever starts the service should know of its environment variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields
from difflib import get_close_matches

from runwait import aliases
from runwait.graphs.config import GraphLoadError, LanggraphConfig
from runwait.settings import Settings

_SETTINGS = [each.name.upper() for each in fields(Settings)]
# As difflib has it: a letter too many, too few or wrong, and two of a long name.
_ALIKE = 0.9
# Where they do not count, more is let in, or can be read, than was meant.
_PROTECTING = ("API_KEYS", "ISOLATE_KEYS", "LANGGRAPH_AES_KEY", "RATE_LIMIT")


def notes(config: LanggraphConfig) -> Iterator[str]:
    """A line for each. To be called before langgraph.json's `env` is set.

    Raises:
        GraphLoadError: `env` sets what is meant to protect, and only counts in the environment.
    """
    yield from aliases.notes(os.environ)
    known = {*_SETTINGS, *aliases.REFUSED, *aliases.WITHOUT_EFFECT}.union(*aliases.ALIASES.values())
    for name in sorted(os.environ.keys() - known):
        for meant in _meant(name):
            yield f"{name} is set and is no setting: is {meant} meant?"
    settings = known.difference(aliases.WITHOUT_EFFECT)
    passed_over = [name for name in config.env if name in settings and name not in os.environ]
    if protecting := [name for name in passed_over if name in _PROTECTING]:
        reason = "protects nothing there: the service has its settings from the environment alone"
        raise GraphLoadError(config.path, "env", ", ".join(protecting), reason)
    if passed_over:
        yield (
            f"{config.path}: env: {', '.join(passed_over)}: for the graphs alone; "
            "the service has its settings from the environment"
        )


def _meant(name: str) -> list[str]:
    """The setting that a name most likely stands for, if there is one."""
    if f"{name}_SECONDS" in _SETTINGS:
        return [f"{name}_SECONDS"]
    return get_close_matches(name, _SETTINGS, 1, _ALIKE)
