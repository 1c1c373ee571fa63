"""The clients' connections, as far as a run's answer depends on them.

gunicorn hands a request its socket (`environ["gunicorn.socket"]`). Where there is none, as
under Flask's test client, all of this does nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

# close() sends a reset, and drops what was not sent yet.
_RESET = struct.pack("ii", 1, 0)
_FINISH = struct.pack("ii", 0, 0)

_GONE = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


def socket_of(environ: dict[str, Any]) -> socket.socket | None:
    """The connection that a request came on."""
    found: socket.socket | None = environ.get("gunicorn.socket")
    return found


def end_with_reset(connection: socket.socket) -> None:
    """Have the connection reset, not ended, if this process dies or closes it.

    The end of a body without length and chunks, as HTTP/1.0 has it, is the connection's: a
    client could not tell an answer that was cut from one that is whole.
    """
    _linger(connection, _RESET)


def end_as_usual(connection: socket.socket) -> None:
    """Take `end_with_reset` back, once the answer is written."""
    _linger(connection, _FINISH)


def ends_with_reset(connection: socket.socket) -> bool:
    """Whether `end_with_reset` holds."""
    try:
        return connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESET)) == _RESET
    except OSError:  # it was closed
        return False


def reset(connection: socket.socket) -> ConnectionResetError:
    """Reset the connection at once; the error returned is to be raised.

    The socket object stays usable for whoever closes it later: it is given the end of a pair
    of which the other end is closed.
    """
    end_with_reset(connection)
    here, there = socket.socketpair()
    with here, there:
        os.dup2(here.fileno(), connection.fileno())
    return ConnectionResetError(errno.ECONNRESET, "the answer is to be had elsewhere")


def _linger(connection: socket.socket, how: bytes) -> None:
    with contextlib.suppress(OSError):  # the client is gone already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)


class Watcher:
    """Notices clients that go away while they wait, with one thread for all of them.

    What is watched for is the peer's FIN or reset as the kernel reports it. Reading with
    MSG_PEEK, the usual way, is fooled by a request sent ahead.
    """

    def __init__(self) -> None:
        """Prepare; nothing is watched before `start`."""
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._poller: _Poller | None = None

    def start(self) -> None:
        """Watch, on a thread of its own."""
        self._poller = _Poller()
        threading.Thread(
            target=self._run, args=(self._poller,), name="clients", daemon=True
        ).start()

    def watch(self, connection: socket.socket, gone: Callable[[], None]) -> Callable[[], None]:
        """Call `gone` once if the peer goes away, or has gone already.

        Returns:
            What stops the watch; to be called before the connection is closed.
        """
        descriptor = connection.fileno()
        assert self._poller is not None, "the watcher was not started"
        with self._lock:
            self._callbacks[descriptor] = gone
            self._poller.add(descriptor)
        return lambda: self._unwatch(descriptor, gone)

    def _unwatch(self, descriptor: int, gone: Callable[[], None]) -> None:
        assert self._poller is not None
        with self._lock:
            if self._callbacks.get(descriptor) is gone:
                del self._callbacks[descriptor]
                self._poller.remove(descriptor)

    def _run(self, poller: _Poller) -> None:
        while True:
            for descriptor in poller.gone():
                with self._lock:
                    # Since the poller said so, the connection may have been closed, and its
                    # number been given to another one that is watched too.
                    if descriptor not in self._callbacks or not _is_gone(descriptor):
                        continue
                    callback = self._callbacks.pop(descriptor)
                    poller.remove(descriptor)
                callback()


def _is_gone(descriptor: int) -> bool:
    now = select.poll()
    now.register(descriptor, _GONE)
    return bool(now.poll(0))


if sys.platform == "linux":

    class _Poller:
        """Linux."""

        def __init__(self) -> None:
            self._epoll = select.epoll()

        def add(self, descriptor: int) -> None:
            self._epoll.register(descriptor, select.EPOLLRDHUP | select.EPOLLONESHOT)

        def remove(self, descriptor: int) -> None:
            with contextlib.suppress(OSError):  # the connection was reset by this process
                self._epoll.unregister(descriptor)

        def gone(self) -> list[int]:
            return [descriptor for descriptor, _ in self._epoll.poll()]


else:

    class _Poller:
        """macOS and the BSDs. Bytes sent ahead wake it too, once; only EV_EOF counts."""

        def __init__(self) -> None:
            self._kqueue = select.kqueue()

        def add(self, descriptor: int) -> None:
            self._change(descriptor, select.KQ_EV_ADD | select.KQ_EV_CLEAR)

        def remove(self, descriptor: int) -> None:
            with contextlib.suppress(OSError):
                self._change(descriptor, select.KQ_EV_DELETE)

        def gone(self) -> list[int]:
            events = self._kqueue.control(None, 64, None)
            return [int(each.ident) for each in events if each.flags & select.KQ_EV_EOF]

        def _change(self, descriptor: int, flags: int) -> None:
            event = select.kevent(descriptor, select.KQ_FILTER_READ, flags)
            self._kqueue.control([event], 0)
