"""How runs end: a status, the document, what becomes of the thread, and whom to notify."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runwait.serialization import dumps
from runwait.storage.outbox import NewWebhook
from runwait.storage.records import RunStatus, ThreadEnd
from runwait.threads.compatibility import refused_by_channel

if TYPE_CHECKING:
    from runwait.runs.run import Ending, Run

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
    def has_interrupts(self) -> bool:
        """Whether the graph waits for what its interrupts asked for."""
        waits = self.status is RunStatus.INTERRUPTED and isinstance(self.answer, dict)
        return waits and INTERRUPT in self.answer

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
    """Every process that executed it died, lost its hold on it, or was stopped."""
    message = f"given up after {attempts} attempts: each time, its process was lost or had to stop"
    return _error("RunLost", message)


def state_lost() -> Outcome:
    """Redis has lost what its thread held, and with it what the run built on."""
    return _error("RunLost", "the state of the run's thread was lost, and the run with it")


def unreadable(problem: str) -> Outcome:
    """It was never started here: its record is of another version."""
    return _error("UnreadableRun", problem)


def too_large(outcome: Outcome, size: int, most: int) -> Outcome:
    """What it came to takes more bytes than a value may; its largest part is named."""
    answer = outcome.answer
    name = ""
    if isinstance(answer, dict) and answer:
        sizes = {key: len(dumps(value)) for key, value in answer.items()}
        largest = max(sizes, key=lambda key: sizes[key])
        name = f", {sizes[largest]} of them in channel {largest!r}"
    return _error(
        "ValueTooLarge",
        f"the run's output takes {size} bytes{name}; MAX_VALUE_BYTES allows {most}",
    )


def faulted() -> Outcome:
    """The service itself failed; what happened is in its log alone."""
    return _error("InternalError", "a fault in the service ended the run; its log says more")


def of(
    run: Run,
    outcome: Outcome,
    document: bytes,
    error: BaseException | None,
    *,
    stopped: bool = False,
    rolled_back: bool = False,
) -> Ending:
    """All that a run's end comes to.

    Args:
        run: the run, with its last status.
        outcome: how it ended.
        document: the answer, JSON.
        error: what the graph raised, if that ended it.
        stopped: it was ended from outside.
        rolled_back: nothing of it is to be left.
    """
    from runwait.runs.run import Ending

    thread = _thread_end(outcome, error, rolled_back) if run.kept else None
    refused = run.kept and error is not None and refused_by_channel(error)
    webhook = _webhook(run, outcome, document)
    return Ending(document, stopped, rolled_back, thread, webhook, refused)


def _thread_end(outcome: Outcome, error: BaseException | None, rolled_back: bool) -> ThreadEnd:
    if rolled_back or getattr(error, "leaves_thread", False):
        return ThreadEnd(error=outcome.error)  # it stands as before
    if outcome.error is not None:
        return ThreadEnd("error", outcome.error)
    return ThreadEnd("interrupted" if outcome.status is RunStatus.INTERRUPTED else "idle")


def _webhook(run: Run, outcome: Outcome, document: bytes) -> NewWebhook | None:
    """Whom to notify of the end, and of what (contract section 5)."""
    url = run.request.webhook
    if url is None:
        return None
    record = run.record
    fields = {
        **record.public(),
        "run_started_at": run.started_at,
        "run_ended_at": record.updated_at,
        **({"error": outcome.error} if outcome.error is not None else {}),
    }
    values = document if outcome.error is None else dumps(run.values or {})
    body = dumps(fields)[:-1] + b',"values":' + values + b"}"
    return NewWebhook(url, body, run.trace)


def _error(name: str, message: str) -> Outcome:
    return Outcome(RunStatus.ERROR, {ERROR: {"error": name, "message": message}})


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text cannot be had)"
