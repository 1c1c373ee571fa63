"""Kept threads by LangGraph's SDK, in both its forms, across two processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from tests.e2e.calls import FOREVER, UNLIMITED, Gate, Sdk
from tests.servers import Server, eventually


@pytest.fixture(params=["sync", "async"])
def sdk(request: pytest.FixtureRequest, zoo: Server) -> Sdk:
    return Sdk(zoo.url, request.param)


@pytest.fixture
def mark() -> dict[str, str]:
    """Metadata by which a test finds its own threads."""
    return {"test": str(uuid4())}


def names(threads: list[Any]) -> list[Any]:
    return [each["metadata"].get("name") for each in threads]


def test_a_thread_is_made_read_changed_and_deleted(sdk, mark):
    made = sdk("threads.create", metadata=mark, graph_id="echo", ttl=60)
    thread_id = made["thread_id"]
    assert made["metadata"] == {**mark, "graph_id": "echo"}
    assert (made["status"], made["values"], made["interrupts"]) == ("idle", None, {})
    assert sdk("threads.get", thread_id) == made
    assert sdk("threads.get", thread_id, include=["ttl"])["ttl"]["ttl_minutes"] == 60
    patched = sdk("threads.update", thread_id, metadata={"name": "a"}, ttl=90)
    assert patched["metadata"] == {**mark, "graph_id": "echo", "name": "a"}
    assert sdk("threads.update", thread_id, metadata={"n": 1}, return_minimal=True) is None
    assert sdk("threads.get", thread_id, include=["ttl"])["ttl"]["ttl_minutes"] == 90
    sdk("threads.delete", thread_id)
    for method in ("get", "delete", "copy"):
        with pytest.raises(NotFoundError):
            sdk(f"threads.{method}", thread_id)
    assert sdk("threads.search", metadata=mark) == []


def test_of_many_that_make_the_same_thread_at_once_one_wins(sdk, mark):
    thread_id = str(uuid4())

    def create(number: int) -> int | None:
        try:
            sdk("threads.create", thread_id=thread_id, metadata={**mark, "name": number})
        except ConflictError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        (winner,) = (each for each in pool.map(create, range(8)) if each is not None)
    made = sdk("threads.create", thread_id=thread_id, if_exists="do_nothing")
    assert names([made]) == [winner]


def test_what_a_run_left_is_on_the_thread(sdk, mark):
    thread_id = sdk("threads.create", metadata=mark)["thread_id"]
    sdk("runs.wait", thread_id, "echo", input={"value": "hi"}, metadata={"name": "run"})
    thread = sdk("threads.get", thread_id)
    assert (thread["status"], thread["values"]) == ("idle", {"value": "hi"})
    assert thread["metadata"]["graph_id"] == "echo"
    assert thread["metadata"]["test"] == mark["test"]
    assert thread["state_updated_at"] > thread["created_at"]


def test_what_waits_for_an_answer_is_on_the_thread(sdk, mark):
    thread_id = sdk("threads.create", metadata=mark)["thread_id"]
    document = sdk("runs.wait", thread_id, "two_interrupts", input={})
    (found,) = sdk("threads.search", metadata=mark, status="interrupted")
    waiting = [each for (each,) in found["interrupts"].values()]
    assert sorted(each["value"]["ask"] for each in waiting) == ["left", "right"]
    assert {each["id"] for each in waiting} == {each["id"] for each in document["__interrupt__"]}
    copied = sdk("threads.copy", thread_id)
    assert (copied["status"], copied["interrupts"]) == ("interrupted", found["interrupts"])
    resume = {each["id"]: "yes" for each in waiting}
    answer = sdk("runs.wait", copied["thread_id"], "two_interrupts", command={"resume": resume})
    assert sorted(answer["answers"]) == ["left: yes", "right: yes"]
    assert sdk("threads.get", thread_id)["status"] == "interrupted"
    assert sdk("threads.count", metadata=mark, status="interrupted") == 1
    assert sdk("threads.count", metadata=mark, status="idle") == 1


def test_what_failed_is_on_the_thread(sdk, mark):
    thread_id = sdk("threads.create", metadata=mark)["thread_id"]
    sdk("runs.wait", thread_id, "fails", input={}, raise_error=False)
    (found,) = sdk("threads.search", metadata=mark, status="error")
    assert found["thread_id"] == thread_id
    assert found["error"].keys() == {"error", "message"}


def test_threads_are_found_by_metadata_values_and_ids(sdk, mark, zoo):
    made = []
    for number, name in enumerate("abcde"):
        metadata = {**mark, "name": name, "deep": {"odd": number % 2 == 1}, "tags": [name, "all"]}
        made.append(sdk("threads.create", metadata=metadata)["thread_id"])
    sdk("runs.wait", made[1], "echo", input={"value": {"x": [1, 2]}})
    sdk("runs.wait", made[3], "echo", input={"value": {"x": [2, 3]}})

    def found(**query: Any) -> list[Any]:
        query.setdefault("sort_by", "created_at")
        return names(sdk("threads.search", metadata={**mark, **query.pop("metadata", {})}, **query))

    assert found() == list("edcba")
    assert found(sort_order="asc", limit=2, offset=1) == ["b", "c"]
    assert found(sort_by="updated_at", limit=1) == ["d"]
    assert found(metadata={"deep": {"odd": True}}) == ["d", "b"]
    assert found(metadata={"tags": ["all", "c"]}) == ["c"]
    assert found(values={"value": {"x": [2]}}) == ["d", "b"]
    assert found(values={"value": {"x": [1]}}) == ["b"]
    assert found(ids=[made[0], made[4], str(uuid4())]) == ["e", "a"]
    assert sdk("threads.count", metadata=mark, values={"value": {"x": [3]}}) == 1
    (only,) = sdk("threads.search", metadata={**mark, "name": "a"}, select=["status"])
    assert only == {"status": "idle"}
    answer = zoo.http.post("/threads/search", json={"metadata": mark, "limit": 3})
    assert answer.headers["X-Pagination-Total"] == "5"
    assert answer.headers["X-Pagination-Next"] == "3"
    answer = zoo.http.post("/threads/search", json={"metadata": mark, "limit": 3, "offset": 3})
    assert answer.headers["X-Pagination-Total"] == "5"
    assert "X-Pagination-Next" not in answer.headers


def test_a_busy_thread_shows_what_it_held_and_is_deleted_with_its_run(sdk, mark):
    thread_id = sdk("threads.create", metadata=mark)["thread_id"]
    sdk("runs.wait", thread_id, "echo", input={"value": "before"})
    with ThreadPoolExecutor(1) as pool:
        options = {"input": FOREVER, "config": UNLIMITED, "raise_error": False}
        waiting = pool.submit(sdk, "runs.wait", thread_id, "steps_async", **options)
        (busy,) = eventually(lambda: sdk("threads.search", metadata=mark, status="busy"))
        assert busy["error"] is None
        sdk("threads.delete", thread_id)
        waiting.exception()
    with pytest.raises(NotFoundError):
        sdk("threads.get", thread_id)
    assert sdk("threads.search", metadata=mark) == []


def test_threads_are_pruned(sdk, mark):
    one, two = (sdk("threads.create", metadata=mark)["thread_id"] for _ in range(2))
    for value in ("a", "b"):
        sdk("runs.wait", one, "echo", input={"value": value})
    assert sdk("threads.prune", [one, str(uuid4())], strategy="keep_latest") == {"pruned_count": 1}
    assert len(sdk("threads.get_history", one)) == 1
    assert sdk("threads.get", one)["values"] == {"value": "b"}
    assert sdk("threads.prune", [one, two, one]) == {"pruned_count": 2}
    assert sdk("threads.count", metadata=mark) == 0


def test_a_thread_is_built_from_supersteps(sdk, mark):
    steps = [
        {"updates": [{"values": {"names": ["before"]}, "as_node": "__start__"}]},
        {"updates": [{"values": {"names": ["mine"]}, "as_node": "a"}]},
    ]
    made = sdk("threads.create", metadata=mark, graph_id="breakpoints", supersteps=steps)
    assert (made["status"], made["values"]) == ("interrupted", {"names": ["before", "mine"]})
    answer = sdk("runs.wait", made["thread_id"], "breakpoints", input=None)
    assert answer == {"names": ["before", "mine", "b", "c"]}
    with pytest.raises(UnprocessableEntityError):
        steps[1]["updates"][0]["as_node"] = "nope"
        sdk("threads.create", metadata=mark, graph_id="breakpoints", supersteps=steps)
    assert sdk("threads.count", metadata=mark) == 1


def test_a_thread_that_goes_with_its_run_is_there_while_it_runs_and_not_found(
    sdk: Sdk, mark: dict[str, str], tmp_path: Path
) -> None:
    seen: list[Any] = []
    with Gate(tmp_path) as gate:

        def on_run_created(run: Any) -> None:
            reader = Sdk(sdk.url, "sync")
            seen.append(reader("threads.get", run["thread_id"]))
            seen.append(reader("threads.search", metadata=mark))
            seen.append(reader("threads.search", ids=[run["thread_id"]]))
            gate.open()

        options = {"input": gate.input, "metadata": mark, "on_run_created": on_run_created}
        sdk("runs.wait", None, "sleep_sync", **options)
    thread, *found = seen
    assert (thread["status"], thread["values"]) == ("busy", None)
    assert found == [[], []]
    with pytest.raises(NotFoundError):
        sdk("threads.get", thread["thread_id"])
