"""How runs end: a status, and the document that answers whoever waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.storage.records import RunStatus

INTERRUPT = "__interrupt__"
ERROR = "__error__"


@dataclass(frozen=True)
class Outcome:
    """A run's end.

    Attributes:
        status: the status it ends with.
        answer: what the document holds; any Python value.
    """

    status: RunStatus
    answer: Any


def succeeded(values: Any) -> Outcome:
    """The graph came to its end with these values."""
    return Outcome(RunStatus.SUCCESS, {} if values is None else values)


def interrupted(values: Any, interrupts: Sequence[Any]) -> Outcome:
    """The graph stopped at interrupts, or (with none) at a breakpoint."""
    if not interrupts:
        return Outcome(RunStatus.INTERRUPTED, {} if values is None else values)
    held = values if isinstance(values, dict) else {}
    return Outcome(RunStatus.INTERRUPTED, {**held, INTERRUPT: list(interrupts)})


def cancelled(values: Any) -> Outcome:
    """Somebody stopped it; these are its values so far."""
    return Outcome(RunStatus.INTERRUPTED, {} if values is None else values)


def failed(error: BaseException) -> Outcome:
    """The graph raised."""
    return _error(type(error).__name__, _text_of(error))


def timed_out(seconds: float) -> Outcome:
    """It took longer than a run may."""
    message = f"the run was stopped after {seconds:g} seconds, the longest a run may take"
    return Outcome(RunStatus.TIMEOUT, _error("TimeoutError", message).answer)


def shut_down() -> Outcome:
    """The process had to stop before the run ended."""
    return _error("ServiceShutdown", "the service was stopped before the run ended")


def lost() -> Outcome:
    """The process that ran it is gone."""
    return _error("RunLost", "the process that executed the run ended before the run did")


def faulted() -> Outcome:
    """The service itself failed; what happened is in its log alone."""
    return _error("InternalError", "a fault in the service ended the run; its log says more")


def _error(name: str, message: str) -> Outcome:
    return Outcome(RunStatus.ERROR, {ERROR: {"error": name, "message": message}})


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text cannot be had)"
