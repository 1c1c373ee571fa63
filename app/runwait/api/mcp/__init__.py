"""/mcp: assistants as tools of other agents, by the Model Context Protocol's Streamable HTTP.

There are no sessions: each request stands for itself. Two eras of the protocol share the path
(`eras`). A call is a run without a thread (`calls`); where its client can be asked something, it
has a thread that is kept while it waits for an answer (`questions`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, request

from runwait.api import current, jsonrpc, traced
from runwait.api.auth import permitted_assistants
from runwait.api.jsonrpc import INVALID_REQUEST, METHOD_NOT_FOUND, Call, RpcError
from runwait.api.mcp import eras
from runwait.api.mcp.calls import call
from runwait.api.mcp.eras import Era
from runwait.api.operation import Answer, operation
from runwait.assistants.assistants import GraphNotMade
from runwait.assistants.tools import Tool, Tools
from runwait.graphs.assistants import UnknownGraph

# Tools in one page of a list.
PAGE = 100

blueprint = Blueprint("mcp", __name__)

_MESSAGE = {"type": "object", "description": "A JSON-RPC result or error."}
ANSWERED = (
    Answer("The JSON-RPC answer; as server-sent events where progress is asked for.", _MESSAGE),
    Answer("A notification was taken.", status=HTTPStatus.ACCEPTED),
    *(
        Answer(about, _MESSAGE, status)
        for status, about in {
            HTTPStatus.BAD_REQUEST: "It is no request, or of an unknown version of the protocol.",
            HTTPStatus.FORBIDDEN: "Pages of that origin may not call.",
            HTTPStatus.NOT_FOUND: "There is no such method.",
            HTTPStatus.NOT_ACCEPTABLE: "The client would take no answer of these types.",
            HTTPStatus.SERVICE_UNAVAILABLE: "There is no room for a run, or Redis is away.",
        }.items()
    ),
)


@blueprint.post("/mcp", strict_slashes=False)
@operation(gives=ANSWERED)
def post() -> Response:
    """Answer one request."""
    return jsonrpc.serve(_answer, _check)


def _check() -> None:
    _check_origin()
    _check_accept()


def _check_origin() -> None:
    """Refuse what a page of another site has a browser send."""
    origin = request.headers.get("Origin")
    if origin is None or origin.partition("://")[2] == request.host:
        return
    cors, allowed = current.http().cors, current.settings().mcp_allowed_origins or []
    if cors is not None:
        allowed = [*allowed, *cors.origins]
    matches = cors is not None and cors.origin_regex and re.fullmatch(cors.origin_regex, origin)
    if not (matches or origin in allowed or "*" in allowed):
        text = f"Origin: {origin!r} is not allowed; MCP_ALLOWED_ORIGINS can allow it"
        raise RpcError(INVALID_REQUEST, text, status=HTTPStatus.FORBIDDEN)


def _check_accept() -> None:
    types = request.accept_mimetypes
    if types and not (types.accept_json or types["text/event-stream"]):
        text = "Accept: must allow application/json or text/event-stream"
        raise RpcError(INVALID_REQUEST, text, status=HTTPStatus.NOT_ACCEPTABLE)


def _answer(asked: Call) -> Response:
    if isinstance(meta := asked.params.get("_meta"), dict):
        traced.follow(meta)
    era = eras.of(asked)
    if asked.id is None:
        if not asked.method.startswith("notifications/"):
            raise RpcError(INVALID_REQUEST, "id: is required", status=HTTPStatus.BAD_REQUEST)
        return Response(status=HTTPStatus.ACCEPTED)
    method = (_STATELESS if era.stateless else _HANDSHAKE).get(asked.method)
    if method is None:
        status = HTTPStatus.NOT_FOUND if era.stateless else HTTPStatus.OK
        raise RpcError(METHOD_NOT_FOUND, f"method {asked.method!r} not found", status=status)
    return method(asked, era)


def _initialize(asked: Call, era: Era) -> Response:
    wanted = asked.params.get("protocolVersion")
    return asked.result(
        {
            "protocolVersion": wanted if wanted in eras.HANDSHAKE_VERSIONS else "2025-11-25",
            "capabilities": {"tools": {"listChanged": False}},
            "serverInfo": eras.SERVER,
        }
    )


def _ping(asked: Call, era: Era) -> Response:
    return asked.result({})


def _discover(asked: Call, era: Era) -> Response:
    discovered = {"supportedVersions": [eras.VERSION], "capabilities": {"tools": {}}}
    return asked.result({**discovered, **era.lasting})


def _list(asked: Call, era: Era) -> Response:
    """A page of the tools."""
    cursor = asked.params.get("cursor", "0")
    if not isinstance(cursor, str) or not (cursor.isascii() and cursor.isdigit()):
        raise era.wrong("cursor: must be one that a list was answered with")
    start, tools = int(cursor[:10]), current.service().tools
    listed = list(tools.all(permitted_assistants({})))
    page = []
    for tool in listed[start : start + PAGE]:
        # One graph that can't be looked at hides no other.
        with suppress(GraphNotMade, UnknownGraph):
            page.append(_shown(tool, tools))
    more = {"nextCursor": str(start + PAGE)} if len(listed) > start + PAGE else {}
    return asked.result({"tools": page, **more, **era.lasting})


def _shown(tool: Tool, tools: Tools) -> dict[str, Any]:
    schemas, assistant = tools.schemas(tool), tool.assistant
    described = {"description": assistant.description} if assistant.description else {}
    return {
        "name": tool.name,
        "title": assistant.name or tool.name,
        **described,
        "inputSchema": schemas.input,
        "outputSchema": schemas.output,
    }


_Method = Callable[[Call, Era], Response]
_BOTH: dict[str, _Method] = {"tools/list": _list, "tools/call": call}
_HANDSHAKE: dict[str, _Method] = {**_BOTH, "initialize": _initialize, "ping": _ping}
_STATELESS: dict[str, _Method] = {**_BOTH, "server/discover": _discover}
