"""/mcp: assistants as tools of other agents, by the Model Context Protocol's Streamable HTTP.

There are no sessions: each request stands for itself. Two eras of the protocol share the path. Up
to 2025-11-25 a client shakes hands first (`initialize`), which nothing here remembers. Since
2026-07-28 each request says its version and what its client can do in `params._meta`, and headers
repeat what proxies route by. A call is a run without a thread; where its client can be asked
something, it has a thread that is kept while it waits for an answer.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from secrets import token_urlsafe
from typing import Any

from flask import Blueprint, Response, g, request

from runwait.api import current, jsonrpc
from runwait.api.auth import (
    authorize,
    caller,
    permit_assistant,
    permit_thread,
    permitted_assistants,
)
from runwait.api.errors import problems
from runwait.api.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, Call, RpcError
from runwait.api.operation import Answer, operation
from runwait.api.request import said_by_headers
from runwait.api.stream import Stream, frame_of, pause
from runwait.assistants.assistants import GraphNotMade
from runwait.assistants.tools import INPUT, OUTPUT, Tool, Tools
from runwait.graphs.assistants import UnknownGraph, is_uuid
from runwait.runs import ending
from runwait.runs.admission import UnfitRequest
from runwait.runs.events import Cut, End, Event, Given
from runwait.runs.request import RunRequest
from runwait.runs.service import Service
from runwait.serialization import dumps
from runwait.storage.threads import ThreadNotFound
from runwait.version import __version__

HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
VERSION = "2026-07-28"
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022
# Tools in one page of a list.
PAGE = 100
# How long an answer may be awaited, in ms; then the thread of the call is gone.
ANSWER_TTL = 24 * 3_600_000
# How long a client may take a list for current, in ms.
LIST_TTL = 60_000

_META = "io.modelcontextprotocol/"
# What the metadata of a waiting call's thread has its proof under: whoever has it may answer.
_PROOF = "mcp"
_DECLINED = "the user did not answer: "
# What a form of the protocol may ask for.
_PRIMITIVE = ("string", "number", "integer", "boolean")

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
    place = None
    try:
        _check_origin()
        _check_accept()
        asked = jsonrpc.call()
        place = asked.id
        meta = asked.params.get("_meta")
        if isinstance(meta, dict) and f"{_META}protocolVersion" in meta:
            return _modern(asked, meta)
        return _after_handshake(asked)
    except Exception as error:
        return jsonrpc.problem(place, error)


def _check_origin() -> None:
    """Refuse what a page of another site has a browser send."""
    origin = request.headers.get("Origin")
    if origin is None or origin.partition("://")[2] == request.host:
        return
    runwait = current.runwait()
    cors, allowed = runwait.http.cors, runwait.settings.mcp_allowed_origins or []
    if cors is not None:
        allowed = [*allowed, *cors.origins]
    matches = cors is not None and cors.origin_regex and re.fullmatch(cors.origin_regex, origin)
    if not (matches or origin in allowed or "*" in allowed):
        text = f"Origin: {origin!r} is not allowed; MCP_ALLOWED_ORIGINS can allow it"
        raise RpcError(jsonrpc.INVALID_REQUEST, text, status=HTTPStatus.FORBIDDEN)


def _check_accept() -> None:
    types = request.accept_mimetypes
    if types and not (types.accept_json or types["text/event-stream"]):
        text = "Accept: must allow application/json or text/event-stream"
        raise RpcError(jsonrpc.INVALID_REQUEST, text, status=HTTPStatus.NOT_ACCEPTABLE)


def _after_handshake(asked: Call) -> Response:
    """A request of the protocol's versions with a handshake."""
    version = request.headers.get("MCP-Protocol-Version")
    if version is not None and version not in HANDSHAKE_VERSIONS:
        lacks = f"params._meta: must have {_META}protocolVersion" if version == VERSION else ""
        known = ", ".join((*HANDSHAKE_VERSIONS, VERSION))
        text = lacks or f"MCP-Protocol-Version: must be one of: {known}"
        code = INVALID_PARAMS if lacks else jsonrpc.INVALID_REQUEST
        raise RpcError(code, text, status=HTTPStatus.BAD_REQUEST)
    if asked.id is None:
        return _notified(asked)
    if asked.method == "initialize":
        wanted = asked.params.get("protocolVersion")
        return jsonrpc.result(
            asked.id,
            {
                "protocolVersion": wanted if wanted in HANDSHAKE_VERSIONS else "2025-11-25",
                "capabilities": {"tools": {"listChanged": False}},
                "serverInfo": _SERVER,
            },
        )
    if asked.method == "ping":
        return jsonrpc.result(asked.id, {})
    if asked.method == "tools/list":
        return jsonrpc.result(asked.id, _list(asked))
    if asked.method == "tools/call":
        return _call(asked)
    raise RpcError(METHOD_NOT_FOUND, f"method {asked.method!r} not found")


def _modern(asked: Call, meta: dict[str, Any]) -> Response:
    """A request of the version without a handshake."""
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
    if asked.id is None:
        return _notified(asked)
    # Where it is known who calls, each sees their own.
    cached = {"ttlMs": LIST_TTL, "cacheScope": "private" if caller() else "public"}
    if asked.method == "server/discover":
        discovered = {"supportedVersions": [VERSION], "capabilities": {"tools": {}}}
        return jsonrpc.result(asked.id, {**discovered, **cached, **_COMPLETE})
    if asked.method == "tools/list":
        return jsonrpc.result(asked.id, {**_list(asked), **cached, **_COMPLETE})
    if asked.method == "tools/call":
        return _call(asked, modern=True, asks=_can_be_asked(client))
    text = f"method {asked.method!r} not found"
    raise RpcError(METHOD_NOT_FOUND, text, status=HTTPStatus.NOT_FOUND)


def _notified(asked: Call) -> Response:
    if not asked.method.startswith("notifications/"):
        raise _refused(jsonrpc.INVALID_REQUEST, "id: is required")
    return Response(status=HTTPStatus.ACCEPTED)


def _can_be_asked(client: dict[str, Any]) -> bool:
    """Whether a client shows forms. One that says no more than `elicitation` does."""
    able = client.get("elicitation")
    return isinstance(able, dict) and (not able or "form" in able)


def _list(asked: Call) -> dict[str, Any]:
    """A page of the tools."""
    cursor = asked.params.get("cursor", "0")
    if not isinstance(cursor, str) or not (cursor.isascii() and cursor.isdigit()):
        raise RpcError(INVALID_PARAMS, "cursor: must be one that a list was answered with")
    start, tools = int(cursor[:10]), current.service().tools
    listed = list(tools.all(permitted_assistants({})))
    page = []
    for tool in listed[start : start + PAGE]:
        # One graph that can't be looked at hides no other.
        with suppress(GraphNotMade, UnknownGraph):
            page.append(_shown(tool, tools))
    more = {"nextCursor": str(start + PAGE)} if len(listed) > start + PAGE else {}
    return {"tools": page, **more}


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


@dataclass(frozen=True)
class _Form:
    """How an interrupt is asked about: its form, and whether the answer is the whole of what is
    filled in, or what is under `answer`."""

    schema: dict[str, Any]
    whole: bool

    @classmethod
    def of(cls, wanted: Any) -> _Form:
        """The form for an interrupt with this response_schema, which may be None."""
        if isinstance(wanted, dict):
            if wanted.get("type") == "object" and _is_form(wanted):
                return cls({**wanted, "properties": wanted["properties"]}, True)
            if wanted.get("type") in _PRIMITIVE:
                return cls(_form_of(wanted), False)
        return cls(_form_of({"type": "string"}), False)


def _is_form(schema: dict[str, Any]) -> bool:
    """Whether clients can show a form for it: flat, of primitive values."""
    parts = schema.get("properties")
    return isinstance(parts, dict) and all(
        isinstance(each, dict) and each.get("type") in _PRIMITIVE for each in parts.values()
    )


def _form_of(answer: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"answer": answer}, "required": ["answer"]}


def _call(asked: Call, *, modern: bool = False, asks: bool = False) -> Response:
    """Run a tool's assistant; answered with what it gives.

    Args:
        asked: the request.
        modern: whether it is of the version without a handshake.
        asks: whether its client can be asked what an interrupt asks.
    """
    name, arguments = asked.params.get("name"), asked.params.get("arguments", {})
    if not isinstance(name, str):
        raise _wrong("name: must be a string", modern)
    tools = current.service().tools
    tool = tools.find(name, permitted_assistants({}))
    if tool is None:
        raise _wrong(f"name: there is no tool {name!r}; tools/list lists them", modern)
    if not isinstance(arguments, dict):
        raise _wrong("arguments: must be an object", modern)
    permit_assistant("read", tool.assistant.assistant_id)
    call = _Running(asked.id, modern, asks)
    try:
        if modern and "requestState" in asked.params:
            followed = _resumed(tool, asked, call)
        elif found := tools.problems(tool, arguments):
            text = problems([(path or "arguments", text) for path, text in found])
            return call.failed(text)
        else:
            given = arguments[INPUT] if tools.schemas(tool).wraps_input else arguments
            followed = _started(tool, given, call)
    except (GraphNotMade, UnfitRequest, UnknownGraph) as error:
        return call.failed(str(error))
    if isinstance(followed, Response):
        return followed
    progress = _progress_token(asked)
    streams = progress is not None and request.accept_mimetypes["text/event-stream"]
    if not streams and request.accept_mimetypes and not request.accept_mimetypes.accept_json:
        streams = True
    service = current.service()
    follower, _ = service.stream(followed, document=True) if streams else service.wait(followed)
    g.thread_id, g.run_id = follower.thread_id, follower.run_id
    body = _Events if streams else _Whole
    return body(follower, pause(), call, progress).response({})


def _progress_token(asked: Call) -> str | int | None:
    meta = asked.params.get("_meta")
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    return token if type(token) in (str, int) else None


def _started(tool: Tool, given: Any, call: _Running) -> RunRequest:
    """The run of a call; on a thread of its own, which outlives it only if it may be resumed."""
    if call.asks:
        metadata = {_PROOF: token_urlsafe(32), "assistant_id": tool.assistant.assistant_id}
        made = {"metadata": metadata}
        authorize("threads", "create", made)
        thread = current.service().threads.create(metadata=made["metadata"], ttl=ANSWER_TTL)
        call.thread_id, call.proof = thread["thread_id"], metadata[_PROOF]
    return _run(tool, call, input=given)


def _run(tool: Tool, call: _Running, **asked: Any) -> RunRequest:
    return RunRequest(
        assistant_id=tool.assistant.assistant_id,
        **said_by_headers(),
        thread_id=call.thread_id,
        stream_mode=["updates"],
        on_disconnect="cancel",
        multitask_strategy="reject",
        **asked,
    )


def _resumed(tool: Tool, asked: Call, call: _Running) -> RunRequest | Response:
    """The run that goes on with what an earlier call's thread waits for."""
    gone = _refused(INVALID_PARAMS, "requestState: there is no call that waits with it")
    state = asked.params["requestState"]
    thread_id, _, token = state.partition(".") if isinstance(state, str) else ("", "", "")
    if not is_uuid(thread_id):
        raise gone
    threads, assistant_id = current.service().threads, tool.assistant.assistant_id
    try:
        permit_thread("read", thread_id)
        thread = threads.get(thread_id)
    except ThreadNotFound:
        raise gone from None
    known = thread["metadata"].get(_PROOF)
    if not isinstance(known, str) or not hmac.compare_digest(known.encode(), token.encode()):
        raise gone
    waits = thread["metadata"].get("assistant_id") == assistant_id
    waiting = {
        each.id: each for each in current.service().waiting_on(thread_id, assistant_id) if waits
    }
    if not waiting:
        raise gone
    call.thread_id, call.proof = thread_id, token
    answers = asked.params.get("inputResponses")
    if not isinstance(answers, dict) or not answers.keys() & waiting.keys():
        text = f"inputResponses: must answer {', '.join(waiting)}"
        raise _refused(INVALID_PARAMS, text)
    resume = {}
    for each in waiting.keys() & answers.keys():
        answer = answers[each] if isinstance(answers[each], dict) else {}
        content = answer.get("content")
        if answer.get("action") != "accept":
            threads.delete(thread_id)
            return call.failed(f"{_DECLINED}{answer.get('action')}")
        form = _Form.of(waiting[each].response_schema)
        if not isinstance(content, dict) or not (form.whole or "answer" in content):
            raise _refused(INVALID_PARAMS, f"inputResponses.{each}.content: must fill in the form")
        resume[each] = content if form.whole else content["answer"]
    return _run(tool, call, command={"resume": resume})


class _Running:
    """A call that runs: what its end is answered with, and what becomes of its thread.

    Attributes:
        thread_id, proof: of the thread that it has while its client may be asked something.
    """

    def __init__(self, place: str | int | None, modern: bool, asks: bool) -> None:
        self._head = b'{"jsonrpc":"2.0","id":' + dumps(place) + b',"result":{'
        self._tail = b"," + dumps(_COMPLETE)[1:-1] if modern else b""
        self.asks = asks
        self.thread_id: str | None = None
        self.proof: str | None = None
        self._waits = False
        self._service = current.service()

    def failed(self, text: str) -> Response:
        """The answer of a call that came to nothing, and whose caller may do better."""
        return Response(self._message(_text(text), b"", failed=True), mimetype="application/json")

    def answer(self, document: bytes) -> bytes:
        """The answer, by the run's document."""
        # Only what can be one of these is read: outputs may be large.
        for name in (ending.ERROR, ending.INTERRUPT):
            if b'"%b"' % name.encode() in document:
                held = json.loads(document)
                told: Any = held.get(name) if isinstance(held, dict) else None
                # A graph may give anything under these names.
                if name == ending.ERROR and _has(told, "error", "message"):
                    text = f"{told['error']}: {told['message']}"
                    return self._message(_text(text), b"", failed=True)
                if name == ending.INTERRUPT and self.asks and _are_interrupts(told):
                    self._waits = True
                    return self._asking(told)
        is_object = document[:1] == b"{"
        structured = document if is_object else b'{"%b":%b}' % (OUTPUT.encode(), document)
        return self._message(_text(document.decode()), structured)

    def close(self) -> None:
        """Remove the thread, unless it waits for an answer. Where that fails, its life ends it."""
        if self.thread_id is not None and not self._waits:
            self._service.help(partial(_forget, self._service, self.thread_id))

    def _message(self, content: bytes, structured: bytes, *, failed: bool = False) -> bytes:
        more = b',"structuredContent":' + structured if structured else b""
        error = b',"isError":' + (b"true" if failed else b"false")
        return self._head + b'"content":[' + content + b"]" + more + error + self._tail + b"}}"

    def _asking(self, interrupts: list[dict[str, Any]]) -> bytes:
        requests = {}
        for each in interrupts:
            value = each["value"]
            message = value if isinstance(value, str) else dumps(value).decode()
            form = {
                "mode": "form",
                "message": message,
                "requestedSchema": _Form.of(each["response_schema"]).schema,
            }
            requests[each["id"]] = {"method": "elicitation/create", "params": form}
        state = f"{self.thread_id}.{self.proof}"
        asked = {**_COMPLETE, "resultType": "input_required", "inputRequests": requests}
        return self._head + dumps({**asked, "requestState": state})[1:-1] + b"}}"


def _has(value: Any, *names: str) -> bool:
    return isinstance(value, dict) and all(name in value for name in names)


def _are_interrupts(value: Any) -> bool:
    return (
        isinstance(value, list)
        and value != []
        and all(
            _has(each, "id", "value", "response_schema") and isinstance(each["id"], str)
            for each in value
        )
    )


def _forget(service: Service, thread_id: str) -> None:
    with suppress(ThreadNotFound):
        service.threads.delete(thread_id)


class _Whole(Stream):
    """The answer to a call, as one document."""

    heartbeat = b"\n"  # JSON parsers skip it
    mimetype = "application/json"
    in_one_piece = True

    def __init__(self, follower: Any, pause: float, call: _Running, progress: Any) -> None:
        super().__init__(follower, pause)
        self._call = call
        self._token = progress
        self._steps = 0

    def _piece_of(self, given: Given) -> bytes:
        if isinstance(given, End):
            self.is_whole = True
            return self._call.answer(given.document)
        self.is_cut = isinstance(given, Cut)
        return b""

    def close(self) -> None:
        """The response is over, however it went. May be called again."""
        if not self._closed:
            self._call.close()
        super().close()


class _Events(_Whole):
    """The same as server-sent events, with one for each step of the graph before it."""

    heartbeat = b": heartbeat\r\n\r\n"
    mimetype = "text/event-stream"
    in_one_piece = False

    def _piece_of(self, given: Given) -> bytes:
        if isinstance(given, Event):
            if self._token is None or given.name != "updates":
                return b""
            self._steps += 1
            told = {"progressToken": self._token, "progress": self._steps}
            if nodes := ", ".join(json.loads(given.data)):
                told["message"] = nodes
            notified = {"jsonrpc": "2.0", "method": "notifications/progress", "params": told}
            return frame_of("message", dumps(notified), "")
        piece = super()._piece_of(given)
        return frame_of("message", piece, "") if piece else b""


def _text(text: str) -> bytes:
    return dumps({"type": "text", "text": text})


def _decoded(header: str | None) -> str | None:
    """A header's value, which may be base64 of one that headers can't have."""
    if header is not None and header.startswith("=?base64?") and header.endswith("?="):
        with suppress(binascii.Error, UnicodeDecodeError):
            return base64.b64decode(header[9:-2], validate=True).decode()
    return header


def _refused(code: int, text: str, data: Any = None) -> RpcError:
    return RpcError(code, text, data, HTTPStatus.BAD_REQUEST)


def _wrong(text: str, modern: bool) -> RpcError:
    return _refused(INVALID_PARAMS, text) if modern else RpcError(INVALID_PARAMS, text)


_SERVER = {"name": "runwait", "version": __version__}
_COMPLETE = {"resultType": "complete", "_meta": {f"{_META}serverInfo": _SERVER}}
