"""A server that commands ask, by HTTP.

All commands that ask a server do it in this way, from wherever it can be reached, with the key
that it wants: so they may do what the key may, and nothing goes around what the API checks.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

from runwait.cli.output import OneLine

# A server says something within seconds, whatever it is asked; see HEARTBEAT_SECONDS.
SILENCE_SECONDS = 60.0
# How many are asked for at a time.
PAGE = 100


class _Stay(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: the key is for this server alone."""

    def redirect_request(self, *args: Any, **options: Any) -> None:
        """Called for an answer that redirects."""


class Server:
    """The server that is asked."""

    def __init__(self, url: str, key: str | None = None) -> None:
        """Prepare; nothing is sent yet.

        Args:
            url: where it is, with its path prefix if it has one.
            key: sent with each call; None: none is.

        Raises:
            OneLine: that is no URL of a server, or no key.
        """
        if not _is_server(url):
            # A password is not repeated.
            shown = repr(url) if "@" not in url else "one with a name or a password"
            raise OneLine(f"--url: must be like https://host or http://host:8000, not {shown}")
        if key and not (key.isascii() and key.isprintable()):
            raise OneLine("RUNWAIT_API_KEY: must be of visible ASCII")
        self._url = url.rstrip("/")
        self._headers = {"Accept": "application/json", "User-Agent": "runwait"}
        if key:
            self._headers["X-Api-Key"] = key
        self._opener = urllib.request.build_opener(_Stay)

    def get(self, path: str, *ids: str, **query: Any) -> Any:
        """What is answered to GET. The ids take the places of `{}` in the path."""
        return self._call("GET", path, ids, query)

    def post(self, path: str, *ids: str, body: Any = None, **query: Any) -> Any:
        """What is answered to POST."""
        return self._call("POST", path, ids, query, {} if body is None else body)

    def delete(self, path: str, *ids: str) -> None:
        """Have something removed."""
        self._call("DELETE", path, ids, {})

    def pages(self, path: str, limit: int | None, **body: Any) -> Iterator[dict[str, Any]]:
        """What a search finds, page by page, so many at most; None: all."""
        left, offset = limit, 0
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            found = self.post(path, body={**body, "limit": size, "offset": offset})
            yield from found
            if len(found) < size:
                return
            offset += size
            left = None if left is None else left - size

    def _call(
        self, method: str, path: str, ids: tuple[str, ...], query: dict[str, Any], body: Any = None
    ) -> Any:
        for each in ids:
            # Servers take an encoded slash for one, and so the id for a path.
            if "/" in each:
                raise OneLine(f"{each!r} is neither an id nor a name")
        url = self._url + path.format(*(quote(each, safe="") for each in ids))
        given = [f"{name}={quote(str(each))}" for name, each in query.items() if each is not None]
        if given:
            url = f"{url}?{'&'.join(given)}"
        headers, data = dict(self._headers), None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with self._opener.open(request, timeout=SILENCE_SECONDS) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise OneLine(_refusal(error)) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise OneLine(f"{self._url}: {reason}; --url says where the server is") from None
        try:
            return json.loads(text) if text.strip() else None
        except ValueError:
            raise OneLine(f"{self._url}: what answers there is no Runwait") from None


def _is_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or "@" in parts.netloc)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        detail = json.loads(error.read())["detail"]
    except (ValueError, KeyError, TypeError, OSError):
        detail = error.reason
    hint = "; RUNWAIT_API_KEY has the key that is sent" if error.code == 401 else ""
    return f"{detail} ({error.code}){hint}"
