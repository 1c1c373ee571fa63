"""Delivers webhooks: takes what is due from the outbox, POSTs it, and notes how that went.

Headers and signature are those of the Standard Webhooks specification (standardwebhooks.com). A
webhook is delivered at least once: a receiver that was told and whose answer was lost is told
again, under the same `webhook-id`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import httpcore

from runwait.pool import jittered
from runwait.storage.connection import StorageUnavailable
from runwait.storage.outbox import Outbox, Webhook, WebhookOutcome
from runwait.trace_context import HEADERS
from runwait.version import __version__
from runwait.webhooks.signatures import signature, signing_key
from runwait.webhooks.targets import (
    Target,
    WebhookRefused,
    WebhookRules,
    addresses_of,
    target_of,
)

log = logging.getLogger("runwait.webhooks")

# An attempt in all: name, connection, TLS, what is sent and the answer's status.
ATTEMPT_SECONDS = 15.0
# One address of several; the last gets what is left.
CONNECT_SECONDS = 3.0
# The answer's body, which nobody needs: so much of it is waited for, since a receiver whose answer
# is cut off may take that for a failure.
BODY_SECONDS = 1.0
BODY_BYTES = 65_536
# After this another process takes a webhook over. An attempt and its note must fit in.
LEASE_SECONDS = 30.0
# Attempts under way in one process, in all and to one receiver; once half of all are taken, a
# receiver is given one at a time, so that it takes many slow ones to hold up the others.
CONCURRENCY = 100
PER_RECEIVER = 4
# Names being looked up at once.
LOOKUPS = 32
# Redis is asked again after so long where it did not answer and nobody says that it is back.
AGAIN_SECONDS = 1.0
# Of why an attempt failed.
REASON_CHARACTERS = 300
# What a stop takes beyond the time that it gives to attempts.
LAST_SECONDS = 3.0

# Pauses between attempts: full jitter below a bound that doubles from the first to the last.
FIRST_PAUSE_SECONDS = 5.0
LAST_PAUSE_SECONDS = 4 * 3600.0
SHORTEST_PAUSE_SECONDS = 1.0
# An attempt that fails this long after the first, or later, is the last.
GIVE_UP_SECONDS = 24 * 3600.0


def pause_after(attempts: int, age: float) -> float | None:
    """The pause after a failed attempt, in seconds.

    Args:
        attempts: how many there were, at least 1.
        age: seconds since the first.

    Returns:
        None if there is to be no further one.
    """
    if age >= GIVE_UP_SECONDS:
        return None
    # The exponent is bounded for the sake of the float alone.
    bound = min(LAST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(attempts - 1, 30))
    return max(SHORTEST_PAUSE_SECONDS, random.uniform(0, bound))  # nosec B311 # no secret


@dataclass(frozen=True)
class Request:
    """What is sent in one attempt."""

    headers: list[tuple[str, str]]
    content: bytes

    @classmethod
    def of(
        cls,
        webhook: Webhook,
        target: Target,
        key: bytes | None,
        at: datetime,
        more: Iterable[tuple[str, str]] = (),
    ) -> Request:
        """The request of an attempt that begins at this time, signed if there is a key.

        `more` are headers of the operator's.
        """
        # Put in as text: whatever the body holds arrives as it was written.
        sent_at = f',"webhook_sent_at":{json.dumps(at.isoformat())}}}'.encode()
        content = webhook.body.rstrip().removesuffix(b"}") + sent_at
        timestamp = int(at.timestamp())
        headers = [
            ("Host", _host_header(target)),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(content))),
            ("User-Agent", f"runwait/{__version__}"),
            ("Connection", "close"),
            ("webhook-id", webhook.run_id),
            ("webhook-timestamp", str(timestamp)),
        ]
        headers += [(name, webhook.trace[name]) for name in HEADERS if name in webhook.trace]
        if key is not None:
            signed = signature(key, webhook.run_id, timestamp, content)
            headers.append(("webhook-signature", signed))
        named = {name.lower() for name, _ in more}
        return cls([each for each in headers if each[0].lower() not in named] + [*more], content)


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to addresses that the rules allow, and to no others.

    A name is resolved here, once, so that what was checked is what is connected to.
    """

    def __init__(self, rules: WebhookRules) -> None:
        """Prepare."""
        self._rules = rules
        self._network = httpcore.AnyIOBackend()
        self._lookups = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="webhook-address")
        self._addresses_of = partial(addresses_of, lookups=threading.BoundedSemaphore(LOOKUPS))

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first of the host's addresses that takes the connection.

        Raises:
            WebhookRefused: one of them is not allowed, or none is known.
            httpcore.ConnectError, httpcore.ConnectTimeout: the last of them took no connection.
        """
        target = Target("http", host, port, "/")
        loop = asyncio.get_running_loop()
        addresses = await loop.run_in_executor(
            self._lookups, self._addresses_of, target, self._rules
        )
        for address in addresses[:-1]:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._network.connect_tcp(
                    str(address), port, CONNECT_SECONDS, local_address, socket_options
                )
        return await self._network.connect_tcp(
            str(addresses[-1]), port, timeout, local_address, socket_options
        )

    def close(self) -> None:
        """Look up nothing more."""
        self._lookups.shutdown(wait=False)


class Deliveries:
    """Delivers what is in the outbox, on an event loop of its own.

    It sleeps until the next webhook is due, or until it is woken.
    """

    def __init__(
        self,
        outbox: Outbox,
        rules: WebhookRules,
        secret: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        on_attempt: Callable[[Webhook, WebhookOutcome], None] = lambda webhook, outcome: None,
    ) -> None:
        """Prepare; nothing is sent before `start`.

        Args:
            outbox: what is to be delivered.
            rules: where it may go.
            secret: what requests are signed with, `whsec_...`; None: they are not.
            headers: what requests have besides.
            on_attempt: told what came of each attempt.

        Raises:
            ValueError: the secret is none.
        """
        self._outbox = outbox
        self._rules = rules
        self._headers = headers
        self._key = None if secret is None else signing_key(secret)
        self._on_attempt = on_attempt
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._awake = asyncio.Event()
        # Set once it is to stop: the seconds that attempts still have.
        self._grace: float | None = None
        self._network = CheckedNetwork(rules)
        # Only what goes on the loop touches these.
        self._tasks: set[asyncio.Task[None]] = set()
        self._attempts: set[asyncio.Task[None]] = set()
        self._busy: Counter[str] = Counter()
        # Whether receivers were to be given no more when the outbox was last asked.
        self._passed_over = False
        self._trust: ssl.SSLContext | None = None

    def start(self) -> None:
        """Deliver from now on, on a thread of its own; nothing where the rules say so."""
        if self._rules.off:
            return
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something may have become due; for any thread, at any time."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._awake.set)

    def stop(self, grace: float) -> None:
        """Take nothing more, and give attempts `grace` seconds to end.

        What has not ended is given back to Redis. Returns when that is done.
        """
        self._grace = grace
        self.wake()
        if self._thread is not None:
            self._thread.join(grace + LAST_SECONDS)

    def _run(self) -> None:
        asyncio.run(self._deliver())

    async def _deliver(self) -> None:
        # Known before it is asked whether to stop, so that a stop is not missed.
        self._loop = asyncio.get_running_loop()
        while self._grace is None:
            self._awake.clear()
            try:
                pause = await self._take_all()
            except Exception:
                log.exception("fault while taking webhooks")
                pause = AGAIN_SECONDS
            if self._grace is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._awake.wait()
        await self._end(self._grace)

    async def _end(self, grace: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._attempts:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_SECONDS - 1)
        self._network.close()

    async def _take_all(self) -> float | None:
        """Begin to deliver all that is due; the seconds until more is, None if nobody knows."""
        while self._grace is None and len(self._tasks) < CONCURRENCY:
            most = PER_RECEIVER if len(self._tasks) < CONCURRENCY / 2 else 1
            full = [receiver for receiver, n in self._busy.items() if n >= most]
            self._passed_over = bool(full)
            try:
                webhook, due = await self._outbox.claim(LEASE_SECONDS, full)
            except StorageUnavailable as error:
                log.debug("no webhook could be taken: %s", error)
                return AGAIN_SECONDS
            if webhook is None:
                return None if due is None else jittered(due)
            self._busy[webhook.receiver] += 1
            task = asyncio.create_task(self._attend_to(webhook))
            self._tasks.add(task)
            self._attempts.add(task)
            task.add_done_callback(partial(self._done, webhook))
        return None

    def _done(self, webhook: Webhook, task: asyncio.Task[None]) -> None:
        if len(self._tasks) >= CONCURRENCY or self._passed_over:
            # What had to wait for this one's place may be due.
            self._awake.set()
        self._tasks.discard(task)
        self._attempts.discard(task)
        self._busy[webhook.receiver] -= 1
        if not self._busy[webhook.receiver]:
            del self._busy[webhook.receiver]
        if not task.cancelled() and (fault := task.exception()):
            log.error("fault while delivering webhook %s", webhook.run_id, exc_info=fault)

    async def _attend_to(self, webhook: Webhook) -> None:
        """Try once, and note what came of it."""
        try:
            error = await self._attempt(webhook)
        except asyncio.CancelledError:
            with suppress(StorageUnavailable):
                await self._outbox.release(webhook)
            return
        # From here on it is known, and is not to be forgotten by a stop.
        self._attempts.discard(asyncio.current_task())
        if error is None:
            log.info("webhook %s delivered", webhook.run_id)
            self._on_attempt(webhook, "delivered")
            await _until_taken(partial(self._outbox.delivered, webhook))
            return
        pause = pause_after(webhook.attempts, webhook.age)
        if pause is None:
            log.error("webhook %s given up: %s", webhook.run_id, error)
        else:
            log.warning("webhook %s not delivered: %s", webhook.run_id, error)
        self._on_attempt(webhook, "given_up" if pause is None else "failed")
        await _until_taken(partial(self._outbox.failed, webhook, pause, error))
        # The next one may be due earlier than the lease would have ended.
        self._awake.set()

    async def _attempt(self, webhook: Webhook) -> str | None:
        """Send it; why it did not arrive, or None."""
        status = None
        try:
            target = target_of(webhook.url, self._rules)
            now = datetime.now(UTC)
            request = Request.of(webhook, target, self._key, now, self._headers)
            async with asyncio.timeout(ATTEMPT_SECONDS) as limit:
                async with self._answer(target, request) as answer:
                    status = answer.status
                    limit.reschedule(asyncio.get_running_loop().time() + BODY_SECONDS)
                    await _read_some(answer)
        except WebhookRefused as error:
            return f"its URL {error}"
        except (
            TimeoutError,
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.TimeoutException,
        ) as error:
            # What counts is the status, whatever becomes of the rest.
            if status is None:
                return _reason(error)
        except Exception as error:
            log.exception("fault while sending webhook %s", webhook.run_id)
            return _reason(error)
        return None if status is not None and 200 <= status < 300 else f"the answer was {status}"

    @asynccontextmanager
    async def _answer(self, target: Target, request: Request) -> AsyncIterator[httpcore.Response]:
        """Send a request on a connection of its own, which ends with the `async with`.

        A connection that was kept would be used again without its address being checked.
        """
        if target.scheme == "https" and self._trust is None:
            self._trust = httpcore.default_ssl_context()
        url = httpcore.URL(
            scheme=target.scheme, host=target.host, port=target.port, target=target.path
        )
        # Certificates never name a host with its last dot.
        extensions = {"sni_hostname": target.host.removesuffix(".")}
        async with (
            httpcore.AsyncConnectionPool(self._trust, network_backend=self._network) as pool,
            pool.stream(
                "POST",
                url,
                headers=request.headers,
                content=request.content,
                extensions=extensions,
            ) as answer,
        ):
            yield answer


async def _read_some(answer: httpcore.Response) -> None:
    """Read an answer's body up to a bound."""
    size = 0
    async for chunk in answer.aiter_stream():
        size += len(chunk)
        if size > BODY_BYTES:
            return


async def _until_taken(note: Callable[[], Awaitable[object]]) -> None:
    """Note something in Redis, however long that is away."""
    while True:
        try:
            await note()
            return
        except StorageUnavailable as error:
            log.debug("a delivery could not be noted: %s", error)
        await asyncio.sleep(AGAIN_SECONDS)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError | httpcore.TimeoutException):
        return f"no answer within {ATTEMPT_SECONDS:g} seconds"
    # It may quote the receiver, at any length.
    return " ".join(f"{type(error).__name__}: {error}".split())[:REASON_CHARACTERS]


def _host_header(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    is_default = target.port == (443 if target.scheme == "https" else 80)
    return host if is_default else f"{host}:{target.port}"
