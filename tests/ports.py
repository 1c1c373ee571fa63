"""TCP ports for servers of tests, also where many processes run tests at once."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator

# Below the ports that Linux gives to outgoing connections, so that none of those takes one, and
# above those that browsers and fetch ask for nothing, of which 10080 is the last.
FIRST, LAST, BLOCK = 10_200, 32_000, 200


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, nor gets from here in another process."""
    with _lock:
        return next(port for port in itertools.islice(_ports, BLOCK) if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # A connection that ended on it a moment ago is no obstacle, nor is it to a server.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _block() -> Iterator[int]:
    """The ports after one that this process listens on for as long as it lives."""
    for first in range(FIRST, LAST, BLOCK):
        with socket.socket() as guard:
            try:
                guard.bind(("127.0.0.1", first))
                guard.listen()
            except OSError:
                continue
            yield from itertools.cycle(range(first + 1, first + BLOCK))


_lock = threading.Lock()
_ports = _block()
