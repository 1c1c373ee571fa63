"""API keys: whose they are, and whether a request has one."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from runwait.auth.errors import Refused
from runwait.auth.request import Request
from runwait.auth.user import User

_NAME = r"[A-Za-z0-9_-]{1,64}"
# Not `=` alone: base64 ends like that.
_NAMED = re.compile(rf"(?P<name>{_NAME})=(?P<key>.*[^=].*)", re.DOTALL)
_HASH = re.compile(r"sha256:(?P<hex>[0-9a-fA-F]{64})")
_KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,512}")
# What an unnamed key is called in logs: enough of its hash to tell it from others.
_SHOWN = 8


class InvalidKeys(ValueError):
    """API_KEYS cannot be used; the text says where, and shows no key."""


@dataclass(frozen=True)
class _Key:
    name: str
    digest: bytes


class ApiKeys:
    """The keys that let somebody in. Only their hashes are kept."""

    def __init__(self, setting: str) -> None:
        """Read what API_KEYS says: `key`, `name=key` or `name=sha256:HEX`, with commas between.

        Several keys of one name are the same caller's, so that keys can be replaced one by one.

        Raises:
            InvalidKeys: one of them is not like that.
        """
        self._keys = [
            _key(place, each.strip()) for place, each in enumerate(setting.split(","), start=1)
        ]

    def caller(self, request: Request) -> User:
        """Whose key a request has.

        Raises:
            Refused: it has none, or one that is nobody's.
        """
        given = key_of(request.headers)
        if given is None:
            raise Refused(401, "an API key is required, in X-Api-Key", _CHALLENGE)
        digest, found = sha256(given.encode("latin-1")).digest(), None
        # All of them, so that the time it takes tells nothing.
        for each in self._keys:
            if hmac.compare_digest(each.digest, digest):
                found = each
        if found is None:
            raise Refused(401, "this API key is not known", _CHALLENGE)
        return User({"identity": found.name})


_CHALLENGE = {"WWW-Authenticate": "Bearer"}


def key_of(headers: Mapping[str, str]) -> str | None:
    """The key that a request comes with: X-Api-Key, or a bearer's token; None without."""
    if given := headers.get("x-api-key", "").strip():
        return given
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None


def new_key() -> tuple[str, str]:
    """A key that nobody guesses, and what API_KEYS may have in its place."""
    key = f"rw_{secrets.token_urlsafe(32)}"
    return key, f"sha256:{sha256(key.encode()).hexdigest()}"


def _key(place: int, text: str) -> _Key:
    named = _NAMED.fullmatch(text)
    name, key = (named["name"], named["key"]) if named else (None, text)
    if key.lower().startswith("sha256:"):
        hashed = _HASH.fullmatch(key)
        if hashed is None:
            raise InvalidKeys(f"entry {place}: sha256: must be followed by 64 hexadecimal digits")
        digest = bytes.fromhex(hashed["hex"])
    elif _KEY.fullmatch(key):
        digest = sha256(key.encode()).digest()
    else:
        raise InvalidKeys(
            f"entry {place}: a key must be 1 to 512 visible ASCII characters without commas"
        )
    return _Key(name or f"key-{digest.hex()[:_SHOWN]}", digest)
