"""How scripts reach Redis."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import redis
import redis.asyncio
from redis.exceptions import NoScriptError

_LUA = Path(__file__).parent / "lua"


@dataclass(frozen=True)
class Script:
    """A Lua script, known to Redis by its SHA-1."""

    text: str
    sha: str
    large: bool = False

    @classmethod
    def load(cls, name: str, *, large: bool = False) -> Script:
        """The script `name` from the package's lua folder, after what all of them share.

        Its answer may be `large`: a runner may want to know.
        """
        text = (_LUA / "library.lua").read_text() + (_LUA / f"{name}.lua").read_text()
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), large)


class ScriptRunner(Protocol):
    """Runs scripts in Redis. It may send one twice: that has the same effect and answer."""

    def call(self, script: Any, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """The answer of a script, with texts as bytes.

        Args:
            script: has its Lua as `text` and the SHA-1 of that, in hexadecimal, as `sha`.
            keys: names of the keys that it uses.
            args: its other arguments.
        """

    async def acall(
        self, script: Any, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """`call`, for an event loop."""


class ClientRunner:
    """Runs scripts with clients of redis-py; either is needed only for calls of its kind."""

    def __init__(
        self, client: redis.Redis | None = None, aclient: redis.asyncio.Redis | None = None
    ) -> None:
        """Take clients made without `decode_responses`; they remain the caller's to close."""
        self._client = client
        self._aclient = aclient

    def call(self, script: Any, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """The answer of a script."""
        if self._client is None:
            raise TypeError("this checkpointer has no client for synchronous calls")
        client = cast(Any, self._client)
        try:
            return client.evalsha(script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return client.eval(script.text, len(keys), *keys, *args)

    async def acall(
        self, script: Any, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """`call`, for an event loop."""
        if self._aclient is None:
            raise TypeError("this checkpointer has no client for an event loop")
        client = cast(Any, self._aclient)
        try:
            return await client.evalsha(script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await client.eval(script.text, len(keys), *keys, *args)
