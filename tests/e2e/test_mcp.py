"""MCP: its official clients, LangChain's adapters, and requests of every wrong shape."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.e2e.calls import Gate, read_newlines
from tests.e2e.programs import client
from tests.servers import PATIENCE, PROJECTS, RedisServer, Server, ServerFactory, eventually

ZOO = PROJECTS / "zoo" / "langgraph.json"
VERSION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
}
Calls = Sequence[tuple[str, dict[str, Any]]]


def told(name: str, server: Server, *arguments: str) -> list[Any]:
    """The lines that a client's script prints."""
    command = [*client(name), f"{server.url}/mcp", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def ask(server: Server, method: str, params: Any = None, **headers: str) -> httpx.Response:
    """The answer to a request of a version with a handshake."""
    body = {"jsonrpc": "2.0", "id": 7, "method": method}
    if params is not None:
        body["params"] = params
    return server.http.post("/mcp", json=body, headers=headers)


def ask_anew(
    server: Server, method: str, headers: dict[str, str] | None = None, **params: Any
) -> httpx.Response:
    """The answer to a request of the version without."""
    meta = {**META, **params.pop("meta", {})}
    named = {"MCP-Protocol-Version": VERSION, "Mcp-Method": method}
    if "name" in params:
        named["Mcp-Name"] = params["name"]
    body = {"jsonrpc": "2.0", "id": "a", "method": method, "params": {**params, "_meta": meta}}
    return server.http.post("/mcp", json=body, headers={**named, **(headers or {})})


def result(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert "error" not in answer, answer
    found: dict[str, Any] = answer["result"]
    return found


def refused(response: httpx.Response, status: int = 200) -> int:
    """The code of an error."""
    assert response.status_code == status, response.text
    answer = response.json()
    assert answer.keys() == {"jsonrpc", "id", "error"}
    assert answer["error"]["message"]
    code: int = answer["error"]["code"]
    return code


CALLS: Calls = [
    ("two_nodes", {"value": "x"}),
    ("entry", {"input": [3]}),
    ("fails", {}),
    ("steps_sync", {"n": "five"}),
    ("nobody", {}),
]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_official_client_lists_and_calls_tools(zoo: Server, mode: str) -> None:
    listed, *answers = told("mcp", zoo, mode, json.dumps(CALLS))
    assert listed["spoken"] == ("2025-11-25" if mode == "legacy" else VERSION)
    tools = {tool["name"]: tool for tool in listed["tools"]}
    assert tools["echo"]["description"] == "Returns its value unchanged"
    assert tools["echo"]["inputSchema"]["properties"].keys() == {"value"}
    assert tools["entry"]["inputSchema"]["required"] == ["input"]
    two_nodes, entry, fails, wrong, unknown = answers
    assert two_nodes["structured"] == json.loads(two_nodes["texts"][0])
    assert two_nodes["steps"] == [[1.0, "first"], [2.0, "second"]]
    assert entry["structured"].keys() == {"output"}
    assert (fails["is_error"], fails["texts"]) == (True, ["ValueError: no luck"])
    assert wrong["is_error"] and wrong["texts"][0].startswith("n: ")
    assert unknown["error"] == -32602


def test_the_official_client_answers_what_a_graph_asks(zoo: Server) -> None:
    def waiting() -> set[str]:
        body = {"metadata": {}, "status": "interrupted", "select": ["thread_id", "metadata"]}
        found = zoo.http.post("/threads/search", json={**body, "limit": 1000}).json()
        return {each["thread_id"] for each in found if "mcp" in each["metadata"]}

    others = waiting()
    calls = [("two_interrupts", {}), ("forms", {}), ("declinable", {})]
    _, two, forms, declined = told("mcp", zoo, "auto", json.dumps(calls))
    assert sorted(two["structured"]["answers"]) == ["left: blue", "right: blue"]
    assert {each["message"] for each in two["asked"]} == {'{"ask":"left"}', '{"ask":"right"}'}
    assert forms["structured"]["answers"] == ["{'sure': True}", "'blue'"]
    assert [each["message"] for each in forms["asked"]] == [
        "Are you sure?",
        '["deep",{"nested":true}]',
    ]
    assert declined["is_error"] and "decline" in declined["texts"][0]
    # Of none of them a thread is left.
    eventually(lambda: waiting() <= others)


def test_a_client_that_can_not_be_asked_is_given_the_interrupts(zoo: Server) -> None:
    _, forms = told("mcp", zoo, "legacy", json.dumps([("forms", {})]))
    assert forms["structured"]["__interrupt__"][0]["value"] == "Are you sure?"


def test_langchains_adapters_call_tools(zoo: Server) -> None:
    names, *answers = told("adapters", zoo, json.dumps([("echo", {"value": "x"}), ("fails", {})]))
    assert {"echo", "two_nodes"} <= {*names}
    assert json.loads(answers[0]["given"][0]["text"]) == {"value": "x"}
    assert "ValueError: no luck" in json.dumps(answers[1])


class TestHandshake:
    def test_a_known_version_is_taken(self, zoo: Server) -> None:
        for version, spoken in [("2025-03-26", "2025-03-26"), ("1999-01-01", "2025-11-25")]:
            asked = {"protocolVersion": version, "capabilities": {}, "clientInfo": {}}
            found = result(ask(zoo, "initialize", asked))
            assert found["protocolVersion"] == spoken
            assert found["capabilities"].keys() == {"tools"}
            assert found["serverInfo"]["name"] == "runwait"

    def test_notifications_are_taken_and_pings_answered(self, zoo: Server) -> None:
        body = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        response = zoo.http.post("/mcp/", json=body)
        assert (response.status_code, response.content) == (202, b"")
        assert result(ask(zoo, "ping")) == {}

    def test_an_unknown_version_in_the_header_is_refused(self, zoo: Server) -> None:
        assert refused(ask(zoo, "ping", **{"MCP-Protocol-Version": "1999-01-01"}), 400) == -32600
        assert refused(ask(zoo, "ping", **{"MCP-Protocol-Version": VERSION}), 400) == -32602

    def test_an_unknown_method_is_not_found(self, zoo: Server) -> None:
        assert refused(ask(zoo, "resources/list")) == -32601

    @pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
    def test_there_is_nothing_but_post(self, zoo: Server, method: str) -> None:
        assert zoo.http.request(method, "/mcp").status_code == 405


class TestWithoutHandshake:
    def test_the_server_says_what_it_can(self, zoo: Server) -> None:
        found = result(ask_anew(zoo, "server/discover"))
        assert found["supportedVersions"] == [VERSION]
        assert found["capabilities"] == {"tools": {}}
        assert found["resultType"] == "complete"
        assert found["cacheScope"] == "public" and found["ttlMs"] > 0
        assert found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "runwait"

    @pytest.mark.parametrize("name", ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"])
    def test_headers_say_what_the_body_says(self, zoo: Server, name: str) -> None:
        response = ask_anew(zoo, "tools/call", {name: "else"}, name="echo", arguments={})
        assert refused(response, 400) == -32020

    def test_a_name_may_come_in_base64(self, zoo: Server) -> None:
        named = {"Mcp-Name": "=?base64?ZWNobw==?="}
        given = result(ask_anew(zoo, "tools/call", named, name="echo", arguments={"value": "x"}))
        assert given["structuredContent"] == {"value": "x"}

    def test_an_unknown_version_is_told_of_the_known(self, zoo: Server) -> None:
        meta = {"io.modelcontextprotocol/protocolVersion": "2027-01-01"}
        headers = {"MCP-Protocol-Version": "2027-01-01"}
        response = ask_anew(zoo, "tools/list", headers, meta=meta)
        assert refused(response, 400) == -32022
        assert response.json()["error"]["data"]["supported"] == [VERSION]

    @pytest.mark.parametrize("method", ["initialize", "ping", "nothing"])
    def test_an_unknown_method_is_not_found(self, zoo: Server, method: str) -> None:
        assert refused(ask_anew(zoo, method), 404) == -32601

    def test_what_a_client_can_must_be_an_object(self, zoo: Server) -> None:
        meta = {"io.modelcontextprotocol/clientCapabilities": None}
        assert refused(ask_anew(zoo, "tools/list", meta=meta), 400) == -32602

    @pytest.mark.parametrize(
        "state",
        ["", "x", 5, None, "3c90c3cc-0d44-4b50-8888-8dd25736052a.x"],
    )
    def test_a_state_that_nobody_was_given_is_refused(self, zoo: Server, state: Any) -> None:
        response = ask_anew(
            zoo, "tools/call", name="forms", arguments={}, requestState=state, inputResponses={}
        )
        assert refused(response, 400) == -32602

    def test_an_answer_must_answer(self, zoo: Server) -> None:
        can = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
        asked = result(ask_anew(zoo, "tools/call", meta=can, name="forms", arguments={}))
        assert asked["resultType"] == "input_required"
        ((key, form),) = asked["inputRequests"].items()
        assert form["params"]["requestedSchema"]["properties"] == {"sure": {"type": "boolean"}}
        state = asked["requestState"]
        for bad in ({}, {"other": {"action": "accept"}}, {key: {"action": "accept"}}, {key: 5}, 5):
            response = ask_anew(
                zoo,
                "tools/call",
                meta=can,
                name="forms",
                arguments={},
                requestState=state,
                inputResponses=bad,
            )
            if bad == {key: 5}:
                assert result(response)["isError"]  # as good as declined
            else:
                assert refused(response, 400) == -32602
        # Of another tool, and with another token of the same thread.
        thread_id = state.partition(".")[0]
        assert zoo.http.get(f"/threads/{thread_id}").status_code == 404

    def test_a_state_is_of_one_tool_and_of_who_was_given_it(self, zoo: Server) -> None:
        can = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
        asked = result(ask_anew(zoo, "tools/call", meta=can, name="forms", arguments={}))
        (key,) = asked["inputRequests"]
        answers = {key: {"action": "accept", "content": {"sure": True}}}
        state = asked["requestState"]
        for name, forged in [("declinable", state), ("forms", state[:-1] + "?")]:
            response = ask_anew(
                zoo,
                "tools/call",
                meta=can,
                name=name,
                arguments={},
                requestState=forged,
                inputResponses=answers,
            )
            assert refused(response, 400) == -32602
        again = result(
            ask_anew(
                zoo,
                "tools/call",
                meta=can,
                name="forms",
                arguments={},
                requestState=state,
                inputResponses=answers,
            )
        )
        assert again["resultType"] == "input_required"


class TestShapes:
    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"", -32700),
            (b"{", -32700),
            (b"[]", -32600),
            (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
            (b"5", -32600),
            (b"{}", -32600),
            (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
            (b'{"jsonrpc":"2.0","id":1}', -32600),
            (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
            (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600),
            (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600),
            (b'{"jsonrpc":"2.0","id":1,"method":5}', -32600),
            (b'{"jsonrpc":"2.0","method":"tools/call"}', -32600),
            (b'{"jsonrpc":"2.0","id":1,"result":{}}', -32600),
        ],
    )
    def test_what_is_no_request_is_refused(self, zoo: Server, body: bytes, code: int) -> None:
        assert refused(zoo.http.post("/mcp", content=body), 400) == code

    @pytest.mark.parametrize(
        ("method", "params"),
        [
            ("ping", []),
            ("tools/list", {"cursor": "x"}),
            ("tools/list", {"cursor": 5}),
            ("tools/call", {}),
            ("tools/call", {"name": 5}),
            ("tools/call", {"name": "nothing"}),
            ("tools/call", {"name": "echo", "arguments": []}),
        ],
    )
    def test_params_that_do_not_fit_are_refused(
        self, zoo: Server, method: str, params: Any
    ) -> None:
        response = ask(zoo, method, params)
        assert (refused(response), response.json()["id"]) == (-32602, 7)

    def test_a_foreign_origin_is_refused(self, zoo: Server) -> None:
        assert ask(zoo, "ping", Origin="http://elsewhere.example").status_code == 403
        assert ask(zoo, "ping", Origin="null").status_code == 403
        assert ask(zoo, "ping", Origin="http://[").status_code == 403
        assert result(ask(zoo, "ping", Origin=zoo.url)) == {}

    @pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "*/*"])
    def test_either_type_is_given(self, zoo: Server, accept: str) -> None:
        response = ask(zoo, "tools/call", {"name": "echo", "arguments": {}}, Accept=accept)
        streamed = accept == "text/event-stream"
        assert response.headers["Content-Type"].startswith(accept if streamed else "application/")
        document = response.text.partition("data: ")[2] if streamed else response.text
        assert json.loads(document)["result"]["structuredContent"] == {"value": None}

    def test_no_other_type_is_given(self, zoo: Server) -> None:
        assert ask(zoo, "ping", Accept="text/html").status_code == 406


def test_arguments_that_do_not_fit_run_nothing(zoo: Server) -> None:
    for arguments in ({"n": "5"}, {"n": None}, {"n": [5]}, {"n": 0.5}):
        answer = result(ask(zoo, "tools/call", {"name": "steps_sync", "arguments": arguments}))
        assert answer["isError"] and answer["content"][0]["text"].startswith("n: ")


def test_assistants_are_tools_under_names_of_their_own(zoo: Server) -> None:
    made = [
        zoo.http.post("/assistants", json={"graph_id": "echo", "name": name}).json()
        for name in ("Für alle!", "echo", "echo")
    ]
    names = [tool["name"] for tool in result(ask(zoo, "tools/list"))["tools"]]
    assert len({*names}) == len(names)
    expected = ["F_r_alle_", *(f"echo_{each['assistant_id'][:8]}" for each in made[1:])]
    assert [name for name in names if name in expected] == expected
    for name in expected:
        called = result(ask(zoo, "tools/call", {"name": name, "arguments": {"value": "x"}}))
        assert called["structuredContent"] == {"value": "x"}
    for each in made:
        zoo.http.delete(f"/assistants/{each['assistant_id']}")


def test_a_call_shows_signs_of_life_and_ends_with_its_client(zoo: Server, tmp_path: Path) -> None:
    with Gate(tmp_path) as gate:
        params = {"name": "sleep_async", "arguments": gate.input}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        asked_as = str(uuid4())
        with httpx.stream(
            "POST",
            f"{zoo.url}/mcp",
            json=body,
            headers={"X-Request-ID": asked_as},
            timeout=PATIENCE,
        ) as response:
            assert response.status_code == 200
            read_newlines(response.iter_raw(), 3)
        # The gate is still closed: it did not end by itself.
        eventually(
            lambda: any(
                asked_as in line and "interrupted" in line
                for line in zoo.log.read_text().splitlines()
            )
        )


def test_a_call_that_goes_on_elsewhere_is_answered(
    serve: ServerFactory, valkey: RedisServer, tmp_path: Path
) -> None:
    """A process with no place for a run leaves it to another; the caller is told of its end."""
    settings = {"REDIS_URL": valkey.url, "LANGGRAPH_CONFIG": ZOO, "WEB_CONCURRENCY": 1}
    here, there = serve(**settings, CLAIM_RUNS="false"), serve(**settings)
    for accept in ("application/json", "text/event-stream"):
        with Gate(tmp_path) as gate, ThreadPoolExecutor() as pool:
            params = {"name": "steps_async", "arguments": {"n": 3, **gate.input}}
            asked = pool.submit(ask, here, "tools/call", params, Accept=accept)
            gate.open()
            response = asked.result(PATIENCE)
        document = response.text.partition("data: ")[2] if "event" in accept else response.text
        assert json.loads(document)["result"]["structuredContent"]["steps"] == [1, 2, 3]
    assert there.http.get("/ok").status_code == 200
