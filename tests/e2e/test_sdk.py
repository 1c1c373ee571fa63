"""LangGraph's Python SDK, in both its forms, as a client of this service."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.errors import NotFoundError

from tests.e2e.calls import Gate, begun
from tests.servers import PATIENCE, Server

Call = Callable[[str], Callable[..., Any]]


@pytest.fixture(params=["sync", "async"])
def runs(request: pytest.FixtureRequest, zoo: Server) -> Call:
    """Calls a method of the SDK's `client.runs`, by name."""

    def method(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if request.param == "sync":
                with get_sync_client(url=zoo.url) as client:
                    return getattr(client.runs, name)(*args, **options)
            return asyncio.run(call_async(*args, **options))

        async def call_async(*args: Any, **options: Any) -> Any:
            async with get_client(url=zoo.url) as client:
                answer: Coroutine[Any, Any, Any] = getattr(client.runs, name)(*args, **options)
                return await answer

        return call

    return method


class TestWait:
    def test_returns_the_output(self, runs: Call) -> None:
        assert runs("wait")(None, "echo", input={"value": [1, None]}) == {"value": [1, None]}

    def test_tells_of_the_run_while_it_works(self, runs: Call, zoo: Server, tmp_path: Path) -> None:
        told: list[Any] = []
        with Gate(tmp_path) as gate:

            def on_run_created(run: Any) -> None:
                path = f"/threads/{run['thread_id']}/runs/{run['run_id']}"
                told.append((run, zoo.http.get(path).json()["status"]))
                gate.open()

            answer = runs("wait")(
                None, "sleep_sync", input=gate.input, on_run_created=on_run_created
            )
        assert answer["done"] is True
        ((run, status),) = told
        assert status == "running"
        assert runs("get")(run["thread_id"], run["run_id"])["status"] == "success"

    def test_waits_through_the_newlines(self, runs: Call) -> None:
        assert runs("wait")(None, "sleep_async", input={"seconds": 0.5})["done"] is True

    @pytest.mark.parametrize("graph", ["fails", "fails_async"])
    def test_raises_the_runs_error(self, runs: Call, graph: str) -> None:
        with pytest.raises(Exception, match=r"^ValueError: no luck$"):
            runs("wait")(None, graph, input={})

    def test_returns_the_runs_error_if_asked_to(self, runs: Call) -> None:
        answer = runs("wait")(None, "fails", input={}, raise_error=False)
        assert answer == {"__error__": {"error": "ValueError", "message": "no luck"}}

    def test_sends_config_metadata_and_headers(self, runs: Call) -> None:
        facts = runs("wait")(
            None,
            "who",
            input={},
            config={"tags": ["t"], "recursion_limit": 9, "configurable": {"colour": "red"}},
            metadata={"batch": 1},
            headers={"X-Request-ID": "mine"},
        )["seen"]
        assert facts["tags"] == ["t"]
        assert facts["recursion_limit"] == 9
        assert facts["configurable"]["colour"] == "red"
        assert facts["configurable"]["langgraph_request_id"] == "mine"
        assert facts["metadata"]["batch"] == 1

    def test_sends_a_context(self, runs: Call) -> None:
        answer = runs("wait")(None, "context_dataclass", input={}, context={"user": "ada"})
        assert answer["context"] == {"user": "ada", "level": 1}

    def test_sends_a_command(self, runs: Call) -> None:
        goto = {"node": "c", "input": {"value": 5}}
        answer = runs("wait")(None, "gotos", command={"update": {"value": 3}, "goto": goto})
        assert answer == {"value": 3, "names": ["a", "c", "b"], "seen": [3, 5, 3]}

    def test_sends_breakpoints(self, runs: Call) -> None:
        before = runs("wait")(None, "breakpoints", input={}, interrupt_before=["c"])
        assert before == {"names": ["a", "b"]}
        after = runs("wait")(None, "breakpoints", input={}, interrupt_after="*")
        assert after == {"names": ["a"]}

    def test_returns_interrupts(self, runs: Call) -> None:
        answer = runs("wait")(None, "two_interrupts", input={})
        assert answer["value"] == "begun"
        assert [each["value"]["ask"] for each in answer["__interrupt__"]] == ["left", "right"]

    def test_takes_every_other_argument(self, runs: Call) -> None:
        answer = runs("wait")(
            None,
            "echo",
            input={"value": 1},
            on_disconnect="cancel",
            on_completion="delete",
            durability="sync",
            after_seconds=0,
            multitask_strategy="enqueue",
            if_not_exists="create",
            checkpoint_id=str(uuid4()),
            checkpoint={"thread_id": str(uuid4()), "checkpoint_ns": ""},
        )
        assert answer == {"value": 1}

    @pytest.mark.parametrize(
        ("status", "words", "arguments"),
        [
            (422, "recursion_limit", {"input": {}, "config": {"recursion_limit": 0}}),
            (422, "two_interrupts", {"assistant_id": "nonsense"}),
            (404, "not found", {"assistant_id": str(uuid4())}),
            (400, "command.resume", {"command": {"resume": "yes"}}),
        ],
    )
    def test_raises_what_is_wrong_with_the_request(
        self, runs: Call, status: int, words: str, arguments: dict[str, Any]
    ) -> None:
        with pytest.raises(httpx.HTTPStatusError, match=re.escape(words)) as raised:
            runs("wait")(None, **{"assistant_id": "echo", **arguments})
        assert raised.value.response.status_code == status


class TestJoinAndGet:
    def run(self, runs: Call, graph: str, **options: Any) -> tuple[str, str]:
        told: list[Any] = []
        runs("wait")(None, graph, on_run_created=told.append, raise_error=False, **options)
        return told[0]["thread_id"], told[0]["run_id"]

    def test_join_returns_the_output_again(self, runs: Call) -> None:
        run = self.run(runs, "echo", input={"value": 1})
        assert runs("join")(*run) == {"value": 1}

    def test_join_waits_for_a_run_at_work(self, runs: Call, zoo: Server, tmp_path: Path) -> None:
        with (
            Gate(tmp_path) as gate,
            begun(zoo, "sleep_sync", input=gate.input) as response,
            ThreadPoolExecutor() as pool,
        ):
            _, _, thread_id, _, run_id = response.headers["Content-Location"].split("/")
            join = pool.submit(runs("join"), thread_id, run_id)
            # The newline is proof of time gone by.
            next(response.iter_raw())
            assert not join.done()
            gate.open()
            assert join.result(PATIENCE) == {**gate.input, "done": True}

    def test_get_returns_the_record(self, runs: Call) -> None:
        for graph, status in (("echo", "success"), ("fails", "error")):
            thread_id, run_id = self.run(runs, graph, input={}, metadata={"batch": 1})
            record = runs("get")(thread_id, run_id)
            assert (record["thread_id"], record["run_id"]) == (thread_id, run_id)
            assert record["status"] == status
            assert record["metadata"]["batch"] == 1

    def test_of_an_unknown_run_is_not_found(self, runs: Call) -> None:
        with pytest.raises(httpx.HTTPStatusError, match="not found"):
            runs("join")(str(uuid4()), str(uuid4()))
        with pytest.raises(NotFoundError, match="not found"):
            runs("get")(str(uuid4()), str(uuid4()))
