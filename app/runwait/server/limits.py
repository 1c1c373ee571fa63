"""What the machine must give, made sure of before anyone relies on it."""

from __future__ import annotations

import threading


class NotEnoughThreads(Exception):
    """The machine does not give as many threads as the settings need; the text says how many."""


def check_threads(needed: int) -> None:
    """Start so many threads at once and end them again.

    Whether a limit of the user, of the container or of the kernel strikes cannot be read off
    any one place, and a thread that is refused later takes the whole process down.

    Raises:
        NotEnoughThreads: it gave fewer.
    """
    leave = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(needed):
            thread = threading.Thread(target=leave.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        raise NotEnoughThreads(
            f"this machine gives {len(started)} threads of the {needed} that these settings need: "
            "lower WAITERS_MAX, RUN_CONCURRENCY or WEB_CONCURRENCY"
        ) from None
    finally:
        leave.set()
        for thread in started:
            thread.join()
