"""The HTTP edge of a real server: a prefix, an app beside the API, other origins, forgeries."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from langgraph_sdk import get_sync_client

from tests.e2e.browser import Browser
from tests.e2e.calls import Gate
from tests.servers import PATIENCE, PROJECTS, Server, ServerFactory, eventually

PREFIX = "/v1.0/agents"
FORGED = {
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Ssl": "on",
    "X-Forwarded-Protocol": "ssl",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Prefix": "/evil",
    "Forwarded": "for=6.6.6.6;proto=https",
    "Script-Name": "/evil",
}


@pytest.fixture(scope="module")
def edge(shared: ServerFactory) -> Server:
    """One worker that serves tests/projects/edge."""
    return shared(
        LANGGRAPH_CONFIG=PROJECTS / "edge" / "langgraph.json",
        WEB_CONCURRENCY=1,
        HEARTBEAT_SECONDS=0.2,
    )


@pytest.fixture
def http(edge: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{edge.url}{PREFIX}", timeout=PATIENCE) as client:
        yield client


def line_of(edge: Server, **wanted: str) -> dict[str, str]:
    """The line of the log that has these values, once it is there: some come after the answer."""
    (line,) = eventually(lambda: lines_of(edge, **wanted))
    return line


def lines_of(edge: Server, **wanted: str) -> list[dict[str, str]]:
    """All lines of the log that have these values."""
    found = [json.loads(each) for each in edge.log.read_text().splitlines() if each[:1] == "{"]
    return [each for each in found if wanted.items() <= each.items()]


class TestAPrefix:
    def test_is_all_that_a_client_of_the_sdk_has_to_know(self, edge: Server) -> None:
        client = get_sync_client(url=f"{edge.url}{PREFIX}")
        thread = client.threads.create()
        run = client.runs.create(thread["thread_id"], "seen", input={})
        assert client.runs.join(thread["thread_id"], run["run_id"]) == {"seen": {}}

    def test_is_in_the_paths_that_lead_on(self, edge: Server, http: httpx.Client) -> None:
        answer = http.post("/runs/wait", json={"assistant_id": "seen", "input": {}})
        for name in ("Location", "Content-Location"):
            assert answer.headers[name].startswith(f"{PREFIX}/threads/")
            assert edge.http.get(answer.headers[name]).status_code == 200

    def test_is_where_the_api_is_and_ok_is_at_the_root_too(
        self, edge: Server, http: httpx.Client
    ) -> None:
        assert edge.http.get("/ok").json() == http.get("/ok").json() == {"ok": True}
        assert edge.http.get("/info").status_code == 404
        assert edge.http.get("/own/where").status_code == 404
        assert http.get("/store/items").status_code == 404

    @pytest.mark.parametrize(
        ("target", "status"),
        [
            (f"{PREFIX}/ok", 200),
            (f"http://other.example{PREFIX}/ok", 200),
            (f"http://other.example{PREFIX}/nope", 404),
            (f"{PREFIX}%2Fok", 200),
            ("/v1%2E0/agents/ok", 200),
            ("/v1.0/../v1.0/agents/ok", 404),
            ("/v1.0//agents/ok", 404),
            ("//v1.0/agents/ok", 404),
            (f"{PREFIX}/../../info", 404),
            (f"{PREFIX}//ok", 404),
            ("*", 404),
        ],
    )
    def test_is_compared_with_the_path_as_it_was_decoded(
        self, edge: Server, target: str, status: int
    ) -> None:
        method = "OPTIONS" if target == "*" else "GET"
        with socket.create_connection(("127.0.0.1", edge.port), PATIENCE) as client:
            head = f"{method} {target} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
            client.sendall(head.encode())
            answer = b"".join(iter(lambda: client.recv(65_536), b""))
        assert int(answer.split()[1]) == status
        assert b'{"ok":true}' in answer or b'{"detail":"Not Found"}' in answer


class TestAnAppBesideTheApi:
    def test_is_asked_for_what_the_api_lacks_and_hides_nothing(
        self, edge: Server, http: httpx.Client
    ) -> None:
        where = http.get("/own/where", headers=FORGED).json()
        assert where == {
            "root": PREFIX,
            "url": f"{edge.url}{PREFIX}/own/where",
            "client": "127.0.0.1",
        }
        assert http.get("/ok").json() == {"ok": True}
        assert "version" in http.get("/info").json()
        body = b"x" * 1_000_000
        assert http.post("/own/length", content=body).json() == {"length": len(body)}
        chunks = iter([b"x" * 10, b"y" * 5])
        assert http.post("/own/length", content=chunks).json() == {"length": 15}

    def test_that_raises_harms_no_other_request(self, edge: Server, http: httpx.Client) -> None:
        answer = http.get("/own/fault", headers={"X-Request-ID": "of the fault"})
        assert (answer.status_code, [*answer.json()]) == (500, ["detail"])
        assert "what went wrong here" not in answer.text
        line = line_of(edge, request_id="of the fault", level="ERROR")
        assert "ValueError: what went wrong here" in line["traceback"]
        assert http.get("/own/where").status_code == 200

    def test_answers_piece_by_piece(self, http: httpx.Client, tmp_path: Path) -> None:
        with Gate(tmp_path) as gate, http.stream("GET", f"/own/wait?gate={gate.path}") as answer:
            pieces = answer.iter_raw()
            assert next(pieces) == b"first "
            gate.open()
            assert b"".join(pieces) == b"second"

    def test_whose_answer_breaks_off_is_not_taken_for_whole(
        self, http: httpx.Client, tmp_path: Path
    ) -> None:
        gate = tmp_path / "gate"
        with http.stream("GET", f"/own/wait?gate={gate}") as answer:
            pieces = answer.iter_raw()
            assert next(pieces) == b"first "
            gate.write_text("break")
            with pytest.raises(httpx.TransportError):
                list(pieces)

    def test_has_answers_of_any_size(self, http: httpx.Client, tmp_path: Path) -> None:
        made = tmp_path / "made"
        with http.stream("GET", f"/own/large?pieces=400&made={made}") as answer:
            assert sum(map(len, answer.iter_raw())) == 400 * 65_536

    def test_makes_no_more_than_its_client_takes(
        self, edge: Server, http: httpx.Client, tmp_path: Path
    ) -> None:
        made = tmp_path / "made"
        path = f"{PREFIX}/own/large?pieces=10000&made={made}"
        with socket.create_connection(("127.0.0.1", edge.port), PATIENCE) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nX-Request-ID: slow\r\n\r\n".encode())
            client.recv(1)
            assert http.get("/ok").status_code == 200
        # It went away, and nobody makes the other pieces.
        line_of(edge, request_id="slow", message="the pieces end")
        assert int(made.read_text()) < 1000


class TestHeadersOfARequest:
    def test_that_are_named_reach_the_graph_and_nobody_sets_them_otherwise(
        self, http: httpx.Client
    ) -> None:
        body = {
            "assistant_id": "seen",
            "input": {},
            "config": {"configurable": {"x-user-id": "forged"}},
        }
        headers = {
            "X-User-Id": "ada",
            "X-User-Key": "excluded",
            "X-Other": "not named",
            "X-Api-Key": "never",
            "Authorization": "Bearer token",
        }
        answer = http.post("/runs/wait", json=body, headers=headers)
        assert answer.json() == {"seen": {"x-user-id": "ada", "authorization": "Bearer token"}}

    def test_reach_a_run_that_another_process_or_a_later_time_executes(
        self, http: httpx.Client
    ) -> None:
        body = {"assistant_id": "seen", "input": {}, "after_seconds": 0.1, "context": {"a": 1}}
        answer = http.post("/runs/wait", json=body, headers={"X-User-Id": "ada"})
        assert answer.json() == {"seen": {"x-user-id": "ada"}}

    def test_reach_a_graph_that_is_called_as_a_tool(self, http: httpx.Client) -> None:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "seen"}}
        answer = http.post("/mcp", json=body, headers={"X-User-Id": "ada"})
        assert answer.json()["result"]["structuredContent"] == {"seen": {"x-user-id": "ada"}}

    def test_are_no_place_to_say_who_the_client_is(self, edge: Server, http: httpx.Client) -> None:
        headers = {**FORGED, "X-Request-ID": "forged"}
        answer = http.post("/runs/wait", json={"assistant_id": "seen"}, headers=headers)
        assert answer.headers["Location"].startswith(f"{PREFIX}/threads/")
        line = line_of(edge, request_id="forged", message="request")
        assert (line["client"], line["path"]) == ("127.0.0.1", f"{PREFIX}/runs/wait")

    def test_with_the_id_of_a_request_are_in_all_lines_about_it(
        self, edge: Server, http: httpx.Client
    ) -> None:
        answer = http.post(
            "/runs/wait",
            json={"assistant_id": "seen", "input": {}},
            headers={"X-Request-ID": "of the run"},
        )
        assert answer.headers["X-Request-ID"] == "of the run"
        looks, ended, _ = (
            line_of(edge, request_id="of the run", message=message)
            for message in ("the graph looks", "run ended", "request")
        )
        assert looks["run_id"] == ended["run_id"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


CALL = """
fetch(%s + "/runs/stream", {
    method: "POST",
    headers: {"Content-Type": "application/json", "X-Api-Key": "a key"},
    body: JSON.stringify({assistant_id: "seen", input: {}}),
}).then(async (answer) => [answer.headers.get("Content-Location"), await answer.text()],
        (error) => String(error))
"""


@pytest.mark.parametrize("host", ["app.localhost", "app.localhost.evil.localhost"])
def test_a_page_of_another_origin_may_call_if_that_is_allowed(
    edge: Server, browser: Browser, host: str
) -> None:
    origin = f"http://{host}:{edge.port}"
    browser.open(f"{origin}{PREFIX}/own/page")
    browser.wait_for(f"location.origin === '{origin}' && document.title === 'a page'")
    found = browser.run(CALL % json.dumps(f"{edge.url}{PREFIX}"))
    if host == "app.localhost":
        assert found[0].startswith(f"{PREFIX}/threads/")
        assert "event: end" in found[1]
    else:
        assert found == "TypeError: Failed to fetch"
