"""A2A: its official client by both versions, and requests of every wrong shape."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.e2e.calls import Gate, only, read_newlines
from tests.e2e.programs import client
from tests.projects.guarded.my_auth import signed
from tests.servers import PATIENCE, PROJECTS, Server, ServerFactory, eventually

ZOO = PROJECTS / "zoo" / "langgraph.json"
NOTHING = "3c90c3cc-0d44-4b50-8888-8dd25736052a"


def told(server: Server, agent: str, version: str, *calls: tuple[str, Any]) -> list[Any]:
    """What the official client prints: an agent's card, and what came of each call."""
    command = [*client("a2a"), f"{server.url}/a2a/{agent}", version, json.dumps(calls)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def said(*parts: Any, **fields: Any) -> dict[str, Any]:
    """A message of the newer version; a string is a text, all else data."""
    shown = [{"text": each} if isinstance(each, str) else {"data": each} for each in parts]
    return {"role": "ROLE_USER", "messageId": str(uuid4()), "parts": shown, **fields}


def ask(
    server: Server, agent: str, method: str, headers: dict[str, str] | None = None, **params: Any
) -> httpx.Response:
    """The answer to a request, on a connection of its own: of either worker."""
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    url = f"{server.url}/a2a/{agent}"
    return httpx.post(url, json=body, headers=headers, timeout=PATIENCE)


def result(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert "error" not in answer, answer
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
    found: dict[str, Any] = answer["result"]
    return found


def refused(response: httpx.Response) -> int:
    """The code of an error, which has the status 200."""
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer.keys() == {"jsonrpc", "id", "error"}
    assert answer["error"]["message"]
    code: int = answer["error"]["code"]
    if code > -32600:
        (info,) = answer["error"]["data"]
        assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo" and info["reason"]
    return code


def send(server: Server, agent: str, *parts: Any, at_once: bool = False, **fields: Any) -> Any:
    """The task that a message begins or goes on with."""
    configuration = {"returnImmediately": True} if at_once else {}
    message = said(*parts, **fields)
    asked = ask(server, agent, "SendMessage", message=message, configuration=configuration)
    return result(asked)["task"]


def get(server: Server, agent: str, task_id: str, **params: Any) -> Any:
    return result(ask(server, agent, "GetTask", id=task_id, **params))


def state(task: dict[str, Any]) -> str:
    return str(task["status"]["state"]).removeprefix("TASK_STATE_")


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The results of a stream, and an error that ends it."""
    for line in lines:
        if line.startswith("data: "):
            answer = json.loads(line[6:])
            assert answer["id"] == 7
            yield answer["result"] if "result" in answer else answer["error"]


def kinds(told: list[dict[str, Any]]) -> list[str]:
    """What the events of a stream are, states by their names."""
    return [
        state(each["statusUpdate"]) if "statusUpdate" in each else next(iter(each)) for each in told
    ]


@contextmanager
def following(server: Server, agent: str, task_id: str) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of a task, as they come."""
    body = {"jsonrpc": "2.0", "id": 7, "method": "SubscribeToTask", "params": {"id": task_id}}
    url = f"{server.url}/a2a/{agent}"
    with httpx.stream("POST", url, json=body, timeout=PATIENCE) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        yield events(response.iter_lines())


def text_of(told: list[dict[str, Any]]) -> str:
    """The artifact that a stream's events come to."""
    text = ""
    for each in told:
        if update := each.get("artifactUpdate"):
            (part,) = update["artifact"]["parts"]
            text = (text if update.get("append") else "") + part["text"]
    return text


@pytest.mark.parametrize("version", ["1.0", "0.3"])
def test_the_official_client_sends_streams_answers_and_asks(zoo: Server, version: str) -> None:
    card, streamed, asked, found, answered, again, cancelled, followed, unknown, data, failed = (
        told(
            zoo,
            "chat",
            version,
            ("stream", {"message": {"parts": [{"text": "one two three"}]}}),
            ("send", {"message": {"parts": [{"text": "May I go?"}]}}),
            ("get", {"id": "TASK"}),
            ("send", {"message": {"taskId": "TASK", "parts": [{"text": "yes"}]}}),
            ("get", {"id": "TASK", "historyLength": 1}),
            ("cancel", {"id": "TASK"}),
            ("subscribe", {"id": "TASK"}),
            ("get", {"id": NOTHING}),
            ("send", {"message": {"parts": [{"data": {"messages": ["hi"]}}]}}),
            ("send", {"message": {"parts": [{"data": {"messages": 5}}]}}),
        )
    )
    assert card["name"] == "chat" and card["capabilities"]["streaming"]
    assert kinds(streamed)[:2] == ["task", "WORKING"] and kinds(streamed)[-1] == "COMPLETED"
    assert kinds(streamed).count("artifactUpdate") == 4
    assert text_of(streamed) == "one two three"
    assert streamed[-2]["artifactUpdate"]["lastChunk"]
    (task,) = [each["task"] for each in asked]
    assert state(task) == "INPUT_REQUIRED"
    assert task["status"]["message"]["parts"][0]["data"] == {"question": "May I go?"}
    assert found == [task]
    (done,) = [each["task"] for each in answered]
    assert (done["id"], done["contextId"]) == (task["id"], task["contextId"])
    assert state(done) == "COMPLETED"
    assert done["artifacts"][0]["parts"] == [{"text": "yes"}]
    assert [each["parts"] for each in done["history"]] == [
        [{"text": "May I go?"}],
        [{"text": "yes"}],
    ]
    assert again == [{**done, "history": done["history"][-1:]}]
    errors = [each[0]["error"] for each in (cancelled, followed, unknown, failed)]
    assert errors == [
        "TaskNotCancelableError",
        "UnsupportedOperationError",
        "TaskNotFoundError",
        "InvalidParamsError",
    ]
    assert data[0]["task"]["artifacts"][0]["parts"] == [{"text": "hi"}]


def test_the_official_client_lists_tasks(zoo: Server) -> None:
    context_id = send(zoo, "chat", "one")["contextId"]
    second = send(zoo, "chat", "May I?", contextId=context_id)
    _, listed = told(zoo, "chat", "1.0", ("list", {"contextId": context_id}))
    assert [state(each) for each in listed[0]["tasks"]] == ["INPUT_REQUIRED", "COMPLETED"]
    assert listed[0]["tasks"][0]["id"] == second["id"]


class TestCards:
    def test_a_card_says_where_and_how_the_agent_is_asked(self, zoo: Server) -> None:
        card = zoo.http.get("/.well-known/agent-card.json?assistant_id=echo")
        shown = card.json()
        assert shown["description"] == "Returns its value unchanged"
        assert shown["supportedInterfaces"][0] == {
            "url": shown["url"],
            "protocolBinding": "JSONRPC",
            "protocolVersion": "1.0",
        }
        assert shown["protocolVersion"] == "0.3.0"
        assert shown["url"].startswith(f"{zoo.url}/a2a/")
        assert shown["defaultInputModes"] == ["application/json"]
        assert result(httpx.post(shown["url"], json=json.loads(REQUEST)))["task"]
        same = zoo.http.get("/a2a/echo/.well-known/agent-card.json")
        assert same.json() == shown
        assert "max-age" in card.headers["Cache-Control"]

    def test_a_card_is_sent_again_only_if_it_changed(self, zoo: Server) -> None:
        path = "/a2a/chat/.well-known/agent-card.json"
        tag = zoo.http.get(path).headers["ETag"]
        assert zoo.http.get(path, headers={"If-None-Match": tag}).status_code == 304
        assert zoo.http.get(path, headers={"If-None-Match": '"else"'}).status_code == 200

    def test_the_url_is_of_the_host_that_was_asked(self, zoo: Server) -> None:
        path = "/a2a/chat/.well-known/agent-card.json"
        shown = zoo.http.get(path, headers={"Host": "agents.example"}).json()
        assert shown["url"].startswith("http://agents.example/a2a/")

    @pytest.mark.parametrize("name", ["nothing", NOTHING])
    def test_an_unknown_agent_has_none(self, zoo: Server, name: str) -> None:
        for path in (f"/a2a/{name}/.well-known/agent-card.json", "/.well-known/agent-card.json"):
            response = zoo.http.get(path, params={"assistant_id": name})
            assert response.status_code in (404, 422)
            assert response.json()["detail"]

    def test_somebody_has_to_be_meant_where_there_are_several(self, zoo: Server) -> None:
        response = zoo.http.get("/.well-known/agent-card.json")
        assert response.status_code == 422
        assert response.json()["detail"].startswith("assistant_id: ")


MESSAGE = {"role": "ROLE_USER", "messageId": "m", "parts": [{"data": {"value": 1}}]}
REQUEST = json.dumps(
    {"jsonrpc": "2.0", "id": 7, "method": "SendMessage", "params": {"message": MESSAGE}}
)
OLD = {"role": "user", "messageId": "m", "parts": [{"kind": "data", "data": {"value": 1}}]}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in MESSAGE.items() if key != name}


class TestShapes:
    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"", -32700),
            (b"{", -32700),
            (b"[]", -32600),
            (b"5", -32600),
            (b'{"jsonrpc":"1.0","id":1,"method":"GetTask"}', -32600),
            (b'{"jsonrpc":"2.0","id":1}', -32600),
            (b'{"jsonrpc":"2.0","id":{},"method":"GetTask"}', -32600),
            (b'{"jsonrpc":"2.0","id":1,"method":"nothing"}', -32601),
            (b'{"jsonrpc":"2.0","method":"nothing"}', -32601),
            (b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":[]}', -32602),
        ],
    )
    def test_what_is_no_request_is_refused(self, zoo: Server, body: bytes, code: int) -> None:
        response = zoo.http.post("/a2a/echo", content=body)
        assert refused(response) == code
        assert response.json()["id"] == (1 if b'"id":1' in body else None)

    @pytest.mark.parametrize(
        ("method", "params"),
        [
            ("SendMessage", {}),
            ("SendMessage", {"message": 5}),
            *(("SendMessage", {"message": without(name)}) for name in MESSAGE),
            ("SendMessage", {"message": {**MESSAGE, "role": "user"}}),
            ("SendMessage", {"message": {**MESSAGE, "role": "ROLE_AGENT"}}),
            ("SendMessage", {"message": {**MESSAGE, "messageId": 5}}),
            ("SendMessage", {"message": {**MESSAGE, "parts": []}}),
            ("SendMessage", {"message": {**MESSAGE, "parts": [5]}}),
            ("SendMessage", {"message": {**MESSAGE, "parts": [{}]}}),
            ("SendMessage", {"message": {**MESSAGE, "parts": [{"text": 5}]}}),
            ("SendMessage", {"message": {**MESSAGE, "parts": [{"text": "x", "data": {}}]}}),
            ("SendMessage", {"message": {**MESSAGE, "parts": [{"data": 5}]}}),
            ("SendMessage", {"message": {**MESSAGE, "parts": [{"data": 5}, {"data": {}}]}}),
            ("SendMessage", {"message": {**MESSAGE, "parts": [{"text": "no messages here"}]}}),
            ("SendMessage", {"message": {**MESSAGE, "contextId": "mine"}}),
            ("SendMessage", {"message": {**MESSAGE, "contextId": 5}}),
            ("SendMessage", {"message": {**MESSAGE, "taskId": 5}}),
            ("SendMessage", {"message": MESSAGE, "configuration": 5}),
            ("SendMessage", {"message": MESSAGE, "configuration": {"historyLength": -1}}),
            ("SendMessage", {"message": MESSAGE, "configuration": {"returnImmediately": 1}}),
            ("message/send", {"message": MESSAGE}),
            ("message/send", {"message": {**OLD, "parts": [{"data": {}}]}}),
            ("message/send", {"message": {**OLD, "parts": [{"kind": "text", "data": {}}]}}),
            ("message/send", {"message": OLD, "configuration": {"blocking": "no"}}),
            ("message/stream", {"message": {}}),
            ("GetTask", {}),
            ("GetTask", {"id": 5}),
            ("GetTask", {"id": NOTHING, "historyLength": "1"}),
            ("tasks/cancel", {}),
            ("ListTasks", {"pageSize": 0}),
            ("ListTasks", {"pageSize": 101}),
            ("ListTasks", {"pageToken": "x"}),
            ("ListTasks", {"pageToken": 5}),
            ("ListTasks", {"contextId": 5}),
            ("ListTasks", {"status": "done"}),
            ("ListTasks", {"includeArtifacts": 1}),
            ("ListTasks", {"statusTimestampAfter": "yesterday"}),
        ],
    )
    def test_params_that_do_not_fit_run_nothing(
        self, zoo: Server, method: str, params: Any
    ) -> None:
        assert refused(ask(zoo, "echo", method, **params)) == -32602

    @pytest.mark.parametrize(
        ("method", "params", "code"),
        [
            ("GetTask", {"id": "x"}, -32001),
            ("tasks/cancel", {"id": NOTHING}, -32001),
            ("SubscribeToTask", {"id": NOTHING}, -32001),
            ("SendMessage", {"message": {**MESSAGE, "taskId": NOTHING}}, -32001),
            ("SendMessage", {"message": {**MESSAGE, "parts": [{"raw": "eA=="}]}}, -32005),
            ("SendMessage", {"message": {**MESSAGE, "parts": [{"url": "http://x"}]}}, -32005),
            (
                "message/send",
                {"message": {**OLD, "parts": [{"kind": "file", "file": {"bytes": "eA=="}}]}},
                -32005,
            ),
            (
                "SendMessage",
                {"message": MESSAGE, "configuration": {"taskPushNotificationConfig": {}}},
                -32003,
            ),
            (
                "message/send",
                {"message": OLD, "configuration": {"pushNotificationConfig": {}}},
                -32003,
            ),
            ("CreateTaskPushNotificationConfig", {}, -32003),
            ("ListTaskPushNotificationConfigs", {}, -32003),
            ("tasks/pushNotificationConfig/set", {}, -32003),
            ("GetExtendedAgentCard", {}, -32004),
            ("agent/getAuthenticatedExtendedCard", {}, -32007),
        ],
    )
    def test_what_is_not_there_or_not_done_is_refused(
        self, zoo: Server, method: str, params: Any, code: int
    ) -> None:
        assert refused(ask(zoo, "echo", method, **params)) == code

    @pytest.mark.parametrize("agent", ["nothing", NOTHING])
    def test_an_unknown_agent_is_refused(self, zoo: Server, agent: str) -> None:
        assert refused(ask(zoo, agent, "SendMessage", message=MESSAGE)) == -32602

    def test_versions_that_are_not_spoken_are_refused(self, zoo: Server) -> None:
        for version in ("2.0", "0.2.5", "x"):
            asked = ask(zoo, "echo", "GetTask", {"A2A-Version": version}, id=NOTHING)
            assert refused(asked) == -32009
        for version in ("1.0", "0.3", "0.3.0", ""):
            asked = ask(zoo, "echo", "GetTask", {"A2A-Version": version}, id=NOTHING)
            assert refused(asked) == -32001

    def test_names_of_the_schema_stand_for_those_of_json(self, zoo: Server) -> None:
        message = {"role": "ROLE_USER", "message_id": "m", "parts": [{"data": {"value": 1}}]}
        asked = ask(zoo, "echo", "SendMessage", message=message)
        assert result(asked)["task"]["history"][0]["messageId"] == "m"

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    def test_there_is_nothing_but_post(self, zoo: Server, method: str) -> None:
        assert zoo.http.request(method, "/a2a/echo").status_code == 405


class TestMessages:
    def test_all_parts_count(self, zoo: Server) -> None:
        assert send(zoo, "chat", "one", "two")["artifacts"][0]["parts"] == [{"text": "one\ntwo"}]
        given = send(zoo, "echo", {"value": 1}, {"value": {"deep": [2]}})
        assert given["artifacts"][0]["parts"] == [{"data": {"value": {"deep": [2]}}}]
        both = send(zoo, "chat", {"messages": [{"role": "user", "content": "earlier"}]}, "later")
        assert both["artifacts"][0]["parts"] == [{"text": "later"}]

    def test_a_text_is_a_message_with_its_id(self, zoo: Server) -> None:
        task = send(zoo, "chat", "hello", messageId="mine")
        values = zoo.http.get(f"/threads/{task['contextId']}/state").json()["values"]
        assert values["messages"][0]["id"] == "mine"

    def test_a_context_is_a_thread_and_remembers(self, zoo: Server) -> None:
        context_id = str(uuid4())
        for text in ("one", "two"):
            task = send(zoo, "chat", text, contextId=context_id)
            assert task["contextId"] == context_id
        values = zoo.http.get(f"/threads/{context_id}/state").json()["values"]
        assert [each["content"] for each in values["messages"]] == ["one", "one", "two", "two"]

    def test_an_input_may_be_anything_that_the_graph_takes(self, zoo: Server) -> None:
        assert state(send(zoo, "entry", [3])) == "COMPLETED"

    def test_a_failure_says_why(self, zoo: Server) -> None:
        task = send(zoo, "fails", {})
        assert state(task) == "FAILED"
        assert task["status"]["message"]["parts"] == [{"text": "ValueError: no luck"}]
        assert get(zoo, "fails", task["id"]) == task

    def test_the_older_version_has_its_forms(self, zoo: Server) -> None:
        task = result(
            ask(
                zoo,
                "entry",
                "message/send",
                message={**OLD, "parts": [{"kind": "data", "data": [1]}]},
            )
        )
        assert (task["kind"], task["status"]["state"]) == ("task", "completed")
        assert task["history"][0]["kind"] == "message"
        (part,) = task["artifacts"][0]["parts"]
        assert part["kind"] == "data" and isinstance(part["data"], dict)


class TestQuestions:
    def test_several_are_answered_by_their_ids(self, zoo: Server) -> None:
        task = send(zoo, "two_interrupts", {})
        asked = task["status"]["message"]["parts"]
        ids = {each["data"]["ask"]: each["metadata"]["interruptId"] for each in asked}
        message = said("blue", taskId=task["id"])
        assert refused(ask(zoo, "two_interrupts", "SendMessage", message=message)) == -32602
        answers = {ids["left"]: "red", ids["right"]: "blue"}
        done = send(zoo, "two_interrupts", answers, taskId=task["id"])
        assert state(done) == "COMPLETED" and done["id"] == task["id"]
        output = done["artifacts"][0]["parts"][0]["data"]
        assert sorted(output["answers"]) == ["left: red", "right: blue"]

    def test_a_task_keeps_its_id_over_many_answers(self, zoo: Server, tmp_path: Path) -> None:
        task = send(zoo, "asks_twice", {"file": str(tmp_path / "notes")})
        again = send(zoo, "asks_twice", "one", taskId=task["id"])
        assert (state(again), again["id"]) == ("INPUT_REQUIRED", task["id"])
        done = send(zoo, "asks_twice", "two", taskId=task["id"], contextId=task["contextId"])
        assert (state(done), done["id"]) == ("COMPLETED", task["id"])
        assert len(get(zoo, "asks_twice", task["id"])["history"]) == 3
        for message in (
            said("three", taskId=task["id"]),
            said("three", taskId=task["id"], contextId=task["contextId"]),
        ):
            assert refused(ask(zoo, "asks_twice", "SendMessage", message=message)) == -32004

    def test_a_task_is_in_one_context_and_of_one_agent(self, zoo: Server) -> None:
        task = send(zoo, "chat", "May I?")
        message = said("yes", taskId=task["id"], contextId=str(uuid4()))
        assert refused(ask(zoo, "chat", "SendMessage", message=message)) == -32602
        message = said("yes", taskId=task["id"])
        assert refused(ask(zoo, "chat_async", "SendMessage", message=message)) == -32001
        assert refused(ask(zoo, "chat_async", "GetTask", id=task["id"])) == -32001

    def test_one_that_nobody_answered_is_canceled_by_what_comes_next(self, zoo: Server) -> None:
        task = send(zoo, "chat", "May I?")
        send(zoo, "chat", "hello", contextId=task["contextId"])
        assert state(get(zoo, "chat", task["id"])) == "CANCELED"
        message = said("yes", taskId=task["id"])
        assert refused(ask(zoo, "chat", "SendMessage", message=message)) == -32004

    def test_one_that_waits_can_be_canceled(self, zoo: Server) -> None:
        task = send(zoo, "chat", "May I?")
        assert state(result(ask(zoo, "chat", "CancelTask", id=task["id"]))) == "CANCELED"
        assert state(get(zoo, "chat", task["id"])) == "CANCELED"
        assert refused(ask(zoo, "chat", "CancelTask", id=task["id"])) == -32002
        message = said("yes", taskId=task["id"])
        assert refused(ask(zoo, "chat", "SendMessage", message=message)) == -32004

    def test_who_follows_one_that_waits_is_told_what_comes_of_it(self, zoo: Server) -> None:
        task = send(zoo, "chat", "May I?")
        with following(zoo, "chat", task["id"]) as told:
            assert next(told) == {"task": task}
            send(zoo, "chat", "yes of course", taskId=task["id"])
            rest = list(told)
        assert kinds(rest)[0] == "WORKING" and kinds(rest)[-1] == "COMPLETED"
        assert text_of(rest) == "yes of course"

    def test_who_follows_one_that_waits_again_is_told_that_it_does(
        self, zoo: Server, tmp_path: Path
    ) -> None:
        task = send(zoo, "asks_twice", {"file": str(tmp_path / "notes")})
        with following(zoo, "asks_twice", task["id"]) as told:
            next(told)
            again = send(zoo, "asks_twice", "one", taskId=task["id"])
            assert kinds(list(told)) == ["WORKING", "INPUT_REQUIRED"]
        assert state(again) == "INPUT_REQUIRED"

    def test_who_follows_one_that_is_never_answered_is_told_so(self, zoo: Server) -> None:
        task = send(zoo, "chat", "May I?")
        with following(zoo, "chat", task["id"]) as told:
            next(told)
            assert state(result(ask(zoo, "chat", "CancelTask", id=task["id"]))) == "CANCELED"
            assert kinds(list(told)) == ["CANCELED"]
        task = send(zoo, "chat", "May I?")
        with following(zoo, "chat", task["id"]) as told:
            next(told)
            # Its context goes on with something else, of which nothing is told here.
            send(zoo, "chat", "hello", contextId=task["contextId"])
            assert kinds(list(told)) == ["CANCELED"]

    @pytest.mark.parametrize("removed", ["thread", "lapsed", "run"])
    def test_who_follows_one_that_waits_is_told_in_every_process_when_it_is_removed(
        self, zoo: Server, removed: str
    ) -> None:
        task = send(zoo, "chat", "May I?")
        thread = f"{zoo.url}/threads/{task['contextId']}"
        with ExitStack() as stack:
            streams = []
            for worker in zoo.workers():
                with only(zoo, worker):
                    streams.append(stack.enter_context(following(zoo, "chat", task["id"])))
                    assert next(streams[-1]) == {"task": task}
            if removed == "lapsed":
                httpx.patch(thread, json={"ttl": 0.0001}, timeout=PATIENCE).raise_for_status()
                eventually(lambda: httpx.get(thread, timeout=PATIENCE).status_code == 404)
            else:
                path = thread if removed == "thread" else f"{thread}/runs/{task['id']}"
                httpx.delete(path, timeout=PATIENCE).raise_for_status()
            told = [list(each) for each in streams]
        assert [[each["code"] for each in those] for those in told] == [[-32001]] * 2
        assert refused(ask(zoo, "chat", "GetTask", id=task["id"])) == -32001


class TestBreakpoints:
    @pytest.mark.parametrize(
        ("part", "names"), [("go on", ["a", "b", "c"]), ({"names": ["x"]}, ["a", "x", "b", "c"])]
    )
    def test_are_passed_by_any_message_and_take_data(
        self, zoo: Server, part: Any, names: list[str]
    ) -> None:
        task = send(zoo, "stops_before_b", {"names": []})
        assert state(task) == "INPUT_REQUIRED"
        assert "breakpoint" in task["status"]["message"]["parts"][0]["text"]
        listed = result(ask(zoo, "stops_before_b", "ListTasks", contextId=task["contextId"]))
        assert [state(each) for each in listed["tasks"]] == ["INPUT_REQUIRED"]
        message = said([5], taskId=task["id"])
        assert refused(ask(zoo, "stops_before_b", "SendMessage", message=message)) == -32602
        done = send(zoo, "stops_before_b", part, taskId=task["id"])
        assert (state(done), done["id"]) == ("COMPLETED", task["id"])
        assert done["artifacts"][0]["parts"][0]["data"]["names"] == names
        shown = {"text": part} if isinstance(part, str) else {"data": part}
        assert done["history"][-1]["parts"] == [shown]

    def test_can_be_where_a_task_ends(self, zoo: Server) -> None:
        task = send(zoo, "stops_before_b", {"names": []})
        assert state(result(ask(zoo, "stops_before_b", "CancelTask", id=task["id"]))) == "CANCELED"
        message = said("go on", taskId=task["id"])
        assert refused(ask(zoo, "stops_before_b", "SendMessage", message=message)) == -32004


class TestAtWork:
    def test_a_message_need_not_be_waited_for(self, zoo: Server, tmp_path: Path) -> None:
        with Gate(tmp_path) as gate:
            task = send(zoo, "sleep_async", gate.input, at_once=True)
            assert state(task) in ("SUBMITTED", "WORKING")
            assert "artifacts" not in task
            message = said({}, taskId=task["id"])
            assert refused(ask(zoo, "sleep_async", "SendMessage", message=message)) == -32004
            gate.open()
        eventually(lambda: state(get(zoo, "sleep_async", task["id"])) == "COMPLETED")

    def test_a_wait_shows_signs_of_life(self, zoo: Server, tmp_path: Path) -> None:
        with Gate(tmp_path) as gate:
            body = json.loads(REQUEST)
            body["params"]["message"]["parts"] = [{"data": gate.input}]
            url = f"{zoo.url}/a2a/sleep_async"
            with httpx.stream("POST", url, json=body, timeout=PATIENCE) as response:
                chunks = response.iter_raw()
                read_newlines(chunks, 3)
                gate.open()
                assert state(json.loads(b"".join(chunks))["result"]["task"]) == "COMPLETED"

    def test_a_task_is_stopped_by_either_worker(self, zoo: Server, tmp_path: Path) -> None:
        with Gate(tmp_path) as gate:
            for method in ("CancelTask", "tasks/cancel"):
                task = send(zoo, "sleep_async", gate.input, at_once=True)
                stopped = result(ask(zoo, "sleep_async", method, id=task["id"]))
                assert state(stopped).upper() == "CANCELED"
                assert state(get(zoo, "sleep_async", task["id"])) == "CANCELED"

    def test_who_follows_a_task_is_told_all_of_it(self, zoo: Server, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        task = send(zoo, "chat", "one two three", {"gate": str(gate)}, at_once=True)
        with following(zoo, "chat", task["id"]) as answers:
            told = []
            for each in answers:
                told.append(each)
                if text_of(told) == "one ":
                    gate.touch()
        assert kinds(told)[0] == "task" and kinds(told)[-1] == "COMPLETED"
        assert text_of(told) == "one two three"

    def test_who_follows_a_task_is_told_when_it_is_removed(
        self, zoo: Server, tmp_path: Path
    ) -> None:
        with Gate(tmp_path) as gate, ExitStack() as stack:
            task = send(zoo, "sleep_async", gate.input, at_once=True)
            streams = []
            for worker in zoo.workers():
                with only(zoo, worker):
                    follow = following(zoo, "sleep_async", task["id"])
                    streams.append(stack.enter_context(follow))
                    next(streams[-1])
            thread = f"{zoo.url}/threads/{task['contextId']}"
            httpx.delete(thread, timeout=PATIENCE).raise_for_status()
            assert [list(each)[-1].get("code") for each in streams] == [-32001] * 2


def test_lists_are_paged_and_filtered(zoo: Server) -> None:
    context_id = str(uuid4())
    made = [send(zoo, "chat", text, contextId=context_id)["id"] for text in ("a", "b", "May I?")]
    listed: list[str] = []
    token = ""
    while True:
        page = result(
            ask(zoo, "chat", "ListTasks", contextId=context_id, pageSize=2, pageToken=token)
        )
        assert page["totalSize"] == 3 and page["pageSize"] == 2
        assert all("artifacts" not in each for each in page["tasks"])
        listed += [each["id"] for each in page["tasks"]]
        if not (token := page["nextPageToken"]):
            break
    assert listed == made[::-1]
    for wanted, ids in (("INPUT_REQUIRED", made[2:]), ("COMPLETED", made[1::-1]), ("FAILED", [])):
        status = f"TASK_STATE_{wanted}"
        # What the protocol does not know is ignored.
        asked = ask(zoo, "chat", "ListTasks", contextId=context_id, status=status, nobody="x")
        page = result(asked)
        assert [each["id"] for each in page["tasks"]] == ids
    page = result(
        ask(zoo, "chat", "ListTasks", contextId=context_id, includeArtifacts=True, historyLength=0)
    )
    assert page["tasks"][-1]["artifacts"][0]["parts"] == [{"text": "a"}]
    assert "history" not in page["tasks"][-1]
    last = page["tasks"][0]["status"]["timestamp"]
    later = result(
        ask(
            zoo,
            "chat",
            "ListTasks",
            contextId=context_id,
            statusTimestampAfter="2100-01-01T00:00:00Z",
        )
    )
    assert last and later["tasks"] == []
    # Without a context, all of the agent's, also those on threads that were there before.
    thread_id = zoo.http.post("/threads", json={}).json()["thread_id"]
    task = send(zoo, "none_output", {}, contextId=thread_id)
    found = result(ask(zoo, "none_output", "ListTasks"))["tasks"]
    assert task["id"] in [each["id"] for each in found]
    assert not {*made} & {each["id"] for each in found}
    assert result(ask(zoo, "chat", "ListTasks", contextId="unknown"))["tasks"] == []


def test_a_task_goes_on_when_its_process_dies(shared: ServerFactory, tmp_path: Path) -> None:
    server = shared(
        LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=2, RUN_LEASE_SECONDS=1, HEARTBEAT_SECONDS=0.2
    )
    asked = send(server, "chat", "May I go?")
    killed, _ = server.workers()
    with only(server, killed):
        gate = tmp_path / "gate"
        task = send(server, "chat", "one two", {"gate": str(gate)}, at_once=True)
        eventually(lambda: state(get(server, "chat", task["id"])) == "WORKING")
        os.kill(killed, signal.SIGKILL)
    gate.touch()
    eventually(lambda: state(get(server, "chat", task["id"])) == "COMPLETED")
    assert get(server, "chat", task["id"])["artifacts"][0]["parts"] == [{"text": "one two"}]
    # What was asked by the process that died is answered in another.
    done = send(server, "chat", "yes", taskId=asked["id"])
    assert (state(done), done["id"]) == ("COMPLETED", asked["id"])


def test_a_caller_has_its_own_tasks_alone(shared: ServerFactory) -> None:
    server = shared(LANGGRAPH_CONFIG=PROJECTS / "guarded" / "langgraph.json", WEB_CONCURRENCY=1)
    ada, bob = (
        {"Authorization": f"Bearer {signed(sub=name, scope=['threads:write'])}"}
        for name in ("ada", "bob")
    )
    message = said({"note": "n"})
    assert ask(server, "who", "SendMessage", message=message).status_code == 401
    task = result(ask(server, "who", "SendMessage", ada, message=message))["task"]
    assert state(task) == "COMPLETED"
    assert task["artifacts"][0]["parts"][0]["data"]["seen"]["id"] == "ada"
    assert result(ask(server, "who", "GetTask", ada, id=task["id"])) == task
    for method in ("GetTask", "CancelTask", "SubscribeToTask"):
        assert refused(ask(server, "who", method, bob, id=task["id"])) == -32001
    mine, theirs = (result(ask(server, "who", "ListTasks", each))["tasks"] for each in (ada, bob))
    assert [each["id"] for each in mine] == [task["id"]] and theirs == []
    context = said({"note": "n"}, contextId=task["contextId"])
    assert refused(ask(server, "who", "SendMessage", bob, message=context)) == -32602
    path = "/a2a/who/.well-known/agent-card.json"
    assert httpx.get(server.url + path).status_code == 401
    assert httpx.get(server.url + path, headers=bob).status_code == 200
