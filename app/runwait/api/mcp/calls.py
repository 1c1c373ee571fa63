"""Calls of tools: runs whose end is a result, and whose steps are told where that is asked."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from flask import Response, g, request

from runwait.api import current
from runwait.api.auth import permit_assistant, permitted_assistants
from runwait.api.errors import problems
from runwait.api.jsonrpc import Call, message
from runwait.api.mcp.eras import Era
from runwait.api.mcp.questions import Declined, Waiting, are_interrupts
from runwait.api.request import said_by_headers
from runwait.api.stream import Document, EventStream, frame_of, pause
from runwait.assistants.assistants import GraphNotMade
from runwait.assistants.tools import INPUT, OUTPUT
from runwait.graphs.assistants import UnknownGraph
from runwait.runs import ending
from runwait.runs.admission import UnfitRequest
from runwait.runs.events import Event, Follower, Given
from runwait.runs.request import RunRequest
from runwait.serialization import dumps
from runwait.storage.threads import ThreadNotFound


def call(asked: Call, era: Era) -> Response:
    """Run a tool's assistant; answered with what it gives."""
    name, arguments = asked.params.get("name"), asked.params.get("arguments", {})
    if not isinstance(name, str):
        raise era.wrong("name: must be a string")
    service = current.service()
    tool = service.tools.find(name, permitted_assistants({}))
    if tool is None:
        raise era.wrong(f"name: there is no tool {name!r}; tools/list lists them")
    if not isinstance(arguments, dict):
        raise era.wrong("arguments: must be an object")
    assistant_id = tool.assistant.assistant_id
    permit_assistant("read", assistant_id)
    results = Results(asked, era)
    given: dict[str, Any]
    try:
        if era.stateless and "requestState" in asked.params:
            results.waiting = Waiting.of(asked.params["requestState"], assistant_id, era)
            given = {
                "command": {
                    "resume": results.waiting.answers(asked.params.get("inputResponses"), era)
                }
            }
        elif found := service.tools.problems(tool, arguments):
            return results.failed(problems([(path or "arguments", text) for path, text in found]))
        else:
            wraps = service.tools.schemas(tool).wraps_input
            given = {"input": arguments[INPUT] if wraps else arguments}
            if era.asks:
                results.waiting = Waiting.new(assistant_id)
        run = RunRequest(
            assistant_id=assistant_id,
            **said_by_headers(),
            thread_id=results.waiting.thread_id if results.waiting else None,
            stream_mode=["updates"],
            on_disconnect="cancel",
            multitask_strategy="reject",
            **given,
        )
    except (Declined, GraphNotMade, UnfitRequest, UnknownGraph) as error:
        return results.failed(str(error))
    meta, types = asked.params.get("_meta"), request.accept_mimetypes
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    if type(token) not in (str, int):
        token = None
    if types["text/event-stream"] and (token is not None or not types.accept_json):
        follower, _ = service.stream(run, document=True)
        body: Document = _Events(follower, results, token)
    else:
        follower, _ = service.wait(run)
        body = _Whole(follower, results)
    g.thread_id, g.run_id = follower.thread_id, follower.run_id
    return body.response({})


class Results:
    """What a call is answered with, by how it ends.

    Attributes:
        waiting: the thread that it has while its client may be asked something.
    """

    def __init__(self, asked: Call, era: Era) -> None:
        self._place = asked.id
        self._complete = era.complete
        self._service = current.service()
        self.waiting: Waiting | None = None
        self._waits = False

    def failed(self, text: str) -> Response:
        """The answer to a call that came to nothing, and whose caller may do better."""
        return Response(self._message(text, failed=True), mimetype="application/json")

    def of(self, document: bytes) -> bytes:
        """The answer by the run's document."""
        # Only what can be one of these is read: outputs may be large.
        ends = (ending.ERROR, ending.INTERRUPT)
        held = any(b'"%b"' % name.encode() in document for name in ends) and json.loads(document)
        error, interrupts = map(held.get, ends) if isinstance(held, dict) else (None, None)
        # A graph may give anything under these names.
        if isinstance(error, dict) and {"error", "message"} <= error.keys():
            return self._message(f"{error['error']}: {error['message']}", failed=True)
        if self.waiting is not None and are_interrupts(interrupts):
            self._waits = True
            asking = {**self._complete, **self.waiting.asking(interrupts)}
            return message(self._place, "result", dumps(asking))
        is_object = document[:1] == b"{"
        structured = document if is_object else b'{"%b":%b}' % (OUTPUT.encode(), document)
        return self._message(document.decode(), structured)

    def close(self) -> None:
        """Remove the thread, unless it waits for an answer. Where that fails, its life ends it."""
        if self.waiting is not None and not self._waits:
            self._service.help(self._forget)

    def _forget(self) -> None:
        assert self.waiting is not None
        with suppress(ThreadNotFound):
            self._service.threads.delete(self.waiting.thread_id)

    def _message(self, text: str, structured: bytes = b"", *, failed: bool = False) -> bytes:
        content = dumps([{"type": "text", "text": text}])
        more = b',"structuredContent":' + structured if structured else b""
        # What it has in the end, without the bracket that opens it.
        rest = dumps({"isError": failed, **self._complete})[1:]
        return message(self._place, "result", b'{"content":%b%b,%b' % (content, more, rest))


class _Whole(Document):
    """The answer to a call, as one document."""

    def __init__(self, follower: Follower, results: Results) -> None:
        super().__init__(follower, pause())
        self._results = results

    def _piece_of(self, given: Given) -> bytes:
        piece = super()._piece_of(given)
        return self._results.of(piece) if self.is_whole else piece

    def close(self) -> None:
        """The response is over, however it went. May be called again."""
        if not self._closed:
            self._results.close()
        super().close()


class _Events(_Whole):
    """The same as server-sent events, with one for each step of the graph before it."""

    heartbeat, mimetype = EventStream.heartbeat, EventStream.mimetype
    in_one_piece = False

    def __init__(self, follower: Follower, results: Results, token: str | int | None) -> None:
        super().__init__(follower, results)
        self._token = token
        self._steps = 0

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
