"""How runs end: a status, and the document that answers whoever waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runwait.storage.records import RunStatus

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

    @property
    def error(self) -> dict[str, str] | None:
        """The error that ended it, if one did: {error, message}."""
        if self.status not in (RunStatus.ERROR, RunStatus.TIMEOUT):
            return None
        error: dict[str, str] = self.answer[ERROR]
        return error


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


def failed(error: BaseException, channel: str | None = None) -> Outcome:
    """The graph raised; its message names the channel in whose code, if that is given."""
    text = _text_of(error)
    if channel is not None and repr(channel) not in text:
        text = f"channel {channel!r}: {text}"
    return _error(type(error).__name__, text)


def timed_out(seconds: float) -> Outcome:
    """It took longer than a run may."""
    message = f"the run was stopped after {seconds:g} seconds, the longest a run may take"
    return Outcome(RunStatus.TIMEOUT, _error("TimeoutError", message).answer)


def lost() -> Outcome:
    """Redis has forgotten it, and no process has it."""
    return _error("RunLost", "the run's record was lost, and the run with it")


def given_up(attempts: int) -> Outcome:
    """Every process that executed it died or lost its hold on it."""
    message = f"given up after {attempts} attempts: each time, its process was lost"
    return _error("RunLost", message)


def state_lost() -> Outcome:
    """Redis has lost what its thread held, and with it what the run built on."""
    return _error("RunLost", "the state of the run's thread was lost, and the run with it")


def unreadable(problem: str) -> Outcome:
    """It was never started here: its record is of another version."""
    return _error("UnreadableRun", problem)


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
