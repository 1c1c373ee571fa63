"""LangGraph's JavaScript SDK, from npm, as a client of this service."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk.schema import StreamPart

from tests.e2e.calls import FOREVER, UNLIMITED, Gate, only
from tests.e2e.chats import GISTS, TOKENS, TOLD, gist, of_mode, said, until, whole
from tests.e2e.programs import javascript_sdk, require
from tests.faulty import FaultyNetwork
from tests.servers import PATIENCE, ROOT, RedisServer, Server, ServerFactory, eventually

# No assistant's id.
UNKNOWN = "3c90c3cc-0d44-4b50-8888-8dd25736052a"

Call = Callable[..., dict[str, Any]]


class Program:
    """A process that calls methods of the SDK's client, as javascript/call.mjs does."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [require("node"), "call.mjs"],
            cwd=javascript_sdk(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ids = itertools.count()
        self._told: dict[int, SimpleQueue[dict[str, Any]]] = {}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def outcome(self, url: str, name: str, args: Sequence[Any]) -> dict[str, Any]:
        """What it says came of a method."""
        told = self._call(url, name, args)[1].get(timeout=PATIENCE)
        assert "part" not in told
        return told

    def stream(
        self, url: str, name: str, args: Sequence[Any]
    ) -> Generator[StreamPart, None, dict[str, Any]]:
        """What a method yields, as it says so; returns what came of it. Closed, it is aborted."""
        call, queue = self._call(url, name, args)
        try:
            while "part" in (told := queue.get(timeout=PATIENCE)):
                part = told["part"]
                yield StreamPart(part["event"], part["data"], part.get("id"))
        except GeneratorExit:
            self._write({"id": call})
            raise
        return told

    def _call(
        self, url: str, name: str, args: Sequence[Any]
    ) -> tuple[int, SimpleQueue[dict[str, Any]]]:
        call = next(self._ids)
        self._told[call] = queue = SimpleQueue()
        self._write({"id": call, "url": url, "name": name, "args": args})
        return call, queue

    def _write(self, asked: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(asked)}\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            self._told[told.pop("id")].put(told)

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._reader.join()


class Client:
    """Calls methods of the SDK's client of a server."""

    def __init__(self, program: Program, url: str) -> None:
        self._program = program
        self.url = url

    def outcome(self, name: str, *args: Any) -> dict[str, Any]:
        """What came of a method, such as `threads.get`: its `answer` or its `error`."""
        return self._program.outcome(self.url, name, args)

    def stream(self, name: str, *args: Any) -> Generator[StreamPart, None, dict[str, Any]]:
        """What a method yields, such as `runs.stream`; its last argument must be its options."""
        return self._program.stream(self.url, name, args)

    def __call__(self, name: str, *args: Any) -> Any:
        """What the method returns."""
        outcome = self.outcome(name, *args)
        assert "error" not in outcome, outcome
        # What is undefined in JavaScript is not in JSON.
        return outcome.get("answer")

    def refused(self, name: str, *args: Any) -> tuple[int, str]:
        """The status and the text of the error that the method throws."""
        error = self.outcome(name, *args)["error"]
        return error["status"], error["message"]


@pytest.fixture(scope="module")
def programs() -> Iterator[list[Program]]:
    """Two, each with connections of its own."""
    programs = [Program(), Program()]
    yield programs
    for each in programs:
        each.end()


@pytest.fixture
def client(programs: list[Program], zoo: Server) -> Client:
    return Client(programs[0], zoo.url)


@pytest.fixture
def runs(client: Client) -> Call:
    """Calls a method of `client.runs`; what came of it."""
    return lambda method, *args: client.outcome(f"runs.{method}", *args)


class TestWait:
    def test_returns_the_output(self, runs: Call) -> None:
        given = {"input": {"value": ["ü", None, 1.5]}}
        assert runs("wait", None, "echo", given)["answer"] == given["input"]

    def test_tells_of_the_run(self, runs: Call) -> None:
        """After the answer, unlike the Python SDK."""
        run = runs("wait", None, "echo", {"input": {"value": 1}})["run"]
        record = runs("get", run["thread_id"], run["run_id"])["answer"]
        assert record["kwargs"]["input"] == {"value": 1}

    def test_waits_through_the_newlines(self, runs: Call) -> None:
        payload = {"input": {"seconds": 0.5}}
        assert runs("wait", None, "sleep_async", payload)["answer"]["done"] is True

    def test_throws_the_runs_error(self, runs: Call) -> None:
        outcome = runs("wait", None, "fails", {"input": {}})
        assert outcome["error"]["message"] == "ValueError: no luck"

    def test_returns_the_runs_error_if_asked_to(self, runs: Call) -> None:
        outcome = runs("wait", None, "fails", {"input": {}, "raiseError": False})
        assert outcome["answer"]["__error__"] == {"error": "ValueError", "message": "no luck"}

    def test_sends_config_and_metadata(self, runs: Call) -> None:
        config = {"tags": ["t"], "recursion_limit": 9, "configurable": {"colour": "red"}}
        payload = {"input": {}, "config": config, "metadata": {"batch": 1}}
        facts = runs("wait", None, "who", payload)["answer"]["seen"]
        assert (facts["tags"], facts["recursion_limit"]) == (["t"], 9)
        assert facts["configurable"]["colour"] == "red"
        assert facts["metadata"]["batch"] == 1

    def test_sends_a_context(self, runs: Call) -> None:
        payload = {"input": {}, "context": {"user": "ada"}}
        answer = runs("wait", None, "context_dataclass", payload)["answer"]
        assert answer["context"] == {"user": "ada", "level": 1}

    def test_sends_a_command(self, runs: Call) -> None:
        goto = {"node": "c", "input": {"value": 5}}
        payload = {"command": {"update": {"value": 3}, "goto": goto}}
        answer = runs("wait", None, "gotos", payload)["answer"]
        assert answer == {"value": 3, "names": ["a", "c", "b"], "seen": [3, 5, 3]}

    def test_sends_breakpoints(self, runs: Call) -> None:
        payload = {"input": {}, "interruptBefore": ["c"], "interruptAfter": ["b"]}
        assert runs("wait", None, "breakpoints", payload)["answer"] == {"names": ["a", "b"]}

    def test_returns_interrupts(self, runs: Call) -> None:
        answer = runs("wait", None, "two_interrupts", {"input": {}})["answer"]
        assert answer["value"] == "begun"
        assert [each["value"]["ask"] for each in answer["__interrupt__"]] == ["left", "right"]

    def test_takes_every_other_argument(self, runs: Call) -> None:
        payload = {
            "input": {"value": 1},
            "onDisconnect": "cancel",
            "onCompletion": "delete",
            "durability": "exit",
            "afterSeconds": 0,
            "multitaskStrategy": "enqueue",
            "ifNotExists": "create",
            "checkpointDuring": True,
            "feedbackKeys": ["liked"],
        }
        assert runs("wait", None, "echo", payload)["answer"] == {"value": 1}

    @pytest.mark.parametrize(
        ("status", "words", "graph", "payload"),
        [
            (422, "config.recursion_limit", "echo", {"config": {"recursion_limit": 0}}),
            (422, "two_interrupts", "nonsense", {}),
            (404, "not found", UNKNOWN, {}),
            (400, "command.resume", "echo", {"command": {"resume": "yes"}}),
        ],
    )
    def test_throws_what_is_wrong_with_the_request(
        self, runs: Call, status: int, words: str, graph: str, payload: dict[str, Any]
    ) -> None:
        error = runs("wait", None, graph, payload)["error"]
        assert error["status"] == status
        assert words in error["message"]


class TestJoinAndGet:
    def test_have_the_output_and_the_record(self, runs: Call) -> None:
        run = runs("wait", None, "echo", {"input": {"value": 1}, "metadata": {"batch": 1}})["run"]
        ids = run["thread_id"], run["run_id"]
        assert runs("join", *ids)["answer"] == {"value": 1}
        record = runs("get", *ids)["answer"]
        assert (record["thread_id"], record["run_id"]) == ids
        assert (record["status"], record["metadata"]["batch"]) == ("success", 1)

    def test_of_an_unknown_run_are_not_found(self, runs: Call) -> None:
        for method in ("join", "get"):
            assert runs(method, str(uuid4()), str(uuid4()))["error"]["status"] == 404


class TestStreams:
    MODES = ("values", "updates", "messages-tuple", "custom", "tasks", "checkpoints", "debug")

    def test_have_the_events_of_all_modes_and_tell_of_the_run(
        self, client: Client, thread_id: str
    ) -> None:
        asked = {"input": said(TOLD), "streamMode": [*self.MODES], "streamResumable": True}
        parts, outcome = drained(client.stream("runs.stream", thread_id, "chat", asked))
        events = whole(parts)
        for mode in self.MODES:
            assert [gist(part) for part in of_mode(mode, events)] == GISTS[mode]
        assert outcome["run"].items() <= parts[0].data.items()

        run = thread_id, outcome["run"]["run_id"]
        again, _ = drained(client.stream("runs.joinStream", *run, {"lastEventId": "-1"}))
        assert again == parts
        # It is found without its thread too.
        again, _ = drained(client.stream("runs.joinStream", None, run[1], {"lastEventId": "-1"}))
        assert again == parts
        after = {"lastEventId": parts[4].id, "streamMode": ["values", "custom"]}
        again, _ = drained(client.stream("runs.joinStream", *run, after))
        assert again[1:] == [
            part for part in parts[5:] if part.event in {"values", "custom", "end"}
        ]

    def test_have_each_token_as_soon_as_it_is_there(self, client: Client, tmp_path: Path) -> None:
        with Gate(tmp_path) as gate:
            asked = {"input": said(TOLD, gate), "streamMode": "messages-tuple"}
            parts = client.stream("runs.stream", None, "chat_async", asked)
            begun = until("messages", parts)
            assert gist(begun[-1]) == "one "
            gate.open()
            assert [gist(part) for part in whole([*begun, *parts])] == [*TOKENS, ""]

    def test_have_the_runs_interrupts_and_errors(self, client: Client, thread_id: str) -> None:
        parts, _ = drained(
            client.stream("runs.stream", thread_id, "chat", {"input": said("May I go?")})
        )
        [pending] = whole(parts, "interrupted")[-1].data["__interrupt__"]
        command = {"resume": {pending["id"]: "You may."}}
        parts, _ = drained(client.stream("runs.stream", thread_id, "chat", {"command": command}))
        assert gist(whole(parts)[-1]) == ["May I go?", "You may.", "You may."]
        parts, _ = drained(client.stream("runs.stream", None, "fails", {"input": {}}))
        assert whole(parts, "error")[-1].data == {"error": "ValueError", "message": "no luck"}

    def test_that_are_left_cancel_their_runs_if_they_were_told_to(
        self, client: Client, tmp_path: Path
    ) -> None:
        with Gate(tmp_path) as gate:
            asked = {"input": said(TOLD, gate), "onDisconnect": "cancel", "onCompletion": "keep"}
            parts = client.stream("runs.stream", None, "chat", asked)
            run = next(parts).data
            parts.close()
            ids = run["thread_id"], run["run_id"]
            eventually(lambda: client("runs.get", *ids)["status"] == "interrupted")

    def test_that_are_cut_go_on_where_they_were(
        self, programs: list[Program], client: Client, zoo: Server, tmp_path: Path
    ) -> None:
        network = FaultyNetwork(zoo.port)
        far = Client(programs[0], f"http://127.0.0.1:{network.port}")
        with Gate(tmp_path) as gate:
            asked = {"input": said(TOLD, gate), "streamMode": ["messages-tuple", "values"]}
            parts = far.stream("runs.stream", None, "chat", {**asked, "streamResumable": True})
            begun = until("messages", parts)
            network.break_all()
            gate.open()
            again, *rest = parts
        network.close()
        run = begun[0].data
        assert again.data == run
        ids = run["thread_id"], run["run_id"]
        joined, _ = drained(client.stream("runs.joinStream", *ids, {"lastEventId": "-1"}))
        assert [*begun, *rest] == joined

    def test_are_refused_before_they_begin(self, client: Client) -> None:
        for name, args, status in (
            ("runs.stream", (None, "nonsense", {}), 422),
            ("runs.joinStream", (str(uuid4()), str(uuid4()), {}), 404),
            ("threads.joinStream", (str(uuid4()), {}), 404),
        ):
            parts, outcome = drained(client.stream(name, *args))
            assert (parts, outcome["error"]["status"]) == ([], status)

    def test_of_a_thread_have_its_runs_one_after_the_other(
        self, client: Client, thread_id: str
    ) -> None:
        runs = [
            drained(
                client.stream(
                    "runs.stream", thread_id, "chat", {"input": said(text), "streamResumable": True}
                )
            )[0]
            for text in ("first", "second")
        ]
        parts = client.stream("threads.joinStream", thread_id, {"lastEventId": "-"})
        for run in runs:
            assert [next(parts) for _ in run[:-1]] == run[:-1]
            assert next(parts).data["status"] == "run_done"
        parts.close()


class TestBackground:
    def test_runs_are_there_at_once_and_end_by_themselves(
        self, client: Client, runs: Call, thread_id: str, tmp_path: Path
    ) -> None:
        with Gate(tmp_path) as gate:
            first = runs("create", thread_id, "chat", {"input": said("first", gate)})
            assert first["answer"]["status"] == "pending"
            assert first["run"] == {
                "thread_id": thread_id,
                "run_id": first["answer"]["run_id"],
            }
            second = client("runs.create", thread_id, "chat", {"input": said("second")})
            queue = client("runs.list", thread_id, {"status": "pending"})
            assert second["run_id"] in [run["run_id"] for run in queue]
            gate.open()
            answer = client("runs.join", thread_id, second["run_id"])
        assert len(answer["messages"]) == 4

    def test_runs_of_a_batch_are_told_in_order(self, client: Client) -> None:
        batch = [{"assistantId": "echo", "input": {"value": number}} for number in range(3)]
        made = client("runs.createBatch", batch)
        answers = [client("runs.join", run["thread_id"], run["run_id"]) for run in made]
        assert answers == [{"value": 0}, {"value": 1}, {"value": 2}]


def drained(
    parts: Generator[StreamPart, None, dict[str, Any]],
) -> tuple[list[StreamPart], dict[str, Any]]:
    """All that a stream has, and what came of it."""
    found = []
    while True:
        try:
            found.append(next(parts))
        except StopIteration as end:
            return found, end.value


@pytest.fixture
def office(
    programs: list[Program], serve: ServerFactory, valkey: RedisServer
) -> tuple[Server, list[Client]]:
    """Two workers that serve the example graphs, and a client for each of them."""
    config = ROOT / "examples" / "langgraph.json"
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=config, WEB_CONCURRENCY=2)
    # Connections stay open: each is that of the worker which took its first.
    return server, [Client(each, server.url) for each in programs]


@pytest.fixture
def thread_id(client: Client) -> Iterator[str]:
    thread_id: str = client("threads.create")["thread_id"]
    yield thread_id
    client.outcome("threads.delete", thread_id)


@pytest.fixture
def endless(client: Client, thread_id: str, tmp_path: Path) -> Iterator[Future[Any]]:
    """The wait for a run on the thread that ends only when it is stopped."""
    file = tmp_path / "steps"
    payload = {"input": {**FOREVER, "file": str(file)}, "config": UNLIMITED}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client, "runs.wait", thread_id, "steps_async", payload)
        # The last steps may not be stored yet, but three are.
        eventually(lambda: file.exists() and len(file.read_text().split()) > 4)
        yield waiting
        for run in client("runs.list", thread_id, {"status": "running"}):
            client.outcome("runs.cancel", thread_id, run["run_id"])


class TestApproval:
    def test_goes_through_two_processes_and_is_forked(
        self, office: tuple[Server, list[Client]]
    ) -> None:
        server, clients = office
        first, second = server.workers()
        payload = {
            "input": {"request": "lunch"},
            "onCompletion": "keep",
            "metadata": {"team": "kitchen"},
        }
        with only(server, first):
            asked = clients[0].outcome("runs.wait", None, "approval", payload)
        thread_id = asked["run"]["thread_id"]
        client = clients[1]
        with only(server, second):
            [found] = client(
                "threads.search", {"metadata": {"team": "kitchen"}, "status": "interrupted"}
            )
            assert found["thread_id"] == thread_id
            assert found["values"]["draft"] == "Dear all, I propose lunch."
            state = client("threads.getState", thread_id)
            assert state["next"] == ["approve"]
            assert state["interrupts"][0]["id"] == asked["answer"]["__interrupt__"][0]["id"]
            yes = {"command": {"resume": {"approved": True}}}
            assert client("runs.wait", thread_id, "approval", yes)["sent"] is True
        status, text = client.refused("runs.wait", thread_id, "approval", yes)
        assert (status, "command.resume" in text) == (409, True)
        history = client("threads.getHistory", thread_id)
        assert [each["next"] for each in history] == [
            [],
            ["send"],
            ["approve"],
            ["write"],
            ["__start__"],
        ]
        assert client("threads.getState", thread_id, history[2]["checkpoint_id"]) == history[2]
        assert client("threads.getState", thread_id, history[2]["checkpoint"]) == history[2]
        update = {
            "values": {"draft": "By hand."},
            "asNode": "write",
            "checkpoint": history[3]["checkpoint"],
        }
        changed = client("threads.updateState", thread_id, update)
        with only(server, first):
            payload = {"input": None, "checkpoint": changed["checkpoint"]}
            again = clients[0]("runs.wait", thread_id, "approval", payload)
        assert again["__interrupt__"][0]["value"]["draft"] == "By hand."
        forked = client("threads.getHistory", thread_id, {"limit": 100})
        assert forked[-5:] == history
        page = {"limit": 3, "before": forked[1]["checkpoint"]}
        assert client("threads.getHistory", thread_id, page) == forked[2:5]


class TestThreads:
    def test_are_made_read_changed_copied_and_deleted(self, client: Client) -> None:
        mark = {"mark": str(uuid4())}
        chosen = str(uuid4())
        given = {"threadId": chosen, "graphId": "echo", "metadata": mark, "ttl": 60}
        made = client("threads.create", given)
        assert (made["thread_id"], made["metadata"]) == (chosen, {**mark, "graph_id": "echo"})
        assert client.refused("threads.create", given)[0] == 409
        assert client("threads.create", {**given, "ifExists": "do_nothing"}) == made
        patch = {"metadata": {"colour": "red"}, "ttl": 90}
        assert client("threads.update", chosen, patch)["metadata"]["colour"] == "red"
        client("runs.wait", chosen, "echo", {"input": {"value": 5}})
        copied = client("threads.copy", chosen)
        assert copied["values"] == client("threads.get", chosen)["values"] == {"value": 5}
        query = {"metadata": mark, "sortBy": "created_at", "sortOrder": "asc"}
        found = client("threads.search", query)
        assert [each["thread_id"] for each in found] == [chosen, copied["thread_id"]]
        page = {**query, "limit": 1, "offset": 1, "select": ["thread_id"]}
        assert client("threads.search", page) == [{"thread_id": copied["thread_id"]}]
        assert client("threads.count", {"metadata": mark, "values": {"value": 5}}) == 2
        for each in found:
            assert client("threads.delete", each["thread_id"]) is None
            assert client.refused("threads.get", each["thread_id"])[0] == 404
        assert client("threads.count", {"metadata": mark}) == 0

    def test_are_built_from_supersteps(self, client: Client) -> None:
        steps = [
            {"updates": [{"values": {"names": ["before"]}, "asNode": "__start__"}]},
            {"updates": [{"values": {"names": ["mine"]}, "asNode": "a"}]},
        ]
        made = client("threads.create", {"graphId": "breakpoints", "supersteps": steps})
        answer = client("runs.wait", made["thread_id"], "breakpoints", {"input": None})
        assert answer == {"names": ["before", "mine", "b", "c"]}
        client("threads.delete", made["thread_id"])


class TestRunsOnAThread:
    def test_make_it_if_they_may(self, client: Client) -> None:
        thread_id = str(uuid4())
        payload = {"input": {"value": 1}}
        assert client.refused("runs.wait", thread_id, "echo", payload)[0] == 404
        payload["ifNotExists"] = "create"
        assert client("runs.wait", thread_id, "echo", payload) == {"value": 1}
        client("threads.delete", thread_id)

    def test_are_listed_read_joined_and_deleted(self, client: Client, thread_id: str) -> None:
        for value in (1, 2):
            client("runs.wait", thread_id, "echo", {"input": {"value": value}})
        newer, older = client("runs.list", thread_id)
        assert client("runs.list", thread_id, {"limit": 1, "offset": 1}) == [older]
        assert client("runs.list", thread_id, {"status": "error"}) == []
        assert client("runs.get", thread_id, newer["run_id"]) == newer
        assert client("runs.join", thread_id, older["run_id"]) == {"value": 1}
        assert client("runs.delete", thread_id, older["run_id"]) is None
        assert client("runs.list", thread_id) == [newer]

    def test_are_refused_where_another_works_and_that_is_cancelled(
        self, client: Client, thread_id: str, endless: Future[Any]
    ) -> None:
        payload = {"input": {}, "multitaskStrategy": "reject"}
        status, text = client.refused("runs.wait", thread_id, "steps_async", payload)
        assert (status, "busy" in text) == (409, True)
        assert client.refused("threads.updateState", thread_id, {"values": {"n": 1}})[0] == 409
        [run] = client("runs.list", thread_id)
        assert client("runs.cancel", thread_id, run["run_id"], True) is None
        assert client("runs.get", thread_id, run["run_id"])["status"] == "interrupted"
        assert len(endless.result(PATIENCE)["steps"]) > 2
        assert client.refused("runs.cancel", thread_id, run["run_id"])[0] == 404

    def test_leave_nothing_if_they_are_rolled_back(
        self, client: Client, thread_id: str, endless: Future[Any]
    ) -> None:
        [run] = client("runs.list", thread_id)
        client("runs.cancel", thread_id, run["run_id"], True, "rollback")
        assert client("threads.getHistory", thread_id) == client("runs.list", thread_id) == []
        assert len(endless.result(PATIENCE)["steps"]) > 2


class TestStore:
    def test_keeps_items(self, client: Client) -> None:
        root = f"js {uuid4()}"
        namespace = [root, "ada"]
        assert client("store.getItem", namespace, "tea") is None
        for number in range(3):
            client("store.putItem", namespace, f"k{number}", {"number": number})
        client("store.putItem", [root, "bob"], "k", {"number": 9}, {"ttl": 5, "index": False})
        item = client("store.getItem", namespace, "k1", {"refreshTtl": True})
        assert (item["namespace"], item["key"], item["value"]) == (namespace, "k1", {"number": 1})
        assert item["createdAt"] == item["created_at"] <= item["updatedAt"]
        query = {"filter": {"number": {"$gte": 1}}, "limit": 2, "offset": 1}
        found = client("store.searchItems", [root], query)["items"]
        assert len(found) == 2
        assert len(client("store.searchItems", namespace)["items"]) == 3
        listed = client("store.listNamespaces", {"prefix": [root]})
        assert listed == {"namespaces": [namespace, [root, "bob"]]}
        listed = client("store.listNamespaces", {"prefix": [root], "maxDepth": 1, "limit": 1})
        assert listed == {"namespaces": [[root]]}
        for each in client("store.searchItems", [root])["items"]:
            assert client("store.deleteItem", each["namespace"], each["key"]) is None
        assert client("store.searchItems", [root]) == {"items": []}


class TestAssistants:
    def test_are_made_found_changed_and_deleted(self, client: Client) -> None:
        mark = {"mark": str(uuid4())}
        given = {
            "graphId": "who",
            "name": "Mine",
            "description": "d",
            "context": {"colour": "red"},
            "metadata": mark,
        }
        made = client("assistants.create", given)
        mine = made["assistant_id"]
        assert (made["version"], made["name"], made["context"]) == (1, "Mine", {"colour": "red"})
        assert client("assistants.get", mine) == made
        changed = client("assistants.update", mine, {"context": {"colour": "blue"}})
        assert (changed["version"], changed["name"]) == (2, "Mine")
        seen = client("runs.wait", None, mine, {"input": {}})["seen"]
        assert (seen["context"], seen["metadata"]["mark"]) == ({"colour": "blue"}, mark["mark"])
        page = client("assistants.search", {"metadata": mark, "includePagination": True})
        assert (page["assistants"], page["next"]) == ([changed], None)
        assert client("assistants.count", {"metadata": mark, "graphId": "who"}) == 1
        versions = client("assistants.getVersions", mine)
        assert [each["context"]["colour"] for each in versions] == ["blue", "red"]
        assert client("assistants.setLatest", mine, 1)["context"] == {"colour": "red"}
        assert client("assistants.getSchemas", mine)["graph_id"] == "who"
        nodes = client("assistants.getGraph", mine, {"xray": True})["nodes"]
        assert {"__start__", "__end__"} < {each["id"] for each in nodes}
        assert client("assistants.getSubgraphs", "subgraph", {"recurse": True}).keys() == {"child"}
        client("assistants.delete", mine)
        assert client.refused("assistants.get", mine)[0] == 404
        assert client("assistants.search", {"metadata": mark}) == []

    def test_of_the_system_cannot_be_deleted(self, client: Client) -> None:
        echo = client("assistants.get", "echo")
        assert client.refused("assistants.delete", echo["assistant_id"])[0] == 403


class TestAConnectionThatBreaks:
    # Says when headers have come: only then has the program anywhere to go on.
    TELLING = """
const plain = globalThis.fetch;
globalThis.fetch = async (...request) => {
  const response = await plain(...request);
  console.error("headers");
  return response;
};
"""

    def test_is_got_over_as_the_docs_show(self, serve: ServerFactory, valkey: RedisServer) -> None:
        page = (ROOT / "docs" / "clients.md").read_text()
        program = page.partition("```js\n")[2].partition("```")[0]
        server = serve(REDIS_URL=valkey.url, RUN_LEASE_SECONDS=1, WEB_CONCURRENCY=1)
        asking = subprocess.Popen(
            [
                *(require("node"), "--input-type=module", "--eval"),
                self.TELLING + program.replace("http://localhost:8000", server.url),
            ],
            cwd=javascript_sdk(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert asking.stderr is not None
        assert asking.stderr.readline() == "headers\n"
        [killed] = server.workers()
        os.kill(killed, signal.SIGKILL)
        printed, failed = asking.communicate(timeout=PATIENCE)
        assert json.loads(printed) == {"seconds": 3, "slept": 3}, failed


def test_makes_finds_changes_and_deletes_crons(client: Client) -> None:
    mark = {"mark": str(uuid4())}
    options = {"schedule": "30 2 * * *", "timezone": "Europe/Berlin", "metadata": mark}
    made = client("crons.create", "echo", {**options, "input": {"value": 1}})
    assert (made["schedule"], made["on_run_completed"]) == ("30 2 * * *", "delete")
    assert client("crons.search", {"metadata": mark, "enabled": True}) == [made]
    assert client("crons.count", {"metadata": mark}) == 1
    changed = client("crons.update", made["cron_id"], {"schedule": "@yearly", "enabled": False})
    assert (changed["schedule"], changed["next_run_date"]) == ("@yearly", None)
    client("crons.delete", made["cron_id"])
    assert client("crons.count", {"metadata": mark}) == 0

    thread = client("threads.create")["thread_id"]
    on_thread = client("crons.createForThread", thread, "echo", options)
    assert (on_thread["thread_id"], on_thread["on_run_completed"]) == (thread, None)
    client("threads.delete", thread)
    assert client.refused("crons.delete", on_thread["cron_id"])[0] == 404
    assert client.refused("crons.create", "echo", {"schedule": "0 0 31 2 *"})[0] == 422
