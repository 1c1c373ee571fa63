"""The two eras of the protocol: what a request must say, and what its answer has besides.

Up to 2025-11-25 a client shakes hands first (`initialize`), which nothing here remembers. Since
2026-07-28 each request says its version and what its client can do in `params._meta`, and headers
repeat what proxies route by.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import request

from runwait.api.auth import caller
from runwait.api.jsonrpc import INVALID_PARAMS, INVALID_REQUEST, Call, RpcError
from runwait.version import __version__

HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
VERSION = "2026-07-28"
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022
# How long a client may take a list for current, in ms.
LIST_TTL = 60_000
SERVER = {"name": "runwait", "version": __version__}
_META = "io.modelcontextprotocol/"
_COMPLETE = {"resultType": "complete", "_meta": {f"{_META}serverInfo": SERVER}}


@dataclass(frozen=True)
class Era:
    """How a request is answered.

    Attributes:
        stateless: whether it is of the era without a handshake.
        asks: whether its client can be asked what an interrupt asks.
    """

    stateless: bool = False
    asks: bool = False

    @property
    def complete(self) -> Mapping[str, Any]:
        """What each result has besides."""
        return _COMPLETE if self.stateless else {}

    @property
    def lasting(self) -> Mapping[str, Any]:
        """What a result that the client may keep for a while has besides."""
        if not self.stateless:
            return {}
        # Where it is known who calls, each sees their own.
        scope = "private" if caller() else "public"
        return {"ttlMs": LIST_TTL, "cacheScope": scope, **_COMPLETE}

    def wrong(self, text: str) -> RpcError:
        """The error for params that are not as they must be."""
        return _refused(INVALID_PARAMS, text) if self.stateless else RpcError(INVALID_PARAMS, text)


def of(asked: Call) -> Era:
    """The era of a request.

    Raises:
        RpcError: it does not say what it must, or is of an unknown version.
    """
    meta = asked.params.get("_meta")
    if isinstance(meta, dict) and f"{_META}protocolVersion" in meta:
        return _stateless(asked, meta)
    version = request.headers.get("MCP-Protocol-Version")
    if version == VERSION:
        raise _refused(INVALID_PARAMS, f"params._meta: must have {_META}protocolVersion")
    if version is not None and version not in HANDSHAKE_VERSIONS:
        known = ", ".join((*HANDSHAKE_VERSIONS, VERSION))
        raise _refused(INVALID_REQUEST, f"MCP-Protocol-Version: must be one of: {known}")
    return Era()


def _stateless(asked: Call, meta: dict[str, Any]) -> Era:
    version, client = meta[f"{_META}protocolVersion"], meta.get(f"{_META}clientCapabilities")
    headers = {"MCP-Protocol-Version": version, "Mcp-Method": asked.method}
    if asked.method == "tools/call":
        headers["Mcp-Name"] = asked.params.get("name")
    for name, value in headers.items():
        if _decoded(request.headers.get(name)) != value:
            raise _refused(HEADER_MISMATCH, f"{name}: must be what the body says, {value!r}")
    if version != VERSION:
        supported = {"supported": [VERSION], "requested": version}
        raise _refused(UNSUPPORTED_VERSION, f"version {version!r} is not supported", supported)
    if not isinstance(client, dict):
        raise _refused(INVALID_PARAMS, f"params._meta.{_META}clientCapabilities: must be an object")
    able = client.get("elicitation")
    # A client that shows forms may say no more than `elicitation`.
    return Era(stateless=True, asks=isinstance(able, dict) and (not able or "form" in able))


def _decoded(header: str | None) -> str | None:
    """A header's value, which may be base64 of one that headers can't have."""
    if header is not None and header.startswith("=?base64?") and header.endswith("?="):
        with suppress(binascii.Error, UnicodeDecodeError):
            return base64.b64decode(header[9:-2], validate=True).decode()
    return header


def _refused(code: int, text: str, data: Any = None) -> RpcError:
    return RpcError(code, text, data, HTTPStatus.BAD_REQUEST)
