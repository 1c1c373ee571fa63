"""Environment variables of LangGraph's Agent Server, for those who come from there.

What means the same as a setting is taken for that, unless the setting itself is there. What would
keep somebody out and is not read stops the start; what has no effect is named once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping

_TRUE = ("1", "true", "t", "yes", "y", "on")
_FALSE = ("0", "false", "f", "no", "n", "off")


def _same(value: str) -> str:
    return value


def _one_more(value: str) -> str:
    """Attempts, from retries."""
    return str(int(value) + 1) if value.strip().isdecimal() else value


def _as_format(value: str) -> str | None:
    if value.strip().lower() in _TRUE:
        return "json"
    if value.strip().lower() in _FALSE:
        return None
    raise ValueError("Must be true or false.")


# Each setting that is known there by other names: the first that is set counts.
ALIASES: dict[str, dict[str, Callable[[str], str | None]]] = {
    "REDIS_URL": {"REDIS_URI_CUSTOM": _same, "REDIS_URI": _same},
    "REDIS_PREFIX": {"REDIS_KEY_PREFIX": _same},
    "RUN_CONCURRENCY": {"N_JOBS_PER_WORKER": _same},
    "RUN_TIMEOUT_SECONDS": {"BG_JOB_TIMEOUT_SECS": _same},
    "RUN_MAX_ATTEMPTS": {"BG_JOB_MAX_RETRIES": _one_more},
    "SHUTDOWN_GRACE_SECONDS": {"BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": _same},
    "LOG_FORMAT": {"LOG_JSON": _as_format},
}

# What would let more in than is meant, if it were passed over.
REFUSED = {
    "LANGGRAPH_AUTH": "is not read: have auth in langgraph.json",
    "LANGGRAPH_HTTP": "is not read: have http in langgraph.json",
    "LANGGRAPH_WEBHOOKS": "is not read: have webhooks in langgraph.json",
    "LANGGRAPH_ENCRYPTION": "is not read, and encryption by a path is not supported",
    "LANGGRAPH_AUTH_TYPE": "must be noop or unset: LangSmith's keys are not known here",
}

WITHOUT_EFFECT = (
    "BG_JOB_ISOLATED_LOOPS",
    "DATABASE_URI",
    "LANGGRAPH_CHECKPOINTER",
    "LANGGRAPH_CLOUD_LICENSE_KEY",
    "LANGGRAPH_STORE",
    "LANGSERVE_GRAPHS",
    "LANGSMITH_LICENSE_KEY",
    "LS_CHECKPOINT_DELETE",
    "LS_DEFAULT_CHECKPOINTER_BACKEND",
    "LS_MONGODB_URI",
    "POSTGRES_URI",
    "POSTGRES_URI_CUSTOM",
    "RESUMABLE_STREAM_TTL_SECONDS",
)

_NOTHING = ("", "{}", "null")


def adopt(environ: MutableMapping[str, str]) -> dict[str, list[str]]:
    """Set each setting that is not there and has another name that is.

    Returns:
        What is wrong, by the variable.
    """
    problems: dict[str, list[str]] = {}
    for setting in ALIASES:
        try:
            name, value = _given(environ, setting)
        except ValueError as error:
            problems[str(error.args[0])] = [str(error.args[1])]
            continue
        if name is not None and value is not None and not environ.get(setting):
            environ[setting] = value
    for name, reason in REFUSED.items():
        value = environ.get(name, "")
        if value not in _NOTHING and (name, value) != ("LANGGRAPH_AUTH_TYPE", "noop"):
            problems[name] = [reason]
    return problems


def given_as(environ: Mapping[str, str], setting: str) -> str:
    """The name by which a setting was given, for errors."""
    try:
        name, value = _given(environ, setting)
    except ValueError:
        return setting
    return name if name is not None and environ.get(setting) == value else setting


def notes(environ: Mapping[str, str]) -> list[str]:
    """What whoever starts the service should know, a line each."""
    lines = []
    for setting, names in ALIASES.items():
        counts = given_as(environ, setting)
        lines += [
            f"{name} is set and does not count: {counts} does"
            for name in names
            if environ.get(name) and environ.get(setting) and name != counts
        ]
    if idle := [name for name in WITHOUT_EFFECT if environ.get(name, "") not in _NOTHING]:
        lines.append(f"of no effect here: {', '.join(idle)}")
    return lines


def _given(environ: Mapping[str, str], setting: str) -> tuple[str | None, str | None]:
    """The other name by which a setting is given, and its value as the setting has it."""
    for name, translate in ALIASES[setting].items():
        if given := environ.get(name):
            try:
                return name, translate(given)
            except ValueError as error:
                raise ValueError(name, str(error)) from None
    return None, None
