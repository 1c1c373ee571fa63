"""Who calls, and whether they may: what every view asks before it does anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import g

from runwait.auth.user import User

Filters = Mapping[str, Any]
"""What the metadata of a thread, an assistant or a cron must contain (`storage.metadata.contains`)
to be there for the caller."""


def caller() -> User | None:
    """Who calls; None where nobody is asked who they are."""
    user: User | None = g.get("caller")
    return user


def authorize(resource: str, action: str, value: dict[str, Any]) -> Filters | None:
    """Ask whether the caller may do something.

    Args:
        resource: threads, assistants, crons or store.
        action: create, read, update, delete, search, create_run; of the store put, get, search,
            delete, list_namespaces.
        value: what it is to be done with, as the Agent Server's handlers are given it. It may be
            changed: what it is then is what is to be done.

    Returns:
        What has to be in the metadata of whatever this is done to; None for no such condition.
    """
    return None
