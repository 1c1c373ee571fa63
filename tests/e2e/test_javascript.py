"""LangGraph's JavaScript SDK, from npm, as a client of this service."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.programs import require
from tests.servers import PATIENCE, Server

HERE = Path(__file__).resolve().parent / "javascript"
Call = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def sdk() -> None:
    """Installs the SDK beside the script that calls it, unless it is there."""
    require("node")
    npm = require("npm")
    locked, installed = HERE / "package-lock.json", HERE / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < locked.stat().st_mtime:
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=HERE, check=True, timeout=PATIENCE)


@pytest.fixture
def runs(sdk: None, zoo: Server) -> Call:
    """Calls a method of `client.runs`; what javascript/call.mjs says came of it."""

    def call(method: str, *args: Any) -> dict[str, Any]:
        done = subprocess.run(
            [require("node"), "call.mjs", zoo.url, method, json.dumps(args)],
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        outcome: dict[str, Any] = json.loads(done.stdout)
        return outcome

    return call


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
            (404, "not found", str(uuid4()), {}),
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
