"""Times as the API shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime.fromtimestamp(0, UTC)


def shown(**since_1970: float) -> str:
    """A time, by what `timedelta` takes: ISO 8601 in UTC, always with microseconds, so that texts
    sort as times do."""
    return (EPOCH + timedelta(**since_1970)).isoformat(timespec="microseconds")
