"""LangSmith: a run's id is its trace's, and feedback keys get URLs; without it, one warning."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.servers import PROJECTS, eventually

ZOO = PROJECTS / "zoo" / "langgraph.json"
TOKEN = "01a20acd-2b83-70b2-a8d5-eb34efcb8229"


class FakeLangSmith(BaseHTTPRequestHandler):
    """As much of its API as the client library asks for."""

    bodies: list[bytes]
    refuses: bool

    def do_GET(self) -> None:
        batches = {
            "use_multipart_endpoint": False,
            "size_limit": 100,
            "size_limit_bytes": 20_000_000,
            "scale_up_nthreads_limit": 1,
            "scale_up_qsize_trigger": 1000,
            "scale_down_nempty_trigger": 4,
        }
        self._answer({"version": "1", "batch_ingest_config": batches})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/feedback/tokens"):
            if self.refuses:
                self._answer({"detail": "no"}, status=403)
                return
            key = json.loads(body)["feedback_key"]
            url = f"https://smith.example/feedback/{key}"
            self._answer({"id": TOKEN, "url": url, "expires_at": "2030-01-01T00:00:00+00:00"})
        else:
            self.bodies.append(self.path.encode() + b" " + body)
            self._answer({})

    do_PATCH = do_POST  # noqa: N815

    def _answer(self, content: Any, status: int = 200) -> None:
        raw = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def langsmith() -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (FakeLangSmith,), {"bodies": [], "refuses": False})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def traced(serve, valkey, langsmith):
    return serve(
        REDIS_URL=valkey.url,
        LANGGRAPH_CONFIG=ZOO,
        LANGSMITH_TRACING="true",
        LANGSMITH_API_KEY="key",
        LANGSMITH_ENDPOINT=f"http://127.0.0.1:{langsmith.server_address[1]}",
    )


def traced_runs(langsmith: ThreadingHTTPServer) -> list[dict[str, Any]]:
    """What was told of the beginning of runs, of graphs and of what is in them."""
    found = []
    for each in list(langsmith.RequestHandlerClass.bodies):
        path, _, body = each.partition(b" ")
        assert path == b"/runs/batch", path
        found += json.loads(body).get("post") or []
    return found


def test_feedback_keys_get_their_urls_and_the_trace_has_the_runs_id(traced, langsmith):
    body = {"assistant_id": "echo", "input": {"value": 1}, "feedback_keys": ["good", "bad"]}
    response = traced.http.post("/runs/wait", json=body)
    assert response.json() == {
        "value": 1,
        "__feedback__": {
            "good": "https://smith.example/feedback/good",
            "bad": "https://smith.example/feedback/bad",
        },
    }
    run_id = response.headers["location"].split("/")[4]
    roots = eventually(lambda: [each for each in traced_runs(langsmith) if each["id"] == run_id])
    assert roots[0].get("parent_run_id") is None
    nodes = eventually(
        lambda: [each for each in traced_runs(langsmith) if each.get("parent_run_id") == run_id]
    )
    assert {each["trace_id"] for each in (*roots, *nodes)} == {run_id}


def test_a_langsmith_that_refuses_leaves_the_answer_as_it_is(traced, langsmith):
    langsmith.RequestHandlerClass.refuses = True
    body = {"assistant_id": "echo", "input": {"value": 1}, "feedback_keys": ["good"]}
    assert traced.http.post("/runs/wait", json=body).json() == {"value": 1}
    assert traced.logged("no feedback URLs")


def test_without_langsmith_feedback_keys_change_nothing_but_one_line_in_the_log(serve, valkey):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1)
    body = {"assistant_id": "echo", "input": {"value": 1}, "feedback_keys": ["good"]}
    for _ in range(3):
        assert server.http.post("/runs/wait", json=body).json() == {"value": 1}
    assert server.log.read_text().count("feedback_keys") == 1
