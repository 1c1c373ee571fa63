"""One connection a process on which it is told of runs."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import NoPermissionError, RedisError

from runwait.storage.cluster import server_of
from runwait.storage.connection import StorageUnsuitable, client, pauses

log = logging.getLogger("runwait.storage")

# A connection on which nothing came for so long is asked whether it is alive.
QUIET_SECONDS = 10.0
# Longest pause between attempts to subscribe.
PAUSE_SECONDS = 2.0


class Subscriber:
    """Listens on channels for as long as the process lives.

    A message is a hint and may be lost, with a connection for example. So every confirmed
    subscription, the first or after a reconnect, is reported too: what was waited for must
    then be read again.
    """

    def __init__(
        self,
        url: str,
        channels: Sequence[str],
        on_message: Callable[[str], None],
        on_subscribed: Callable[[], None],
        prefix: str = "",
    ) -> None:
        """Prepare; `start` opens the connection, in a cluster to where the prefix's keys are."""
        self._prefix = prefix
        self._url = url
        self._channels = channels
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._subscription: Any = None
        # Which right is lacking, if one is.
        self.problem: str | None = None

    def start(self) -> None:
        """Listen, on a thread of its own."""
        threading.Thread(target=self._run, name="subscriber", daemon=True).start()

    def renew(self) -> None:
        """Subscribe again: the server may be silent, or one that nobody writes to any more."""
        with contextlib.suppress(AttributeError, TypeError, OSError):
            # That of TCP: what TLS would do is for the thread that reads.
            socket.socket.shutdown(self._subscription.connection._sock, socket.SHUT_RDWR)

    def _run(self) -> None:
        waiting = pauses(PAUSE_SECONDS)
        while True:
            subscription: Any = None
            try:
                url = server_of(self._url, self._prefix)
                listener: Any = client(url, health_check_interval=QUIET_SECONDS)
                self._subscription = subscription = listener.pubsub()
                subscription.subscribe(*self._channels)
                while True:
                    message: Any = subscription.get_message(timeout=QUIET_SECONDS)
                    waiting = pauses(PAUSE_SECONDS)
                    if message is None:
                        continue
                    if message["type"] == "subscribe":
                        self.problem = None
                        self._on_subscribed()
                    elif message["type"] == "message":
                        self._on_message(message["data"].decode())
            except NoPermissionError as error:
                problem = f"Redis's user may not subscribe: {error}"
                if problem != self.problem:
                    log.warning(problem)
                self.problem = problem
            except (RedisError, StorageUnsuitable) as error:
                log.debug("the subscription broke: %s", error)
            except Exception:
                log.exception("fault while handling a message")
            finally:
                if subscription is not None:
                    subscription.close()
            time.sleep(next(waiting))
