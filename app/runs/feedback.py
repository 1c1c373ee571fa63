"""Pre-signed LangSmith URLs, under which whoever has the answer can leave feedback."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from langsmith.run_trees import get_cached_client
from langsmith.utils import get_env_var, tracing_is_enabled

log = logging.getLogger("runwait.runs")


def configured() -> bool:
    """Whether LangSmith is set up, by its own environment variables."""
    return bool(tracing_is_enabled() and get_env_var("API_KEY"))


def urls(run_id: str, keys: Sequence[str]) -> dict[str, str]:
    """A URL for each key. Where LangSmith gives none: a warning, and none."""
    try:
        give = get_cached_client().create_presigned_feedback_token
        return {key: give(run_id, key).url for key in keys}
    except Exception as error:
        log.warning("no feedback URLs for run %s: %s", run_id, error)
        return {}
