"""The life of a kept thread by LangGraph's Python SDK, in both its forms, across two processes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from tests.e2e.calls import FOREVER, UNLIMITED, Gate, Sdk, in_the_third_step, lapse, only
from tests.servers import (
    PATIENCE,
    PROJECTS,
    ROOT,
    RedisServer,
    Server,
    ServerFactory,
    eventually,
)

REQUEST = {"request": "lunch"}
DRAFT = "Dear all, I propose lunch."
APPROVED = {"resume": {"approved": True}}
Beside = Callable[..., Future[Any]]


@pytest.fixture(scope="module")
def examples(shared: ServerFactory) -> Server:
    """Two workers that serve the example graphs."""
    return shared(LANGGRAPH_CONFIG=ROOT / "examples" / "langgraph.json")


@pytest.fixture(params=["sync", "async"])
def form(request: pytest.FixtureRequest) -> str:
    form: str = request.param
    return form


@pytest.fixture
def office(form: str, examples: Server) -> Sdk:
    """A client of the examples."""
    return Sdk(examples.url, form)


@pytest.fixture
def sdk(form: str, zoo: Server) -> Sdk:
    """A client of the zoo."""
    return Sdk(zoo.url, form)


@pytest.fixture
def beside(sdk: Sdk) -> Iterator[Beside]:
    """Calls the zoo beside the test."""
    with ThreadPoolExecutor(8) as pool:
        yield lambda *args, **options: pool.submit(sdk, *args, **options)


@pytest.fixture
def endless(sdk: Sdk, beside: Beside, tmp_path: Path) -> Iterator[tuple[str, Future[Any]]]:
    """A thread with a run at work that ends only when it is stopped, and the wait for it."""
    thread_id = sdk("threads.create")["thread_id"]
    file = tmp_path / "steps"
    waiting = beside("runs.wait", thread_id, "steps_async", **_without_end(file))
    # The last steps may not be stored yet, but three are.
    eventually(lambda: file.exists() and len(file.read_text().split()) > 4)
    yield thread_id, waiting
    sdk("runs.cancel_many", thread_id=thread_id, status="all")


def _without_end(file: Path | None = None) -> dict[str, Any]:
    given = FOREVER if file is None else {**FOREVER, "file": str(file)}
    return {"input": given, "config": UNLIMITED, "raise_error": False}


def _asked(sdk: Sdk, **options: Any) -> str:
    """A thread of the approval graph that waits for an answer."""
    thread_id = str(uuid4())
    options = {"input": REQUEST, "if_not_exists": "create", **options}
    document = sdk("runs.wait", thread_id, "approval", **options)
    assert [each["value"]["draft"] for each in document["__interrupt__"]] == [DRAFT]
    return thread_id


def _steps(history: list[Any]) -> list[Any]:
    return [(each["next"], each["values"].get("sent")) for each in history]


def _refused(call: Callable[[], Any]) -> tuple[int, str]:
    """How a wait was refused: the SDK raises HTTPX's own error, with the body as a note."""
    with pytest.raises(httpx.HTTPStatusError) as raised:
        call()
    return raised.value.response.status_code, "".join(getattr(raised.value, "__notes__", []))


class TestApproval:
    def test_goes_from_the_first_question_to_the_answer_through_two_processes(
        self, office: Sdk, examples: Server
    ) -> None:
        first, second = examples.workers()
        told: list[Any] = []
        with only(examples, first):
            asked = office(
                "runs.wait",
                None,
                "approval",
                input=REQUEST,
                on_completion="keep",
                metadata={"team": "kitchen"},
                on_run_created=told.append,
            )
        thread_id = told[0]["thread_id"]
        with only(examples, second):
            thread = office("threads.get", thread_id)
            assert thread["status"] == "interrupted"
            assert (thread["metadata"]["graph_id"], thread["metadata"]["team"]) == (
                "approval",
                "kitchen",
            )
            [[waiting]] = thread["interrupts"].values()
            assert waiting["id"] == asked["__interrupt__"][0]["id"]
            assert waiting["value"] == {"question": "Send this?", "draft": DRAFT}
            no = {"approved": False, "feedback": "shorter"}
            again = office(
                "runs.wait", thread_id, "approval", command={"resume": {waiting["id"]: no}}
            )
        [question] = again["__interrupt__"]
        assert question["id"] != waiting["id"]
        assert question["value"]["draft"] == f"{DRAFT} (Revised: shorter)"
        with only(examples, first):
            done = office("runs.wait", thread_id, "approval", command=APPROVED)
        assert done == {
            "request": "lunch",
            "feedback": "shorter",
            "draft": f"{DRAFT} (Revised: shorter)",
            "sent": True,
        }
        for worker in (first, second):
            with only(examples, worker):
                state = office("threads.get_state", thread_id)
                assert (state["values"], state["next"]) == (done, [])
                assert office("threads.get", thread_id)["status"] == "idle"
                runs = office("runs.list", thread_id)
                assert [each["status"] for each in runs] == [
                    "success",
                    "interrupted",
                    "interrupted",
                ]

    def test_is_not_given_twice(self, office: Sdk) -> None:
        thread_id = _asked(office)
        assert office("runs.wait", thread_id, "approval", command=APPROVED)["sent"] is True
        before = office("threads.get_history", thread_id)
        status, detail = _refused(
            lambda: office("runs.wait", thread_id, "approval", command=APPROVED)
        )
        assert status == 409
        assert "no interrupt waits on this thread" in detail
        assert office("threads.get_history", thread_id) == before

    def test_is_not_given_to_another_graph(self, office: Sdk) -> None:
        thread_id = _asked(office)
        before = office("threads.get", thread_id), office("threads.get_history", thread_id)
        status, detail = _refused(lambda: office("runs.wait", thread_id, "chat", command=APPROVED))
        assert (status, "command.resume" in detail) == (409, True)
        after = office("threads.get", thread_id), office("threads.get_history", thread_id)
        assert after == before
        # Nothing of the answer is kept for whoever goes on.
        asked = office("runs.wait", thread_id, "approval", input=None)
        assert len(asked["__interrupt__"]) == 1

    @pytest.mark.parametrize("strict", [True, False, None])
    def test_of_a_question_that_nobody_asked_is_refused(self, office: Sdk, strict: Any) -> None:
        """With or without the SDK's strict_resume; /info says that it is so."""
        thread_id = _asked(office)
        before = office("threads.get", thread_id), office("threads.get_history", thread_id)
        command = {"resume": {uuid4().hex: {"approved": True}}}
        status, detail = _refused(
            lambda: office(
                "runs.wait", thread_id, "approval", command=command, strict_resume=strict
            )
        )
        assert status == 409
        assert next(iter(command["resume"])) in detail
        after = office("threads.get", thread_id), office("threads.get_history", thread_id)
        assert after == before

    def test_may_come_after_the_draft_was_changed_by_hand(self, office: Sdk) -> None:
        thread_id = _asked(office)
        changed = office("threads.update_state", thread_id, {"draft": "By hand."}, as_node="write")
        state = office("threads.get_state", thread_id)
        assert state["checkpoint"] == changed["checkpoint"]
        assert (state["values"]["draft"], state["next"]) == ("By hand.", ["approve"])
        # The question was about another draft, so it is asked anew.
        asked = office("runs.wait", thread_id, "approval", input=None)
        assert asked["__interrupt__"][0]["value"]["draft"] == "By hand."
        assert office("runs.wait", thread_id, "approval", command=APPROVED)["draft"] == "By hand."

    def test_may_be_asked_for_again_from_an_old_checkpoint(self, office: Sdk) -> None:
        thread_id = _asked(office)
        office("runs.wait", thread_id, "approval", command=APPROVED)
        history = office("threads.get_history", thread_id)
        assert _steps(history) == [
            ([], True),
            (["send"], False),
            (["approve"], False),
            (["write"], None),
            (["__start__"], None),
        ]
        drafting = history[3]["checkpoint"]
        asked = office("runs.wait", thread_id, "approval", input=None, checkpoint=drafting)
        assert asked["__interrupt__"][0]["value"]["draft"] == DRAFT
        command = {"resume": {"approved": False, "feedback": "no"}}
        again = office("runs.wait", thread_id, "approval", command=command)
        assert again["__interrupt__"][0]["value"]["draft"] == f"{DRAFT} (Revised: no)"
        state = office("threads.get_state", thread_id)
        assert (state["values"]["sent"], state["next"]) == (False, ["approve"])
        # What was there before is there yet.
        left = office("threads.get_history", thread_id, limit=100)
        assert left[-len(history) :] == history

    def test_goes_on_from_an_old_checkpoint_that_was_changed(self, office: Sdk) -> None:
        thread_id = _asked(office)
        office("runs.wait", thread_id, "approval", command=APPROVED)
        start = office("threads.get_history", thread_id)[3]
        fork = office(
            "threads.update_state",
            thread_id,
            {"request": "dinner"},
            checkpoint=start["checkpoint"],
            as_node="__start__",
        )
        document = office(
            "runs.wait", thread_id, "approval", input=None, checkpoint=fork["checkpoint"]
        )
        assert document["draft"] == "Dear all, I propose dinner."

    def test_goes_on_in_a_copy_and_leaves_the_first(self, office: Sdk) -> None:
        thread_id = _asked(office)
        copied = office("threads.copy", thread_id)["thread_id"]
        histories = [office("threads.get_history", each) for each in (thread_id, copied)]
        assert _steps(histories[0]) == _steps(histories[1])
        assert office("runs.wait", copied, "approval", command=APPROVED)["sent"] is True
        assert office("threads.get_history", thread_id) == histories[0]
        office("threads.delete", thread_id)
        assert office("threads.get", copied)["values"]["sent"] is True


class TestHistory:
    def test_is_read_page_by_page(self, sdk: Sdk) -> None:
        thread_id = str(uuid4())
        given = {"input": {"n": 7}, "if_not_exists": "create"}
        sdk("runs.wait", thread_id, "steps_async", **given)
        whole = sdk("threads.get_history", thread_id, limit=100)
        assert len(whole) == 9
        assert len(sdk("threads.get_history", thread_id, limit=4)) == 4
        pages: list[Any] = []
        while page := sdk(
            "threads.get_history",
            thread_id,
            limit=4,
            before=pages[-1]["checkpoint"] if pages else None,
        ):
            pages += page
        assert pages == whole

    def test_is_gone_but_for_the_latest_state_where_it_was_pruned(self, sdk: Sdk) -> None:
        thread_id = str(uuid4())
        given = {"input": {"n": 3}, "if_not_exists": "create"}
        document = sdk("runs.wait", thread_id, "steps_sync", **given)
        assert sdk("threads.prune", [thread_id], strategy="keep_latest") == {"pruned_count": 1}
        [state] = sdk("threads.get_history", thread_id)
        assert state["values"] == document
        assert len(sdk("runs.list", thread_id)) == 1
        assert sdk("runs.wait", thread_id, "steps_sync", input={"n": 4})["n"] == 4


class TestRuns:
    def test_make_their_thread_if_they_may(self, sdk: Sdk) -> None:
        thread_id = str(uuid4())
        for options in ({}, {"if_not_exists": "reject"}):
            status, detail = _refused(
                lambda options=options: sdk(
                    "runs.wait", thread_id, "echo", input={"value": 1}, **options
                )
            )
            assert (status, thread_id in detail) == (404, True)
        given = {"metadata": {"batch": 7}, "if_not_exists": "create"}
        for value in (1, 2):
            made = sdk("runs.wait", thread_id, "echo", input={"value": value}, **given)
            assert made == {"value": value}
        thread = sdk("threads.get", thread_id)
        assert (thread["metadata"]["batch"], thread["values"]) == (7, {"value": 2})

    def test_are_listed_read_joined_and_deleted(self, sdk: Sdk) -> None:
        thread_id = sdk("threads.create")["thread_id"]
        for number, graph in enumerate(["echo", "fails", "echo"]):
            sdk(
                "runs.wait",
                thread_id,
                graph,
                input={"value": number},
                metadata={"number": number},
                raise_error=False,
            )
        runs = sdk("runs.list", thread_id)
        assert [each["metadata"]["number"] for each in runs] == [2, 1, 0]
        assert sdk("runs.list", thread_id, limit=1, offset=1) == runs[1:2]
        assert sdk("runs.list", thread_id, status="success") == [runs[0], runs[2]]
        names = ["run_id", "status"]
        some = [{name: each[name] for name in names} for each in runs]
        assert sdk("runs.list", thread_id, select=names) == some
        assert sdk("runs.list", thread_id, select=[*runs[0]]) == runs
        for wrong in ({"status": "nonsense"}, {"select": ["status", "nonsense"]}):
            with pytest.raises(UnprocessableEntityError, match=next(iter(wrong))):
                sdk("runs.list", thread_id, **wrong)
        for run in runs:
            assert sdk("runs.get", thread_id, run["run_id"]) == run
        joined = [sdk("runs.join", thread_id, each["run_id"]) for each in runs]
        assert (joined[0], joined[2]) == ({"value": 2}, {"value": 0})
        assert joined[1]["__error__"]["error"] == "ValueError"
        sdk("runs.delete", thread_id, runs[1]["run_id"])
        assert sdk("runs.list", thread_id) == [runs[0], runs[2]]
        with pytest.raises(NotFoundError):
            sdk("runs.delete", thread_id, runs[1]["run_id"])

    def test_on_another_thread_are_not_found(self, sdk: Sdk) -> None:
        one, other = (sdk("threads.create")["thread_id"] for _ in range(2))
        sdk("runs.wait", one, "echo", input={})
        [run] = sdk("runs.list", one)
        for method in ("runs.get", "runs.delete", "runs.cancel"):
            with pytest.raises(NotFoundError):
                sdk(method, other, run["run_id"])
        assert sdk("runs.list", one) == [run]


def goes_on_with_its_step(sdk: Sdk, thread_id: str) -> None:
    """Between a step's writes and the next checkpoint, LangGraph says that nothing comes next."""
    eventually(lambda: sdk("threads.get_state", thread_id)["next"] == ["step"])


class TestABusyThread:
    def test_refuses_a_run_that_asks_it_to_and_stays_as_it_is(
        self, sdk: Sdk, endless: tuple[str, Future[Any]]
    ) -> None:
        thread_id, _ = endless
        before = sdk("threads.get", thread_id)["metadata"]
        refused = {"input": {}, "multitask_strategy": "reject"}
        # Of the same graph as the run that has the thread, then of another.
        for graph in ("steps_async", "echo"):
            status, detail = _refused(
                lambda graph=graph: sdk("runs.wait", thread_id, graph, **refused)
            )
            assert (status, "busy" in detail) == (409, True)
            assert sdk("threads.get", thread_id)["metadata"] == before
        assert len(sdk("runs.list", thread_id)) == 1

    def test_is_its_runs_whoever_waits_for_it(
        self, sdk: Sdk, beside: Beside, endless: tuple[str, Future[Any]]
    ) -> None:
        thread_id, _ = endless
        waiting = beside("runs.wait", thread_id, "echo", input={"value": 1})
        [run] = eventually(lambda: sdk("runs.list", thread_id, status="pending"))
        goes_on_with_its_step(sdk, thread_id)
        assert sdk("threads.get", thread_id)["metadata"]["graph_id"] == "steps_async"
        sdk("runs.cancel", thread_id, run["run_id"], wait=True)
        waiting.result(PATIENCE)
        assert sdk("threads.get_state", thread_id)["values"]["steps"][:2] == [1, 2]

    def test_is_read_and_copied_but_not_changed(
        self, sdk: Sdk, endless: tuple[str, Future[Any]]
    ) -> None:
        thread_id, _ = endless
        with pytest.raises(ConflictError, match="busy"):
            sdk("threads.update_state", thread_id, {"n": 1})
        goes_on_with_its_step(sdk, thread_id)
        copied = sdk("threads.copy", thread_id)
        assert copied["status"] != "busy"
        assert copied["values"]["steps"][:3] == [1, 2, 3]
        assert sdk("threads.update", thread_id, metadata={"a": 1})["status"] == "busy"

    def test_is_free_once_its_run_was_cancelled(
        self, sdk: Sdk, endless: tuple[str, Future[Any]]
    ) -> None:
        thread_id, waiting = endless
        [run] = sdk("runs.list", thread_id, status="running")
        assert sdk("runs.cancel", thread_id, run["run_id"], wait=True) is None
        assert sdk("threads.get", thread_id)["status"] == "interrupted"
        assert sdk("runs.get", thread_id, run["run_id"])["status"] == "interrupted"
        kept = sdk("threads.get_state", thread_id)["values"]["steps"]
        assert kept == list(range(1, len(kept) + 1))
        assert len(kept) > 2
        assert len(waiting.result(PATIENCE)["steps"]) > 2
        with pytest.raises(NotFoundError):
            sdk("runs.cancel", thread_id, run["run_id"])
        # It goes on from there if it is asked to.
        config = {"recursion_limit": 2}
        again = sdk("runs.wait", thread_id, "steps_async", config=config, raise_error=False)
        assert again["__error__"]["error"] == "GraphRecursionError"

    def test_holds_nothing_of_a_run_that_was_rolled_back(
        self, sdk: Sdk, endless: tuple[str, Future[Any]]
    ) -> None:
        thread_id, waiting = endless
        [run] = sdk("runs.list", thread_id)
        sdk("runs.cancel", thread_id, run["run_id"], wait=True, action="rollback")
        assert sdk("threads.get_history", thread_id) == []
        assert sdk("runs.list", thread_id) == []
        for method in ("runs.get", "runs.cancel"):
            with pytest.raises(NotFoundError):
                sdk(method, thread_id, run["run_id"])
        assert len(waiting.result(PATIENCE)["steps"]) > 2
        assert sdk("threads.get", thread_id)["status"] == "idle"
        assert sdk("runs.wait", thread_id, "steps_async", input={"n": 1})["steps"] == [1]

    def test_has_its_runs_cancelled_together(
        self, sdk: Sdk, beside: Beside, endless: tuple[str, Future[Any]]
    ) -> None:
        thread_id, first = endless
        waiting = [beside("runs.wait", thread_id, "steps_async", **_without_end())]
        waiting += [beside("runs.wait", thread_id, "steps_async", **_without_end())]
        eventually(lambda: len(sdk("runs.list", thread_id, status="pending")) == 2)
        ids = [each["run_id"] for each in sdk("runs.list", thread_id, status="pending")]
        assert sdk("runs.cancel_many", thread_id=thread_id, run_ids=ids) is None
        for each in waiting:
            each.result(PATIENCE)
        assert not first.done()
        sdk("runs.cancel_many", thread_id=thread_id, status="running", action="rollback")
        first.result(PATIENCE)
        eventually(lambda: len(sdk("runs.list", thread_id)) == 2)
        assert {each["run_id"] for each in sdk("runs.list", thread_id)} == set(ids)
        assert {each["status"] for each in sdk("runs.list", thread_id)} == {"interrupted"}
        with pytest.raises(UnprocessableEntityError, match="run_ids"):
            sdk("runs.cancel_many", thread_id=thread_id)

    @pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
    def test_is_taken_over_by_a_run_that_asks_for_it(
        self, sdk: Sdk, endless: tuple[str, Future[Any]], strategy: str
    ) -> None:
        thread_id, waiting = endless
        given = {"input": {"n": 1}, "multitask_strategy": strategy}
        steps = sdk("runs.wait", thread_id, "steps_async", **given)["steps"]
        before = len(waiting.result(PATIENCE)["steps"])
        assert before > 2
        assert steps == [1] if strategy == "rollback" else len(steps) > 2
        statuses = [each["status"] for each in sdk("runs.list", thread_id)]
        assert statuses == (["success"] if strategy == "rollback" else ["success", "interrupted"])


def test_a_wait_outlives_the_process_that_it_was_on(
    form: str, serve: ServerFactory, valkey: RedisServer, tmp_path: Path
) -> None:
    """The SDK goes to the run's Location when its connection breaks."""
    config = PROJECTS / "zoo" / "langgraph.json"
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=config, RUN_LEASE_SECONDS=6)
    sdk, thread_id, gate = Sdk(server.url, form), str(uuid4()), Gate(tmp_path)
    has_headers = threading.Event()
    killed, _ = server.workers()
    given = {
        "input": {**gate.input, "n": 5},
        "if_not_exists": "create",
        "durability": "sync",
        "on_run_created": lambda _: has_headers.set(),
    }
    with ThreadPoolExecutor(1) as pool, pytest.warns(UserWarning, match="attempting reconnect"):
        with only(server, killed):
            waiting = pool.submit(sdk, "runs.wait", thread_id, "steps_sync", **given)
            assert has_headers.wait(PATIENCE)
            in_the_third_step(server, thread_id)
            [run] = sdk("runs.list", thread_id)
            os.kill(killed, signal.SIGKILL)
        gate.open()
        lapse(valkey, run["run_id"])
        assert waiting.result(PATIENCE)["steps"] == [1, 2, 3, 4, 5]
    assert [each["status"] for each in sdk("runs.list", thread_id)] == ["success"]


class TestRemoteGraph:
    """Of the example; tests/e2e/test_states.py has more of its states."""

    def test_follows_and_changes_an_approval(self, office: Sdk, examples: Server) -> None:
        thread_id = _asked(office)
        config: Any = {"configurable": {"thread_id": thread_id}}
        graph = RemoteGraph("approval", url=examples.url, sync_client=None)
        state = graph.get_state(config)
        assert (state.values["draft"], state.next) == (DRAFT, ("approve",))
        assert [each.value["question"] for each in state.interrupts] == ["Send this?"]
        changed = graph.update_state(config, {"draft": "Mine."}, as_node="write")
        states = list(graph.get_state_history(config))
        assert states[0].config == changed
        assert [each.next for each in states] == [
            ("approve",),
            ("approve",),
            ("write",),
            ("__start__",),
        ]
        assert graph.get_state(states[1].config).values["draft"] == DRAFT
        nodes = graph.get_graph().nodes
        assert set(nodes) == {"__start__", "write", "approve", "send", "__end__"}

    def test_does_so_on_an_event_loop(self, office: Sdk, examples: Server) -> None:
        thread_id = _asked(office)
        config: Any = {"configurable": {"thread_id": thread_id}}

        async def use() -> None:
            async with get_client(url=examples.url) as client:
                graph = RemoteGraph("approval", client=client)
                changed = await graph.aupdate_state(config, {"draft": "Mine."}, as_node="write")
                state = await graph.aget_state(changed)
                assert (state.values["draft"], state.next) == ("Mine.", ("approve",))
                found = [each async for each in graph.aget_state_history(config, limit=2)]
                assert [each.values["draft"] for each in found] == ["Mine.", DRAFT]
                assert "approve" in (await graph.aget_graph()).nodes

        asyncio.run(use())


def test_the_server_tells_the_sdks_what_it_can_do(zoo: Server) -> None:
    flags = zoo.http.get("/info").json()["flags"]
    assert (flags["assistants"], flags["strict_resume"], flags["crons"]) == (True, True, True)


def test_one_client_serves_many_threads_at_once(zoo: Server) -> None:
    """Over connections that the client keeps, and so both workers."""

    async def use() -> list[Any]:
        async with get_client(url=zoo.url) as client:
            made = [str(uuid4()) for _ in range(20)]
            await asyncio.gather(
                *(
                    client.runs.wait(each, "echo", input={"value": n}, if_not_exists="create")
                    for n, each in enumerate(made)
                )
            )
            return list(await asyncio.gather(*(client.threads.get_state(each) for each in made)))

    states = asyncio.run(use())
    assert [each["values"]["value"] for each in states] == list(range(20))
    with get_sync_client(url=zoo.url) as client:
        deleted = [each["checkpoint"]["thread_id"] for each in states]
        assert client.threads.prune(deleted) == {"pruned_count": 20}
