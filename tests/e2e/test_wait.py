"""POST /runs/wait and what it leaves behind: the answer, the record, the join.

Two workers, a Valkey, and clients that are real programs.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import httpx
import pytest

from tests.e2e.calls import (
    FOREVER,
    UNLIMITED,
    Gate,
    bad_fields,
    begun,
    detail,
    document,
    fresh_get,
    joined,
    only,
    output,
    post,
    read_newlines,
    run_of,
)
from tests.e2e.programs import require
from tests.servers import PATIENCE, PROJECTS, RedisServer, Server, ServerFactory, eventually

# Part of the API: clients have assistants' ids stored.
NAMESPACE = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
ZOO = str(PROJECTS / "zoo" / "langgraph.json")
UNKNOWN = "3c90c3cc-0d44-4b50-8888-8dd25736052a"

# The body of the curl command on the reference's page for this call, as printed there.
PRINTED: dict[str, Any] = {
    "assistant_id": UNKNOWN,
    "input": {},
    "command": {"update": {}, "resume": {}, "goto": {"node": "<string>", "input": {}}},
    "metadata": {},
    "config": {"tags": ["<string>"], "recursion_limit": 123, "configurable": {}},
    "context": {},
    "webhook": "<string>",
    "stream_mode": ["values"],
    "feedback_keys": ["<string>"],
    "stream_subgraphs": False,
    "stream_resumable": False,
    "on_completion": "delete",
    "on_disconnect": "continue",
    "after_seconds": 123,
    "checkpoint_during": False,
    "durability": "async",
}


def curl(server: Server, body: dict[str, Any]) -> tuple[int, Any]:
    """The status and the document that the page's curl command gets for a body."""
    command = [require("curl"), "--silent", "--show-error", "--write-out", "\n%{http_code}"]
    command += ["--request", "POST", "--url", f"{server.url}/runs/wait"]
    command += ["--header", "Content-Type: application/json"]
    command += ["--data", f"\n{json.dumps(body, indent=2)}\n"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    text, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(text)


class TestThePagesCurl:
    def test_answers_with_the_output_when_its_placeholders_are_filled_in(self, zoo: Server) -> None:
        body = {k: v for k, v in PRINTED.items() if k not in ("webhook", "after_seconds")}
        body["assistant_id"] = str(uuid5(NAMESPACE, "gotos"))
        body["command"] = {"update": {}, "goto": {"node": "c", "input": {"value": 7}}}
        body["config"] = {"tags": ["nightly"], "recursion_limit": 123, "configurable": {}}
        body["feedback_keys"] = ["liked"]
        assert curl(zoo, body) == (200, {"names": ["a", "c", "b"], "seen": [None, 7, None]})

    def test_is_told_every_bad_field_when_only_the_assistant_is_real(self, zoo: Server) -> None:
        status, answer = curl(zoo, {**PRINTED, "assistant_id": str(uuid5(NAMESPACE, "gotos"))})
        # Of the placeholders only this one is no value of its field's type. What the command
        # asks for is looked at once the body is valid.
        assert status == 422
        assert [each.partition(": ")[0] for each in answer["detail"].split("; ")] == ["webhook"]
        assert "URI" in answer["detail"]

    def test_is_told_of_the_resume_once_its_fields_are_valid(self, zoo: Server) -> None:
        body = {k: v for k, v in PRINTED.items() if k != "webhook"}
        status, answer = curl(zoo, {**body, "assistant_id": str(uuid5(NAMESPACE, "gotos"))})
        assert (status, "command.resume" in answer["detail"]) == (400, True)

    def test_is_told_of_the_node_once_it_resumes_nothing(self, zoo: Server) -> None:
        body = {k: v for k, v in PRINTED.items() if k != "webhook"}
        body["command"] = {**PRINTED["command"], "resume": None}
        status, answer = curl(zoo, {**body, "assistant_id": str(uuid5(NAMESPACE, "gotos"))})
        assert (status, "<string>" in answer["detail"]) == (422, True)

    def test_is_told_of_the_assistant_that_the_page_made_up(self, zoo: Server) -> None:
        body = {k: v for k, v in PRINTED.items() if k != "webhook"}
        status, answer = curl(zoo, body)
        assert (status, UNKNOWN in answer["detail"]) == (404, True)


class TestHeaders:
    def test_are_those_of_an_answer_that_no_proxy_may_hold_back(self, zoo: Server) -> None:
        response = post(zoo, "echo")
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert response.headers["Cache-Control"] == "no-store"

    def test_name_the_run_and_where_its_answer_can_be_had_again(self, zoo: Server) -> None:
        response = post(zoo, "echo", input={"value": 5})
        run = re.fullmatch(
            r"/threads/([0-9a-f-]{36})/runs/([0-9a-f-]{36})", response.headers["Content-Location"]
        )
        assert run is not None
        assert response.headers["Location"] == f"{run[0]}/join"
        assert run_of(zoo, response)["thread_id"] == run[1]
        assert run_of(zoo, response)["run_id"] == run[2]
        assert fresh_get(zoo, response.headers["Location"]).json() == {"value": 5}

    def test_hold_ids_that_are_ordered_by_time(self, zoo: Server) -> None:
        ids = []
        for _ in range(3):
            _, _, thread_id, _, run_id = post(zoo, "echo").headers["Content-Location"].split("/")
            ids += [UUID(thread_id), UUID(run_id)]
        assert {each.version for each in ids} == {7}
        assert len(set(ids)) == 6
        assert ids[0::2] == sorted(ids[0::2])
        assert ids[1::2] == sorted(ids[1::2])

    def test_arrive_while_the_run_still_works(self, zoo: Server, tmp_path: Path) -> None:
        with Gate(tmp_path) as gate, begun(zoo, "sleep_sync", input=gate.input) as response:
            assert response.headers["Content-Type"] == "application/json"
            assert response.headers["X-Accel-Buffering"] == "no"
            assert response.headers["Cache-Control"] == "no-store"
            assert run_of(zoo, response)["status"] == "running"
            gate.open()
            assert document(response)["done"] is True


class TestBody:
    def test_is_a_newline_every_so_often_and_then_the_document(
        self, zoo: Server, tmp_path: Path
    ) -> None:
        start = datetime.now(UTC)
        with Gate(tmp_path) as gate, begun(zoo, "sleep_sync", input=gate.input) as response:
            chunks = response.iter_raw()
            read_newlines(chunks, 3)
            # HEARTBEAT_SECONDS is 0.2 on this server.
            assert datetime.now(UTC) - start >= timedelta(seconds=0.6)
            gate.open()
            rest = b"".join(chunks)
        assert json.loads(rest) == {**gate.input, "done": True}
        assert rest.strip() == rest.lstrip(b"\n")

    def test_of_an_asynchronous_run_has_newlines_too(self, zoo: Server) -> None:
        with begun(
            zoo, "steps_async", input=FOREVER, on_disconnect="cancel", config=UNLIMITED
        ) as response:
            read_newlines(response.iter_raw(), 3)

    def test_is_only_the_document_where_no_newline_was_due(
        self, serve: ServerFactory, valkey: RedisServer
    ) -> None:
        """And it is there when the run has ended, not when the next newline would be due."""
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, HEARTBEAT_SECONDS=3600)
        for graph in ("echo", "lambda_only_async"):
            response = post(server, graph, input={"value": [1]})
            assert response.content == b'{"value":[1]}'
        for graph in ("sleep_sync", "sleep_async"):
            response = post(server, graph, input={"seconds": 0.1})
            assert response.content == b'{"seconds":0.1,"done":true}'


class TestHead:
    def test_of_an_ended_run_has_the_headers_alone(self, zoo: Server) -> None:
        response = post(zoo, "echo")
        head = zoo.http.head(response.headers["Location"])
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Location"] == response.headers["Location"]

    def test_of_a_run_at_work_does_not_wait_for_it(self, zoo: Server, tmp_path: Path) -> None:
        with Gate(tmp_path) as gate, begun(zoo, "sleep_sync", input=gate.input) as response:
            for worker in zoo.workers():
                with only(zoo, worker):
                    url = f"{zoo.url}{response.headers['Location']}"
                    head = httpx.head(url, timeout=PATIENCE)
                assert (head.status_code, head.content) == (200, b"")
            assert run_of(zoo, response)["status"] == "running"

    def test_is_whole_where_the_connection_ends_with_it(self, zoo: Server, tmp_path: Path) -> None:
        with Gate(tmp_path) as gate, begun(zoo, "sleep_sync", input=gate.input) as response:
            for version in ("1.0", "1.1"):
                request = f"HEAD {response.headers['Location']} HTTP/{version}\r\n"
                request += "Host: localhost\r\nConnection: close\r\n\r\n"
                with socket.create_connection(("127.0.0.1", zoo.port), PATIENCE) as connection:
                    connection.sendall(request.encode())
                    answer = connection.makefile("rb").read()
                assert answer.startswith(f"HTTP/{version} 200 OK\r\n".encode())
                assert answer.endswith(b"\r\n\r\n")

    def test_frees_the_place_it_waited_in(self, serve: ServerFactory, valkey: RedisServer) -> None:
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1, WAITERS_MAX=2)
        with begun(
            server, "steps_sync", input=FOREVER, on_disconnect="cancel", config=UNLIMITED
        ) as response:
            for _ in range(5):
                assert server.http.head(response.headers["Location"]).status_code == 200


class TestInterrupts:
    def test_of_one_step_are_all_listed_beside_the_values(self, zoo: Server) -> None:
        answer = output(zoo, "two_interrupts")
        interrupts = answer.pop("__interrupt__")
        assert answer == {"value": "begun", "answers": []}
        assert [each["value"] for each in interrupts] == [{"ask": "left"}, {"ask": "right"}]
        ids = [each["id"] for each in interrupts]
        assert len(set(ids)) == 2
        assert all(isinstance(each, str) for each in ids)

    def test_of_one_node_is_listed_beside_the_values(self, zoo: Server) -> None:
        answer = output(zoo, "two_interrupts", command={"goto": "left"})
        (interrupt,) = answer.pop("__interrupt__")
        assert interrupt["value"] == {"ask": "left"}
        assert isinstance(interrupt["id"], str)
        assert answer == {"value": "begun", "answers": []}

    def test_end_the_run_as_interrupted(self, zoo: Server) -> None:
        assert run_of(zoo, post(zoo, "two_interrupts"))["status"] == "interrupted"


class TestBreakpoints:
    @pytest.mark.parametrize(
        ("where", "names"),
        [
            ({"interrupt_before": ["b"]}, ["a"]),
            ({"interrupt_after": ["b"]}, ["a", "b"]),
            ({"interrupt_before": ["c", "b"]}, ["a"]),
            ({"interrupt_before": ["c"], "interrupt_after": ["a"]}, ["a"]),
            ({"interrupt_after": "*"}, ["a"]),
        ],
        ids=str,
    )
    def test_answer_with_the_values_and_no_interrupt(
        self, zoo: Server, where: dict[str, Any], names: list[str]
    ) -> None:
        response = post(zoo, "breakpoints", **where)
        assert response.json() == {"names": names}
        assert run_of(zoo, response)["status"] == "interrupted"

    def test_before_all_nodes_stop_before_the_first(self, zoo: Server) -> None:
        response = post(zoo, "breakpoints", input={"value": 1}, interrupt_before="*")
        assert response.json() == {"value": 1, "names": []} or response.json() == {"value": 1}
        assert run_of(zoo, response)["status"] == "interrupted"

    def test_that_are_not_reached_change_nothing(self, zoo: Server) -> None:
        response = post(zoo, "gotos", interrupt_before=["c"], interrupt_after=["c"])
        assert response.json()["names"] == ["a", "b"]
        assert run_of(zoo, response)["status"] == "success"


class TestErrors:
    @pytest.mark.parametrize("graph", ["fails", "fails_async"])
    def test_of_a_node_are_a_document_with_status_200(self, zoo: Server, graph: str) -> None:
        response = post(zoo, graph)
        assert response.status_code == 200
        assert response.json() == {"__error__": {"error": "ValueError", "message": "no luck"}}
        assert run_of(zoo, response)["status"] == "error"
        assert fresh_get(zoo, response.headers["Location"]).json() == response.json()

    @pytest.mark.parametrize(
        ("graph", "error"),
        [
            ("exits", "SystemExit"),
            ("exits_async", "SystemExit"),
            ("cancels_itself", "NodeCancelledError"),
        ],
    )
    def test_that_would_end_a_process_end_the_run_alone(
        self, zoo: Server, graph: str, error: str
    ) -> None:
        workers = sorted(zoo.workers())
        response = post(zoo, graph)
        assert response.json()["__error__"]["error"] == error
        assert run_of(zoo, response)["status"] == "error"
        assert sorted(zoo.workers()) == workers
        for worker in workers:
            with only(zoo, worker):
                assert fresh_get(zoo, "/ok").json() == {"ok": True}

    def test_of_an_input_that_the_graph_does_not_take_are_its_own(self, zoo: Server) -> None:
        response = post(zoo, "echo", input="text")
        assert response.json()["__error__"]["error"] == "InvalidUpdateError"

    def test_of_no_input_are_the_graphs_own(self, zoo: Server) -> None:
        for fields in ({}, {"input": None}):
            response = zoo.http.post("/runs/wait", json={"assistant_id": "echo", **fields})
            assert response.json()["__error__"]["error"] == "EmptyInputError"

    def test_leave_their_traceback_to_the_log(self, zoo: Server) -> None:
        response = post(zoo, "fails")
        assert "Traceback" not in response.text
        run_id = response.headers["Content-Location"].rpartition("/")[2]
        lines = [line for line in zoo.log.read_text().splitlines() if run_id in line]
        assert any("Traceback" in line and "no luck" in line for line in lines)

    def test_of_no_kind_are_warnings_which_are_lines_of_the_log(self, zoo: Server) -> None:
        call = {"name": "look", "args": {"item": "lamp"}, "id": "call_1"}
        asked = {"role": "assistant", "content": "", "tool_calls": [call]}
        answer = post(zoo, "warns", input={"messages": [asked]}).json()
        assert answer["messages"][-1]["content"] == "lamp call_1"
        [line] = [each for each in zoo.log.read_text().split("\n") if "lamp is old" in each][:1]
        logged = json.loads(line)
        assert (logged["level"], logged["logger"]) == ("WARNING", "py.warnings")
        assert "UserWarning: lamp is old\nand worn\n" in logged["message"]
        assert not zoo.logged("Pydantic serializer warnings")


EXPECTED: dict[str, Any] = {
    "datetime": "2024-02-29T12:00:00.123456+00:00",
    "date": "2024-02-29",
    "time": "12:00:00.123456",
    "timedelta": 3600.5,
    "decimal": "12.345",
    "decimal_nan": None,
    "uuid": "12345678-1234-5678-1234-567812345678",
    "set": [1],
    "frozenset": ["one"],
    "tuple": [1, 2],
    "bytes": "AP8=",
    "enum": "red",
    "nan": None,
    "infinities": [None, None],
    "beyond_64_bits": 2**64,
    "pydantic": {
        "name": "outer",
        "inner": {"at": "2024-02-29T12:00:00.123456+00:00", "amount": "0.10"},
    },
    "dataclass": {"x": 1, "label": "red"},
    "namedtuple": {"left": 1, "right": "two"},
    "exception": {"error": "ValueError", "message": "no luck"},
    "opaque": "<opaque>",
    "path": "PurePosixPath('a/b')",
    "odd_names": {"1": "one", "red": "red", "(2, 3)": "pair", "null": "none"},
}


class TestValues:
    def test_are_written_as_json_can_hold_them(self, zoo: Server) -> None:
        answer = output(zoo, "odd_values", input={"only": list(EXPECTED)})
        assert {**answer, "only": None} == {**EXPECTED, "only": None}

    def test_that_fail_to_be_written_fail_no_run(self, zoo: Server) -> None:
        response = post(zoo, "odd_values", input={"only": ["unprintable", "surrogate", "uuid"]})
        answer = response.json()
        assert "Unprintable" in answer["unprintable"]
        assert isinstance(answer["surrogate"], str)
        assert answer["uuid"] == EXPECTED["uuid"]
        assert run_of(zoo, response)["status"] == "success"

    def test_that_are_integers_keep_all_their_digits(self, zoo: Server) -> None:
        response = post(zoo, "odd_values", input={"only": ["huge"]})
        # Python's own parser refuses so many digits by default.
        assert json.loads(response.text, parse_int=str)["huge"] == "1" + "0" * 5000

    def test_that_are_messages_keep_their_parts(self, zoo: Server) -> None:
        human, ai, tool = output(zoo, "odd_values", input={"only": ["messages"]})["messages"]
        assert (human["type"], human["content"], human["id"]) == ("human", "hello", "m1")
        assert (ai["type"], ai["id"]) == ("ai", "m2")
        assert ai["tool_calls"] == [
            {"name": "look", "args": {"at": 1}, "id": "c1", "type": "tool_call"}
        ]
        assert (tool["type"], tool["tool_call_id"]) == ("tool", "c1")

    def test_come_back_as_they_were_sent(self, zoo: Server) -> None:
        sent = {"": [], "ü€😀\0": {"deep": [[[{}]]]}, "n": [0, -0.5, 1e300, 10**4000, True, None]}
        response = post(zoo, "echo", input={"value": sent})
        assert response.json() == {"value": sent}
        assert fresh_get(zoo, response.headers["Location"]).content == response.content.strip()

    @pytest.mark.parametrize(
        ("graph", "given", "expected"),
        [
            ("entry", [1, "a", None], [1, "a", None]),
            ("aentry", "text", "text"),
            ("entry", 5.5, 5.5),
            ("entry", False, False),
            ("none_output", 1, {}),
            ("no_update", {}, {}),
        ],
    )
    def test_that_are_no_objects_are_documents_too(
        self, zoo: Server, graph: str, given: Any, expected: Any
    ) -> None:
        response = post(zoo, graph, input=given)
        assert response.json() == expected
        assert run_of(zoo, response)["status"] == "success"


def age(timestamp: str) -> timedelta:
    """How long ago that was; the text must be ISO 8601 in UTC."""
    then = datetime.fromisoformat(timestamp)
    assert then.utcoffset() == timedelta(0)
    return datetime.now(UTC) - then


class TestRecord:
    def test_has_the_runs_fields(self, zoo: Server) -> None:
        response = post(zoo, "echo", input={"value": 1}, metadata={"batch": 7})
        record = run_of(zoo, response)
        assert set(record) == {
            "run_id",
            "thread_id",
            "assistant_id",
            "metadata",
            "status",
            "kwargs",
            "multitask_strategy",
            "created_at",
            "updated_at",
        }
        assert record["assistant_id"] == str(uuid5(NAMESPACE, "echo"))
        assert record["metadata"]["batch"] == 7
        assert record["status"] == "success"
        assert record["kwargs"]["input"] == {"value": 1}
        assert record["multitask_strategy"] == "enqueue"
        assert timedelta(0) <= age(record["updated_at"]) <= age(record["created_at"])
        assert age(record["created_at"]) < timedelta(minutes=10)

    def test_tells_the_same_from_every_worker_while_the_run_works(
        self, zoo: Server, tmp_path: Path
    ) -> None:
        for owner in zoo.workers():
            with ExitStack() as stack:
                gate = stack.enter_context(Gate(tmp_path))
                with only(zoo, owner):
                    response = stack.enter_context(
                        begun(zoo, "sleep_sync", input=gate.input, metadata={"a": 1})
                    )
                records = []
                for worker in zoo.workers():
                    with only(zoo, worker):
                        records.append(run_of(zoo, response))
                assert records[0] == records[1]
                assert records[0]["status"] == "running"
                assert records[0]["metadata"]["a"] == 1
                gate.open()
                assert document(response)["done"] is True

    @pytest.mark.parametrize(
        ("graph", "status"),
        [
            ("echo", "success"),
            ("lambda_only_async", "success"),
            ("fails", "error"),
            ("fails_async", "error"),
            ("two_interrupts", "interrupted"),
        ],
    )
    def test_tells_from_every_worker_how_the_run_ended(
        self, zoo: Server, graph: str, status: str
    ) -> None:
        response = post(zoo, graph)
        records, documents = [], []
        for worker in zoo.workers():
            with only(zoo, worker):
                records.append(run_of(zoo, response))
                documents.append(fresh_get(zoo, response.headers["Location"]).json())
        assert records[0] == records[1]
        assert records[0]["status"] == status
        assert documents == [response.json()] * 2


class TestJoin:
    def test_waits_in_every_worker_like_the_request_that_made_the_run(
        self, zoo: Server, tmp_path: Path
    ) -> None:
        for owner in zoo.workers():
            with ExitStack() as stack:
                gate = stack.enter_context(Gate(tmp_path))
                with only(zoo, owner):
                    responses = [stack.enter_context(begun(zoo, "sleep_sync", input=gate.input))]
                for worker in zoo.workers():
                    with only(zoo, worker):
                        responses.append(stack.enter_context(joined(zoo, responses[0])))
                bodies = [response.iter_raw() for response in responses]
                # A newline from each: all of them wait at the same time.
                for body in bodies:
                    read_newlines(body, 1)
                gate.open()
                documents = [json.loads(b"".join(body)) for body in bodies]
                assert documents == [{**gate.input, "done": True}] * 3
                for name in ("Location", "Content-Location", "Content-Type", "Cache-Control"):
                    assert len({response.headers[name] for response in responses}) == 1

    @pytest.mark.parametrize("value", ["maybe", "", "True", "yes", "2"])
    def test_refuses_a_flag_that_is_no_boolean(self, zoo: Server, value: str) -> None:
        location = post(zoo, "echo").headers["Location"]
        answer = fresh_get(zoo, f"{location}?cancel_on_disconnect={value}")
        assert bad_fields(answer) == ["cancel_on_disconnect"]

    @pytest.mark.parametrize("value", ["true", "false", "1", "0"])
    def test_takes_a_flag_as_queries_write_booleans(self, zoo: Server, value: str) -> None:
        location = post(zoo, "echo", input={"value": 1}).headers["Location"]
        answer = fresh_get(zoo, f"{location}?cancel_on_disconnect={value}")
        assert answer.json() == {"value": 1}

    def test_leaves_the_run_alone_when_its_own_client_goes_away(
        self, zoo: Server, tmp_path: Path
    ) -> None:
        with Gate(tmp_path) as gate, begun(zoo, "sleep_sync", input=gate.input) as response:
            for flag in ({}, {"cancel_on_disconnect": "false"}):
                with joined(zoo, response, **flag):
                    pass
            gate.open()
            assert document(response)["done"] is True
        assert run_of(zoo, response)["status"] == "success"


class TestUnknownRuns:
    @pytest.mark.parametrize("end", ["", "/join"])
    def test_are_not_found(self, zoo: Server, end: str) -> None:
        for worker in zoo.workers():
            with only(zoo, worker):
                answer = fresh_get(zoo, f"/threads/{uuid4()}/runs/{uuid4()}{end}")
            detail(answer, 404)

    @pytest.mark.parametrize("end", ["", "/join"])
    def test_are_those_of_another_thread(self, zoo: Server, end: str) -> None:
        run_id = post(zoo, "echo").headers["Content-Location"].rpartition("/")[2]
        for worker in zoo.workers():
            with only(zoo, worker):
                detail(fresh_get(zoo, f"/threads/{uuid4()}/runs/{run_id}{end}"), 404)

    @pytest.mark.parametrize("end", ["", "/join"])
    def test_are_refused_where_the_ids_are_malformed(self, zoo: Server, end: str) -> None:
        good = str(uuid4())
        for bad in ("nonsense", good[:-1], f"{good}0", good.replace("-", ""), f"{{{good}}}"):
            for thread_id, run_id, named in (
                (bad, good, ["thread_id"]),
                (good, bad, ["run_id"]),
                (bad, bad, ["thread_id", "run_id"]),
            ):
                answer = fresh_get(zoo, f"/threads/{thread_id}/runs/{run_id}{end}")
                assert bad_fields(answer) == named

    def test_ids_may_be_in_capitals(self, zoo: Server) -> None:
        _, _, thread_id, _, run_id = post(zoo, "echo").headers["Content-Location"].split("/")
        path = f"/threads/{thread_id.upper()}/runs/{run_id.upper()}"
        assert fresh_get(zoo, path).json()["run_id"] == run_id
        assert fresh_get(zoo, f"{path}/join").status_code == 200


class TestResultsAreKept:
    def test_for_as_long_as_the_setting_says(
        self, serve: ServerFactory, valkey: RedisServer
    ) -> None:
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RESULT_TTL_SECONDS=0.3)
        response = post(server, "echo", input={"value": 1})
        assert response.json() == {"value": 1}
        for end in ("", "/join"):
            path = response.headers["Content-Location"] + end
            gone = eventually(
                lambda path=path: (
                    answer if (answer := fresh_get(server, path)).status_code != 200 else None
                )
            )
            detail(gone, 404)
        # Nothing of a run outlives it: what is left is what the processes keep for themselves.
        assert not [
            key for key in valkey.client.scan_iter() if b":run:" in key or b":result:" in key
        ]

    def test_for_those_alone_who_wait_where_it_says_0(
        self, serve: ServerFactory, valkey: RedisServer, tmp_path: Path
    ) -> None:
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RESULT_TTL_SECONDS=0)
        with ExitStack() as stack:
            gate = stack.enter_context(Gate(tmp_path))
            responses = [stack.enter_context(begun(server, "sleep_sync", input=gate.input))]
            for worker in server.workers():
                with only(server, worker):
                    responses.append(stack.enter_context(joined(server, responses[0])))
            gate.open()
            assert [document(response)["done"] for response in responses] == [True] * 3
        path = responses[0].headers["Content-Location"]
        eventually(lambda: fresh_get(server, path).status_code == 404)
        detail(fresh_get(server, f"{path}/join"), 404)
