"""What the children that graphs fork leave to this process.

Under Python before 3.14 `multiprocessing` forks too. Such a child has a copy of all that this
process has: a client's connection would stay open where it is closed here, or where this process
dies, and a port would stay taken. A signal that it is sent, as `Process.terminate` does, would be
told through a pipe that both have to this process's event loop, which would stop the service.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import selectors
import signal
import threading
from collections.abc import Callable, Collection

log = logging.getLogger("runwait.runs")

_is_child = False


def leave_to_parent(
    heard: Collection[signal.Signals], close: Callable[[], object] = lambda: None
) -> None:
    """From now on, children of this process have none of what is only for it.

    Args:
        heard: signals that this process does something of its own at.
        close: called in each child, to close its copies of sockets.
    """
    calling = threading.local()

    # A signal that a child is sent at once waits for what `in_child` does.
    def before() -> None:
        calling.mask = signal.pthread_sigmask(signal.SIG_BLOCK, heard)

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, calling.mask)

    def in_child() -> None:
        global _is_child
        _is_child = True
        signal.set_wakeup_fd(-1)
        for each in heard:
            signal.signal(each, signal.SIG_DFL)
        close()
        signal.pthread_sigmask(signal.SIG_SETMASK, calling.mask)

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def end_if_child() -> None:
    """End a child that comes back from its node: it would go on with the run, too."""
    if _is_child:
        log.warning("a process that a node forked came back from it, and was ended")
        os._exit(1)


def end_children() -> None:
    """End what `multiprocessing` started here, since this process leaves by `os._exit`."""
    for child in multiprocessing.active_children():
        child.terminate()


class Selector(selectors.DefaultSelector):
    """An event loop's, which no child goes on with: it would be told what this process is to be."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for what is to be done."""
        end_if_child()
        return super().select(timeout)
