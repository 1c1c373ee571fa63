"""Pre-signed LangSmith URLs, under which whoever has the answer can leave feedback."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from langsmith.run_trees import get_cached_client
from langsmith.utils import get_env_var, tracing_is_enabled

log = logging.getLogger("runwait.runs")

# Threads of its own, started when first needed: LangSmith may be slow, and runs must not be.
_pool = ThreadPoolExecutor(4, thread_name_prefix="feedback")


def configured() -> bool:
    """Whether LangSmith is set up, by its own environment variables."""
    return bool(tracing_is_enabled() and get_env_var("API_KEY"))


def ask(run_id: str, keys: Sequence[str]) -> Future[dict[str, str]]:
    """Ask for a URL for each key. Where LangSmith gives none: a warning, and none."""
    return _pool.submit(_urls, run_id, keys)


def _urls(run_id: str, keys: Sequence[str]) -> dict[str, str]:
    try:
        give = get_cached_client().create_presigned_feedback_token
        return {key: give(run_id, key).url for key in keys}
    except Exception as error:
        log.warning("no feedback URLs for run %s: %s", run_id, error)
        return {}
