"""The log: a JSON object a line for machines, readable lines for a terminal."""

from __future__ import annotations

import logging
import logging.config
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from runwait.serialization import dumps
from runwait.settings import Settings

# What a record has without anyone having added it.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_TALKATIVE = ("asyncio", "httpcore", "httpcore2", "httpx", "httpx2", "langsmith", "urllib3")

# All but tabs and line ends, which tracebacks have.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


about: ContextVar[Mapping[str, str]] = ContextVar("about", default={})  # noqa: B039 (never changed)
"""The ids of the request or the run that is worked on, for every line that is logged meanwhile."""


class AddIds(logging.Filter):
    """Lets every line pass, with the ids of what it is about."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add those that whoever logged it has not."""
        for name, value in about.get().items():
            vars(record).setdefault(name, value)
        return True


def _added(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """A JSON object a line: time, level, logger, message, and whatever was added."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the values are."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_added(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return dumps(line).decode()


class ReadableFormatter(logging.Formatter):
    """Time, level and message, then whatever was added, as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback's lines if there is one."""
        record.added = "".join(f" {name}={value}" for name, value in _added(record).items())
        # What a client sent, or a graph said, must not steer the terminal.
        return _CONTROL.sub(lambda found: repr(found[0])[1:-1], super().format(record))


def config_for(settings: Settings) -> dict[str, Any]:
    """The logging configuration, for `logging.config.dictConfig` and for gunicorn."""
    style = settings.log_format
    if style == "auto":
        style = "text" if sys.stderr.isatty() else "json"
    ours = {"level": settings.log_level, "handlers": ["stderr"], "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"ids": {"()": "runwait.logs.AddIds"}},
        "formatters": {
            "json": {"()": "runwait.logs.JsonFormatter"},
            "text": {
                "()": "runwait.logs.ReadableFormatter",
                "fmt": "%(asctime)s %(levelname)-7s %(message)s%(added)s",
                "datefmt": "%H:%M:%S",
            },
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": style,
                "filters": ["ids"],
            }
        },
        # The graphs' own lines.
        "root": {"level": settings.log_level, "handlers": ["stderr"]},
        "loggers": {
            # Not by way of the root, whose handlers a graph may replace (`logging.basicConfig`).
            "runwait": ours,
            "gunicorn.error": ours,
            # A line for each request that a model or a tool sends is not what a graph says.
            **{name: {"level": "WARNING"} for name in _TALKATIVE},
        },
    }


# Nothing that is logged shows them, and each costs time (see "Optimization" in Python's
# logging HOWTO).
for _switch in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
    setattr(logging, _switch, False)
logging._srcfile = None
