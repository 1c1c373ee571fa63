"""The outbox: what webhooks are still to be told, as Redis holds it.

    {prefix}:webhook:<run id>            hash  url       where to
                                               body      the text of a JSON object, to be sent
                                               receiver  host and port as the URL has them, '' for
                                                         a path
                                               created   when the run ended, ms since 1970
                                               since     when the attempts began: created, or the
                                                         time of a retry by hand
                                               attempts  how many were begun since then
                                               claim     the attempt that is under way
                                               settled   the last attempt that failed
                                               error     why it did
                                               trace     the trace context of the run, as JSON
                                               done      all that is left, for an hour, of one that
                                                         was delivered
    {prefix}:outbox                      zset  receivers by the ms when their next webhook is due
    {prefix}:outbox:<receiver>           zset  ids of runs by the ms when their webhooks are due
    {prefix}:webhooks:claimed:<process>  hash  the process's last claim, so that one that is sent
                                               twice is known again
    {prefix}:webhooks:dead               zset  ids of runs whose webhooks were given up, by the ms
                                               when

The script that ends a run puts its webhook in, with `outbox_add` of lua/outbox/library.lua. A claim
moves the webhook's time to the end of a lease: if the process dies, it is due again then. Times are
Redis's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from runwait.storage.connection import Script, Scripts, Storage

# What came of an attempt to deliver a webhook.
WebhookOutcome = Literal["delivered", "failed", "given_up"]

# How long dead letters are kept.
DEAD_SECONDS = 7 * 86_400


@dataclass(frozen=True)
class NewWebhook:
    """A webhook to be put in with its run's end.

    Attributes:
        url: where to.
        body: the text of a JSON object.
        trace: headers of the run's trace context.
    """

    url: str
    body: bytes
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Webhook:
    """A webhook that this process is to deliver now.

    Attributes:
        run_id: the run that ended.
        url: where to, an absolute URL or a reference.
        body: what is sent: the text of a JSON object.
        receiver: whom the URL names, '' for a path.
        attempts: how many there were, with this one.
        age: seconds since the attempts began.
        claim: tells this attempt from all others.
        trace: headers of the run's trace context.
    """

    run_id: str
    url: str
    body: bytes
    receiver: str
    attempts: int
    age: float
    claim: str
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DeadLetter:
    """A webhook that was given up.

    Attributes:
        run_id: the run that ended.
        url: where it was to go.
        attempts: how many there were since it was last retried by hand.
        error: why the last one failed.
        created, died: when the run ended, and when the webhook was given up.
    """

    run_id: str
    url: str
    attempts: int
    error: str
    created: datetime
    died: datetime

    def public(self) -> dict[str, Any]:
        """It as the API has it."""
        return {
            "run_id": self.run_id,
            "url": self.url,
            "attempts": self.attempts,
            "error": self.error,
            "created_at": self.created.isoformat(),
            "died_at": self.died.isoformat(),
        }


class Outbox:
    """Webhooks in Redis. Every method raises StorageUnavailable where that does not answer."""

    def __init__(self, storage: Storage, prefix: str) -> None:
        """Prepare; `storage` and `prefix` as `Scripts` has them."""
        self._scripts = Scripts(storage, prefix)
        self._tag = self._scripts.tag
        self._queue = f"{self._tag}:outbox"
        self._claimed = f"{self._tag}:webhooks:claimed:{uuid4().hex}"
        self._dead = f"{self._tag}:webhooks:dead"

    def add(self, run_id: str, url: str, body: bytes) -> None:
        """Put a webhook in, due at once, unless the run's is known."""
        self._scripts.call(_ADD, [self._queue], run=run_id, url=url, body=body)

    async def claim(
        self, lease: float, full: Collection[str] = ()
    ) -> tuple[Webhook | None, float | None]:
        """Take the webhook that is due longest.

        Args:
            lease: seconds after which it is due again, if nothing is heard of it.
            full: receivers that are to be given none.

        Returns:
            The webhook, and 0; or None, and the seconds until one is due, None if none is to come.
        """
        claim = uuid4().hex
        answer = await self._scripts.acall(
            _CLAIM, [self._queue, self._claimed], claim=claim, lease=_ms(lease), full=[*full]
        )
        run_id, url, body, receiver, attempts, age, due, trace = answer
        if run_id is None:
            return None, None if due < 0 else due / 1000
        webhook = Webhook(
            run_id.decode(),
            url.decode(),
            body,
            receiver.decode(),
            attempts,
            age / 1000,
            claim,
            json.loads(trace or b"{}"),
        )
        return webhook, 0.0

    async def delivered(self, webhook: Webhook) -> None:
        """Remove a webhook that arrived."""
        keys = [self._key(webhook.run_id), self._dead]
        await self._scripts.acall(_DELIVERED, keys, run=webhook.run_id)

    async def failed(self, webhook: Webhook, pause: float | None, error: str) -> bool:
        """Note an attempt that failed.

        Args:
            webhook: as it was claimed.
            pause: seconds until the next attempt; None makes it a dead letter.
            error: why.

        Returns:
            False if the lease was over and another process has the webhook; then nothing changed.
        """
        answer = await self._scripts.acall(
            _FAILED,
            [self._key(webhook.run_id), self._dead],
            run=webhook.run_id,
            claim=webhook.claim,
            pause=None if pause is None else _ms(pause),
            error=error,
            ttl=_ms(DEAD_SECONDS),
        )
        return bool(answer)

    async def release(self, webhook: Webhook) -> None:
        """Give a claimed webhook back, due at once; the attempt does not count."""
        key = self._key(webhook.run_id)
        await self._scripts.acall(_RELEASE, [key], run=webhook.run_id, claim=webhook.claim)

    def dead(self, limit: int, offset: int = 0) -> list[DeadLetter]:
        """Webhooks that were given up, the last one first."""
        found = self._scripts.call(
            _DEAD, [self._dead], ttl=_ms(DEAD_SECONDS), skip=offset, most=limit
        )
        return [
            DeadLetter(
                run_id.decode(),
                url.decode(),
                int(attempts),
                error.decode(),
                _time(created),
                _time(died),
            )
            for run_id, url, attempts, error, created, died in found
        ]

    def retry(self, run_id: str) -> bool:
        """Make a dead letter due at once, with all attempts before it.

        Returns:
            Whether there is such a webhook to be delivered now.
        """
        return bool(self._scripts.call(_RETRY, [self._key(run_id), self._dead], run=run_id))

    def _key(self, run_id: str) -> str:
        return f"{self._tag}:webhook:{run_id}"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _time(ms: bytes) -> datetime:
    return datetime.fromtimestamp(int(ms) / 1000, UTC)


def _script(name: str, *, large: bool = False) -> Script:
    return Script.load(f"outbox/{name}", "runs/library", "outbox/library", large=large)


_ADD = _script("add")
_CLAIM = _script("claim", large=True)
_DELIVERED = _script("delivered")
_FAILED = _script("failed")
_RELEASE = _script("release")
_DEAD = _script("dead", large=True)
_RETRY = _script("retry")
