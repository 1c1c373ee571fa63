"""How commands ask a server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from runwait.cli.client import Server
from runwait.cli.output import OneLine
from tests.ports import free_port


class Stub(ThreadingHTTPServer):
    """Answers all calls in one way, and notes them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, Any, str | None]] = []
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, b"[]")
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Stub

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        key = self.headers.get("X-Api-Key")
        self.server.asked.append((self.command, self.path, json.loads(body or b"null"), key))
        status, headers, text = self.server.answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = _take  # noqa: N815

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as stub:
        threading.Thread(target=stub.serve_forever, args=[0.01], daemon=True).start()
        yield stub
        stub.shutdown()


def refusal(server: Server) -> str:
    with pytest.raises(OneLine) as raised:
        server.get("/threads/{}", "x")
    return raised.value.message


def test_a_path_prefix_a_key_and_ids_are_sent_as_they_must_be(stub: Stub) -> None:
    Server(f"{stub.url}/prefix/", "secret").get("/threads/{}", "a..é?", limit=2, status=None)
    Server(stub.url).post("/runs", body={"a": 1})

    assert stub.asked == [
        ("GET", "/prefix/threads/a..%C3%A9%3F?limit=2", None, "secret"),
        ("POST", "/runs", {"a": 1}, None),
    ]


def test_what_is_found_is_read_page_by_page(stub: Stub) -> None:
    stub.answer = (200, {}, json.dumps([{"n": 1}] * 100).encode())
    pages = Server(stub.url).pages("/threads/search", 250, status="idle")

    assert len([*pages]) == 300  # it gives more than it was asked for in the last
    sizes = [(body["limit"], body["offset"], body["status"]) for _, _, body, _ in stub.asked]
    assert sizes == [(100, 0, "idle"), (100, 100, "idle"), (50, 200, "idle")]


def test_a_refusal_is_what_the_server_says(stub: Stub) -> None:
    stub.answer = (404, {}, b'{"detail": "thread x not found"}')
    assert refusal(Server(stub.url)) == "thread x not found (404)"
    stub.answer = (401, {}, b'{"detail": "a key is needed"}')
    assert "RUNWAIT_API_KEY" in refusal(Server(stub.url))
    stub.answer = (502, {}, b"<html>")
    assert refusal(Server(stub.url)) == "Bad Gateway (502)"


def test_a_redirect_is_not_followed_with_the_key(stub: Stub) -> None:
    with Stub() as other:
        stub.answer = (302, {"Location": other.url}, b"")
        assert refusal(Server(stub.url, "secret")) == "Found (302)"
        assert other.asked == []


def test_what_is_no_runwait_is_said_to_be_none(stub: Stub) -> None:
    stub.answer = (200, {}, b"<html>")
    assert refusal(Server(stub.url)) == f"{stub.url}: what answers there is no Runwait"


def test_a_server_that_is_away_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    told = refusal(Server(url))
    assert told.startswith(f"{url}: ")
    assert "refused" in told
    assert told.endswith("--url says where the server is")


def test_what_is_a_path_is_no_id(stub: Stub) -> None:
    # Of a thread's id and what is behind it a server would make another call.
    with pytest.raises(OneLine, match="neither an id"):
        Server(stub.url).delete("/threads/{}", "t/runs/r")
    assert stub.asked == []


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8000", "ftp://x", "http://", "http://x?a=1", "http://x#a", ""),
        *("http://[::1", "http://x:y", "http://x:99999"),
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(OneLine, match="--url"):
        Server(url)


def test_secrets_that_can_not_be_sent_are_refused_and_not_shown() -> None:
    with pytest.raises(OneLine, match="--url") as url:
        Server("http://ada:secret@x")
    with pytest.raises(OneLine, match="RUNWAIT_API_KEY") as key:
        Server("http://x", "secret\nkey")
    assert "secret" not in url.value.message + key.value.message
