"""How many requests callers made, in Redis: what the library `limits` counts with.

    {prefix}:limit:<the library's key>   string  requests so far; it expires with its window

It uses the connections that all else uses, and opens none.
"""

from __future__ import annotations

import time

from limits.storage import Storage as LimitsStorage

from runwait.storage.connection import Script, Scripts, Storage, StorageUnavailable


class Counters(LimitsStorage):
    """The counters of all processes. Every method may raise StorageUnavailable."""

    STORAGE_SCHEME = None

    def __init__(self, storage: Storage, prefix: str) -> None:
        """Prepare; `storage` and `prefix` as `Scripts` has them."""
        super().__init__()
        self._scripts = Scripts(storage, prefix)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What goes wrong where Redis is away."""
        return StorageUnavailable

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count one request; how many there are in the window of so many seconds."""
        count, _ = self._scripts.call(_HIT, [self._key(key)], ttl=expiry * 1000)
        return int(count)

    def get(self, key: str) -> int:
        """How many requests there were in this window."""
        count, _ = self._scripts.call(_READ, [self._key(key)])
        return int(count)

    def get_expiry(self, key: str) -> float:
        """When the window ends, in seconds since 1970."""
        _, left = self._scripts.call(_READ, [self._key(key)])
        return time.time() + max(0, int(left)) / 1000

    def check(self) -> bool:
        """Whether it can be used: nobody asks."""
        return True

    def reset(self) -> int | None:
        """Forget all: nobody asks for that."""
        raise NotImplementedError

    def clear(self, key: str) -> None:
        """Forget a window: nobody asks for that."""
        raise NotImplementedError

    def _key(self, key: str) -> str:
        return f"{self._scripts.tag}:limit:{key}"


_HIT = Script.load("limits/hit")
_READ = Script.load("limits/read")
