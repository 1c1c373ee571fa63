"""Runs on kept threads, across real processes: turns, strategies, cancels, processes that die."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from runwait.storage import records
from tests.e2e.calls import (
    FOREVER,
    UNLIMITED,
    begun,
    detail,
    document,
    fresh_get,
    in_the_third_step,
    lapse,
    lines,
    only,
    pause,
    resume,
    run_id_of,
    stored_steps,
)
from tests.faulty import FaultyNetwork
from tests.servers import PATIENCE, PROJECTS, Server, eventually

ZOO = str(PROJECTS / "zoo" / "langgraph.json")
UNKNOWN = "01a20acd-2b83-70b2-a8d5-eb34efcb8229"


def wait_on(server: Server, thread_id: str, graph: str, **fields: Any) -> httpx.Response:
    """POST /threads/{t}/runs/wait on a connection of its own."""
    body = {"assistant_id": graph, **fields}
    return httpx.post(f"{server.url}/threads/{thread_id}/runs/wait", json=body, timeout=PATIENCE)


def keep(server: Server, graph: str, **fields: Any) -> tuple[str, Any]:
    """A kept thread made by a run, and the run's document."""
    body = {"assistant_id": graph, "input": {}, "on_completion": "keep", **fields}
    response = httpx.post(f"{server.url}/runs/wait", json=body, timeout=PATIENCE)
    assert response.status_code == 200, response.text
    return thread_of(response), response.json()


def thread_of(response: httpx.Response) -> str:
    return response.headers["Content-Location"].split("/")[2]


def new_thread(server: Server) -> str:
    thread_id: str = server.http.post("/threads", json={}).json()["thread_id"]
    return thread_id


def get(server: Server, path: str) -> Any:
    response = fresh_get(server, path)
    assert response.status_code == 200, response.text
    return response.json()


def everything(server: Server, thread_id: str) -> Any:
    """All that can be read of a thread, but for when it was last used."""
    thread = get(server, f"/threads/{thread_id}")
    for name in ("updated_at", "state_updated_at"):
        del thread[name]
    states = get(server, f"/threads/{thread_id}/history?limit=100")
    return thread, get(server, f"/threads/{thread_id}/state"), states


def get_run(server: Server, thread_id: str) -> str:
    """The id of the only run on a thread."""
    [run] = get(server, f"/threads/{thread_id}/runs")
    run_id: str = run["run_id"]
    return run_id


@pytest.fixture
def on_thread() -> Iterator[Callable[..., Future[httpx.Response]]]:
    """Waits for runs beside the test."""
    with ThreadPoolExecutor(32) as pool:
        yield lambda server, thread_id, graph, **fields: pool.submit(
            wait_on, server, thread_id, graph, **fields
        )


# Keeping


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("graph", ["steps_sync", "steps_async"])
def test_a_kept_thread_holds_the_state_and_goes_on_from_it(zoo, graph, durability):
    thread_id, document = keep(zoo, graph, input={"n": 2}, durability=durability)
    assert document["steps"] == [1, 2]
    assert get(zoo, f"/threads/{thread_id}/state")["values"] == document
    steps = len(get(zoo, f"/threads/{thread_id}/history"))
    assert steps == (1 if durability == "exit" else 4)
    assert wait_on(zoo, thread_id, graph, input={"n": 4}).json()["steps"] == [1, 2, 3, 4]
    thread = get(zoo, f"/threads/{thread_id}")
    assert (thread["status"], thread["values"]["n"]) == ("idle", 4)


def test_a_failed_run_keeps_its_last_checkpoint_and_its_error_is_the_threads(zoo):
    thread_id, document = keep(zoo, "fails", input={"value": 1})
    thread = get(zoo, f"/threads/{thread_id}")
    assert thread["status"] == "error"
    assert thread["error"] == document["__error__"]
    [run] = get(zoo, f"/threads/{thread_id}/runs")
    assert run["status"] == "error"
    assert get(zoo, f"/threads/{thread_id}/state")["next"]


def test_a_value_that_cannot_be_stored_is_an_error_that_names_channel_and_type(zoo):
    _, document = keep(zoo, "unstorable")
    error = document["__error__"]
    assert error["error"] == "UnstorableValue"
    assert "value" in error["message"]
    assert "Lock" in error["message"] or "lock" in error["message"]


def test_integers_of_any_size_are_kept(zoo):
    big = 2**200 + 1
    thread_id, _ = keep(zoo, "echo", input={"value": {"n": [big, -big]}})
    assert get(zoo, f"/threads/{thread_id}/state")["values"] == {"value": {"n": [big, -big]}}


def test_a_join_is_answered_from_the_last_checkpoint_once_the_result_is_gone(serve, valkey):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    expected = {}
    for graph, fields in {
        "two_interrupts": {},
        "steps_sync": {"n": 2},
        "fails": {"value": 1},
        # Whose state has more than its output.
        "child": {"names": ["a", "b"]},
        # Whose output is the value of one channel.
        "entry": [1, {"a": 2}],
        "none_output": {},
    }.items():
        thread_id, document = keep(server, graph, input=fields)
        [run] = get(server, f"/threads/{thread_id}/runs")
        expected[f"/threads/{thread_id}/runs/{run['run_id']}/join"] = document
        # Another run on the thread does not change what the first one gave.
        wait_on(server, thread_id, "steps_sync", input={"n": 5})
    for key in valkey.client.keys("{runwait}:result:*"):
        valkey.client.delete(key)
    for path, document in expected.items():
        found = get(server, path)
        for each in (document, found):
            waiting = each.get("__interrupt__", []) if isinstance(each, dict) else []
            for interrupt in waiting:
                interrupt.pop("response_schema", None)
            # Parallel ones come in the order in which their nodes got to them.
            waiting.sort(key=lambda interrupt: interrupt["id"])
        assert found == document


def test_an_idle_thread_expires_whole(serve, valkey):
    server = serve(
        REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, THREAD_TTL_SECONDS=600, RUN_LEASE_SECONDS=1
    )
    before = time.time()
    thread_id, _ = keep(server, "steps_sync", input={"n": 3}, metadata={"who": "me"})
    assert valkey.client.keys(f"*{thread_id}*")
    due = valkey.client.zscore("{runwait}:threads:expiry", thread_id)
    assert before + 600 <= due / 1000 <= time.time() + 600
    # As if the time had passed.
    valkey.client.zadd("{runwait}:threads:expiry", {thread_id: 1})

    # What marks the thread as gone goes by itself after an hour.
    lasting = re.compile(rb":(result|beat|tokens|fence|gone)\b")
    eventually(lambda: not [key for key in valkey.client.keys("*") if not lasting.search(key)])
    assert fresh_get(server, f"/threads/{thread_id}").status_code == 404


# Resuming


def test_an_approval_is_given_in_another_process(zoo):
    first, second = zoo.workers()
    with only(zoo, first):
        thread_id, document = keep(zoo, "two_interrupts")
    answers = {each["id"]: f"yes to {each['value']['ask']}" for each in document["__interrupt__"]}
    with only(zoo, second):
        document = wait_on(zoo, thread_id, "two_interrupts", command={"resume": answers}).json()
    assert document["answers"] == ["left: yes to left", "right: yes to right"]


@pytest.mark.parametrize(
    "resume", ["x", {"0" * 32: "x"}], ids=["not said which", "no such interrupt"]
)
def test_a_resume_that_nothing_waits_for_is_refused_and_changes_nothing(zoo, resume):
    thread_id, _ = keep(zoo, "two_interrupts")
    before = everything(zoo, thread_id)
    refused = wait_on(zoo, thread_id, "two_interrupts", command={"resume": resume})
    assert refused.status_code == 409
    assert "command.resume" in refused.json()["detail"]
    assert everything(zoo, thread_id) == before


def test_a_resume_of_a_thread_that_ended_is_refused(zoo):
    thread_id, _ = keep(zoo, "echo")
    refused = wait_on(zoo, thread_id, "echo", command={"resume": "x"})
    assert refused.status_code == 409
    assert get(zoo, f"/threads/{thread_id}")["status"] == "idle"


def test_a_resume_that_finds_nothing_in_its_turn_fails_and_leaves_the_thread(zoo, on_thread, gate):
    thread_id, document = keep(zoo, "two_interrupts")
    before = get(zoo, f"/threads/{thread_id}/history")
    first = on_thread(zoo, thread_id, "sleep_sync", input=gate.input)
    eventually(lambda: get(zoo, f"/threads/{thread_id}")["status"] == "busy")
    answers = {each["id"]: "x" for each in document["__interrupt__"]}
    second = on_thread(zoo, thread_id, "two_interrupts", command={"resume": answers})
    eventually(lambda: get(zoo, f"/threads/{thread_id}/runs?status=pending"))
    gate.open()
    assert first.result().status_code == 200
    error = second.result().json()["__error__"]
    assert error["error"] == "NothingToResume"
    # Also once the result is gone.
    zoo.valkey.client.delete("{runwait}:result:" + run_id_of(second.result()))
    assert get(zoo, second.result().headers["Location"]) == {"__error__": error}
    thread, state, states = everything(zoo, thread_id)
    assert (thread["status"], thread["error"], thread["interrupts"]) == ("idle", None, {})
    # What is there is what was there, and what the first run wrote: its input, and its one step.
    assert states[0]["checkpoint"] == state["checkpoint"]
    first_run = get(zoo, f"/threads/{thread_id}/runs")[1]["run_id"]
    written = states[: -len(before)]
    assert [each["metadata"]["run_id"] for each in written] == [first_run] * 3
    assert [each["checkpoint"] for each in states[len(written) :]] == [
        each["checkpoint"] for each in before
    ]


def test_a_breakpoint_is_passed_with_input_null(zoo):
    thread_id, document = keep(zoo, "breakpoints", input={"names": []}, interrupt_before=["b"])
    assert document["names"] == ["a"]
    assert get(zoo, f"/threads/{thread_id}")["status"] == "interrupted"
    assert get(zoo, f"/threads/{thread_id}/state")["next"] == ["b"]
    document = wait_on(zoo, thread_id, "breakpoints", input=None).json()
    assert document["names"] == ["a", "b", "c"]


def test_a_run_starts_from_an_earlier_checkpoint(zoo):
    thread_id, _ = keep(zoo, "breakpoints", input={"names": []})
    states = get(zoo, f"/threads/{thread_id}/history")
    [after_a] = [each for each in states if each["next"] == ["b"]]
    for fields in (
        {"checkpoint_id": after_a["checkpoint_id"]},
        {"checkpoint": after_a["checkpoint"]},
        {"checkpoint": {"checkpoint_map": {"": after_a["checkpoint_id"]}}},
        {"config": {"configurable": {"checkpoint_id": after_a["checkpoint_id"]}}},
    ):
        document = wait_on(zoo, thread_id, "breakpoints", input=None, **fields).json()
        assert document["names"] == ["a", "b", "c"]
        fork = get(zoo, f"/threads/{thread_id}/state")
        assert fork["checkpoint_id"] not in [each["checkpoint_id"] for each in states]


def test_what_is_not_there_is_a_404_and_makes_nothing(zoo):
    assert wait_on(zoo, UNKNOWN, "echo", input={}).status_code == 404
    assert fresh_get(zoo, f"/threads/{UNKNOWN}").status_code == 404
    thread_id = new_thread(zoo)
    response = wait_on(zoo, thread_id, "echo", input={}, checkpoint_id=UNKNOWN)
    assert (response.status_code, UNKNOWN in response.text) == (404, True)
    response = wait_on(zoo, thread_id, "echo", input={}, checkpoint={"checkpoint_ns": "zz"})
    assert detail(response, 404) == "checkpoint in namespace 'zz' not found"
    nowhere = {"checkpoint_map": {"": UNKNOWN}}
    for fields in ({"checkpoint": nowhere}, {"config": {"configurable": nowhere}}):
        response = wait_on(zoo, thread_id, "echo", input={}, **fields)
        assert detail(response, 404) == f"checkpoint {UNKNOWN} not found"
    assert get(zoo, f"/threads/{thread_id}/runs") == []
    made = wait_on(
        zoo, "01a20acd-2b83-70b2-a8d5-eb34efcb8230", "echo", input={}, if_not_exists="create"
    )
    assert made.status_code == 200


# Turns


def test_runs_on_a_thread_have_it_in_order_of_their_arrival_in_all_processes(zoo, on_thread, gate):
    thread_id = new_thread(zoo)
    first = on_thread(zoo, thread_id, "sleep_sync", input=gate.input)
    eventually(lambda: get(zoo, f"/threads/{thread_id}/runs"))
    answers = []
    for n in range(1, 9):
        answers.append(on_thread(zoo, thread_id, "steps_sync", input={"n": n}))
        eventually(lambda n=n: len(get(zoo, f"/threads/{thread_id}/runs?limit=20")) == n + 1)
    *others, running = get(zoo, f"/threads/{thread_id}/runs")
    assert running["status"] == "running"
    assert {each["status"] for each in others} == {"pending"}
    gate.open()
    assert first.result().status_code == 200
    for n, answer in enumerate(answers, 1):
        assert answer.result().json()["steps"] == list(range(1, n + 1))


def test_a_busy_thread_refuses_who_asks_it_to(zoo, on_thread, gate):
    thread_id = new_thread(zoo)
    first = on_thread(zoo, thread_id, "sleep_sync", input=gate.input)
    eventually(lambda: get(zoo, f"/threads/{thread_id}/runs"))
    refused = wait_on(zoo, thread_id, "echo", input={}, multitask_strategy="reject")
    assert refused.status_code == 409
    gate.open()
    assert first.result().json()["done"] is True
    assert len(get(zoo, f"/threads/{thread_id}/runs")) == 1


@pytest.mark.parametrize("graph", ["steps_sync", "steps_async"])
def test_an_interrupting_run_goes_on_from_what_the_other_left(zoo, on_thread, tmp_path, graph):
    thread_id = new_thread(zoo)
    file = tmp_path / "file"
    endless = {**FOREVER, "file": str(file)}
    first = on_thread(zoo, thread_id, graph, input=endless, config=UNLIMITED)
    eventually(lambda: len(stored_steps(zoo, thread_id)) > 3)
    waiting = on_thread(zoo, thread_id, graph, input=endless, config=UNLIMITED)
    eventually(lambda: len(get(zoo, f"/threads/{thread_id}/runs")) == 2)
    second = wait_on(zoo, thread_id, graph, input={"n": 1}, multitask_strategy="interrupt").json()
    assert len(first.result().json()["steps"]) >= 3
    assert waiting.result().json() == {}
    kept = second["steps"]
    assert kept == list(range(1, len(kept) + 1))
    assert len(kept) >= 3
    runs = get(zoo, f"/threads/{thread_id}/runs")
    assert [each["status"] for each in runs] == ["success", "interrupted", "interrupted"]


@pytest.mark.parametrize("graph", ["steps_sync", "steps_async"])
def test_a_rollback_leaves_the_thread_as_it_was_before(zoo, on_thread, tmp_path, graph):
    thread_id, _ = keep(zoo, graph, input={"n": 2})
    before = everything(zoo, thread_id)
    file = tmp_path / "file"
    first = on_thread(zoo, thread_id, graph, input={**FOREVER, "file": str(file)}, config=UNLIMITED)
    # The fifth step begins once the process knows what the fourth made.
    eventually(lambda: len(lines(file)) > 4)
    [undone, _] = get(zoo, f"/threads/{thread_id}/runs")
    path = f"/threads/{thread_id}/runs/{undone['run_id']}"
    cancel = f"{zoo.url}{path}/cancel?action=rollback&wait=1"
    assert httpx.post(cancel, timeout=PATIENCE).status_code == 202
    assert everything(zoo, thread_id) == before
    assert len(first.result().json()["steps"]) > 3
    assert fresh_get(zoo, path).status_code == 404
    assert fresh_get(zoo, f"{path}/join").status_code == 404
    assert len(get(zoo, f"/threads/{thread_id}/runs")) == 1
    answer = wait_on(zoo, thread_id, graph, input={"n": 3}, multitask_strategy="rollback")
    assert answer.json()["steps"] == [1, 2, 3]


def test_a_rollback_gives_the_thread_back_to_the_graph_that_had_it(zoo, on_thread, tmp_path):
    thread_id, _ = keep(zoo, "two_interrupts", metadata={"who": "me"})
    before = everything(zoo, thread_id)
    file = tmp_path / "file"
    endless = {**FOREVER, "file": str(file)}
    first = on_thread(zoo, thread_id, "steps_async", input=endless, config=UNLIMITED)
    eventually(lambda: len(lines(file)) > 2)
    assert get(zoo, f"/threads/{thread_id}")["metadata"]["graph_id"] == "steps_async"
    [undone, _] = get(zoo, f"/threads/{thread_id}/runs")
    path = f"/threads/{thread_id}/runs/{undone['run_id']}/cancel?action=rollback&wait=1"
    assert httpx.post(f"{zoo.url}{path}", timeout=PATIENCE).status_code == 202
    first.result()
    assert everything(zoo, thread_id) == before


def test_a_resume_that_is_rolled_back_can_be_given_again(zoo, on_thread, tmp_path):
    thread_id, document = keep(zoo, "asks_twice", input={"file": str(tmp_path / "file")})
    before = everything(zoo, thread_id)
    first = on_thread(zoo, thread_id, "asks_twice", command={"resume": "hang"})
    eventually(lambda: lines(tmp_path / "file"))
    [undone, _] = get(zoo, f"/threads/{thread_id}/runs")
    path = f"/threads/{thread_id}/runs/{undone['run_id']}/cancel?action=rollback&wait=1"
    assert httpx.post(f"{zoo.url}{path}", timeout=PATIENCE).status_code == 202
    first.result()
    assert everything(zoo, thread_id) == before
    document = wait_on(zoo, thread_id, "asks_twice", command={"resume": "one"}).json()
    assert [each["value"] for each in document["__interrupt__"]] == ["second"]
    document = wait_on(zoo, thread_id, "asks_twice", command={"resume": "two"}).json()
    assert document["answers"] == ["one", "two"]


# Cancels


@pytest.mark.parametrize("graph", ["steps_sync", "steps_async"])
def test_a_cancel_reaches_a_run_in_another_process(zoo, tmp_path, graph):
    first, second = zoo.workers()
    file = tmp_path / "file"
    thread_id = new_thread(zoo)
    answers: list[Any] = []
    with only(zoo, first):
        running = threading.Thread(
            target=lambda: answers.append(
                wait_on(
                    zoo, thread_id, graph, input={**FOREVER, "file": str(file)}, config=UNLIMITED
                ).json()
            )
        )
        running.start()
        # The second step begins once the process knows what the first made.
        eventually(lambda: len(lines(file)) > 1)
        [run] = get(zoo, f"/threads/{thread_id}/runs")
    # The other process takes the cancel; the run's own goes on as soon as it is let.
    with only(zoo, second):
        cancel = f"{zoo.url}/threads/{thread_id}/runs/{run['run_id']}/cancel"
        assert httpx.post(cancel, timeout=PATIENCE).status_code == 202
    running.join(PATIENCE)
    assert answers[0]["steps"]
    eventually(lambda: get(zoo, f"/threads/{thread_id}")["status"] == "interrupted")
    assert httpx.post(cancel, timeout=PATIENCE).status_code == 404


def test_a_cancel_is_heard_at_once_and_not_with_the_next_beat(zoo, tmp_path):
    first, second = zoo.workers()

    def beat() -> bytes:
        return zoo.valkey.client.hget("{runwait}:beat", "at")

    def is_heard_between_two_beats(file: Path) -> bool:
        fields = {"input": {"seconds": 600, "file": str(file)}}
        with contextlib.ExitStack() as stack:
            with only(zoo, first):
                answer = stack.enter_context(begun(zoo, "sleep_async", **fields))
                eventually(lambda: lines(file))
            with only(zoo, second):
                before = beat()
                cancel = f"{zoo.url}{answer.headers['Content-Location']}/cancel"
                assert httpx.post(cancel, timeout=PATIENCE).status_code == 202
            answer.read()
            return beat() == before

    # One may just fall into a beat.
    assert any(is_heard_between_two_beats(tmp_path / str(attempt)) for attempt in range(20))


def test_nothing_of_a_cancelled_run_reaches_the_thread_even_if_a_node_would_not_stop(
    zoo, on_thread, tmp_path, gate
):
    thread_id = new_thread(zoo)
    file = tmp_path / "file"
    steps = {**gate.input, "n": 5, "file": str(file)}
    stuck = on_thread(zoo, thread_id, "steps_sync", input=steps)
    in_the_third_step(zoo, thread_id)
    run = get_run(zoo, thread_id)
    cancel = f"{zoo.url}/threads/{thread_id}/runs/{run}/cancel?wait=true"
    assert httpx.post(cancel, timeout=PATIENCE).status_code == 202
    stuck.result()
    left = everything(zoo, thread_id)
    gate.open()
    eventually(lambda: lines(file) == ["1", "2", "3"])
    # The node returned just now; a run on the thread comes after whatever it would have written.
    document = wait_on(zoo, thread_id, "steps_sync", input={"n": 3}).json()
    assert document["steps"] == [1, 2, 3]
    assert lines(file) == ["1", "2", "3", "3"]
    before = [each["checkpoint_id"] for each in left[2]]
    after = [each["checkpoint_id"] for each in get(zoo, f"/threads/{thread_id}/history")]
    assert after[-len(before) :] == before
    assert len(after) == len(before) + 3


def test_runs_are_cancelled_by_ids_and_by_status(zoo, on_thread, tmp_path):
    thread_id = new_thread(zoo)
    file = tmp_path / "file"
    answers = [
        on_thread(
            zoo, thread_id, "steps_sync", input={**FOREVER, "file": str(file)}, config=UNLIMITED
        )
        for _ in range(3)
    ]
    eventually(lambda: len(get(zoo, f"/threads/{thread_id}/runs")) == 3)
    pending = get(zoo, f"/threads/{thread_id}/runs?status=pending")
    body = {"thread_id": thread_id, "run_ids": [each["run_id"] for each in pending]}
    assert zoo.http.post("/runs/cancel", json=body).status_code == 204
    eventually(lambda: not get(zoo, f"/threads/{thread_id}/runs?status=pending"))
    body = {"thread_id": thread_id, "status": "all"}
    assert zoo.http.post("/runs/cancel?action=interrupt", json=body).status_code == 204
    for answer in answers:
        assert answer.result().status_code == 200
    runs = get(zoo, f"/threads/{thread_id}/runs")
    assert {each["status"] for each in runs} == {"interrupted"}


@pytest.mark.parametrize("running", [False, True])
def test_a_run_that_is_deleted_is_gone(zoo, on_thread, tmp_path, running):
    thread_id = new_thread(zoo)
    file = tmp_path / "file"
    steps = {**FOREVER, "file": str(file)} if running else {"n": 1, "file": str(file)}
    answer = on_thread(zoo, thread_id, "steps_sync", input=steps, config=UNLIMITED)
    eventually(lambda: lines(file))
    if not running:
        answer.result()
    [run] = get(zoo, f"/threads/{thread_id}/runs")
    path = f"/threads/{thread_id}/runs/{run['run_id']}"
    assert httpx.delete(zoo.url + path, timeout=PATIENCE).status_code == 204
    assert answer.result().status_code == 200
    assert fresh_get(zoo, path).status_code == 404
    assert httpx.delete(zoo.url + path, timeout=PATIENCE).status_code == 404
    assert get(zoo, f"/threads/{thread_id}/runs") == []


def test_a_run_whose_result_nobody_is_to_have_can_be_deleted_while_it_works(
    serve, valkey, tmp_path
):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RESULT_TTL_SECONDS=0)
    with begun(server, "sleep_async", input={"seconds": 600}) as answer:
        path = answer.headers["Content-Location"]
        assert httpx.delete(server.url + path, timeout=PATIENCE).status_code == 204
        assert document(answer) == {"seconds": 600}
    assert fresh_get(server, path).status_code == 404


@pytest.mark.parametrize("deleted", ["run", "ended run", "thread"])
def test_who_waits_in_a_process_that_is_slow_to_look_has_the_answer_of_what_was_deleted(
    serve, valkey, on_thread, tmp_path, gate, deleted
):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RUN_LEASE_SECONDS=3600)
    first, slow = server.workers()
    thread_id = new_thread(server)
    file = tmp_path / "file"
    given = {**gate.input, "n": 3, "file": str(file)}
    with only(server, first):
        run = on_thread(server, thread_id, "steps_async", input=given)
        in_the_third_step(server, thread_id)
        path = f"/threads/{thread_id}/runs/{get_run(server, thread_id)}"
    with contextlib.ExitStack() as stack:
        with only(server, slow):
            url = f"{server.url}{path}/join"
            join = stack.enter_context(httpx.stream("GET", url, timeout=PATIENCE))
        with only(server, first):
            if deleted != "run":
                gate.open()
                assert run.result().json()["steps"] == [1, 2, 3]
            what = path if deleted != "thread" else f"/threads/{thread_id}"
            assert httpx.delete(server.url + what, timeout=PATIENCE).status_code == 204
        assert document(join)["steps"] == ([1, 2] if deleted == "run" else [1, 2, 3])
        assert run.result().json() == document(join)
    assert fresh_get(server, path).status_code == 404
    assert fresh_get(server, f"{path}/join").status_code == 404


def test_a_run_whose_thread_is_deleted_ends_as_cancelled_although_the_message_was_lost(
    serve, valkey, on_thread, tmp_path
):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1)
    thread_id = new_thread(server)
    file = tmp_path / "file"
    steps = {**FOREVER, "file": str(file)}
    options = {"config": UNLIMITED, "durability": "sync"}
    answer = on_thread(server, thread_id, "steps_async", input=steps, **options)
    eventually(lambda: len(lines(file)) > 1)
    valkey.client.execute_command("ACL", "SETUSER", "default", "-subscribe")
    valkey.client.client_kill_filter(_type="pubsub")
    path = f"{server.url}/threads/{thread_id}"
    assert httpx.delete(path, timeout=PATIENCE).status_code == 204
    document = answer.result().json()
    assert document["steps"] == list(range(1, len(document["steps"]) + 1))


def test_a_client_that_goes_away_may_cancel_its_run_while_it_waits_for_its_turn(
    zoo, on_thread, gate
):
    thread_id = new_thread(zoo)
    first = on_thread(zoo, thread_id, "sleep_sync", input=gate.input)
    eventually(lambda: get(zoo, f"/threads/{thread_id}/runs"))
    body = {"assistant_id": "steps_sync", "input": {"n": 1}, "on_disconnect": "cancel"}
    url = f"{zoo.url}/threads/{thread_id}/runs/wait"
    with httpx.stream("POST", url, json=body, timeout=PATIENCE) as response:
        assert response.status_code == 200
        path = response.headers["Content-Location"]
    eventually(lambda: get(zoo, path)["status"] == "interrupted")
    gate.open()
    assert first.result().json()["done"] is True
    assert "steps" not in get(zoo, f"/threads/{thread_id}/state")["values"]


def test_runs_that_wait_for_a_thread_that_is_deleted_are_answered_at_once(
    serve, valkey, on_thread, tmp_path
):
    # A lease so long that nobody could wait for it here.
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RUN_LEASE_SECONDS=3600)
    thread_id = new_thread(server)
    file = tmp_path / "file"
    endless = {**FOREVER, "file": str(file)}
    answers = [on_thread(server, thread_id, "steps_async", input=endless, config=UNLIMITED)]
    eventually(lambda: len(lines(file)) > 2)
    answers.append(on_thread(server, thread_id, "echo", input={}))
    answers.append(on_thread(server, thread_id, "echo", input={}, after_seconds=3600))
    eventually(lambda: len(get(server, f"/threads/{thread_id}/runs")) == 3)
    assert httpx.delete(f"{server.url}/threads/{thread_id}", timeout=PATIENCE).status_code == 204
    first, *others = [each.result().json() for each in answers]
    assert first["steps"]
    assert others == [{}, {}]


def test_a_thread_that_is_deleted_takes_its_runs_along(zoo, on_thread, tmp_path):
    thread_id = new_thread(zoo)
    file = tmp_path / "file"
    steps = {**FOREVER, "file": str(file)}
    answer = on_thread(zoo, thread_id, "steps_async", input=steps, config=UNLIMITED)
    eventually(lambda: len(lines(file)) > 2)
    assert httpx.delete(f"{zoo.url}/threads/{thread_id}", timeout=PATIENCE).status_code == 204
    assert fresh_get(zoo, f"/threads/{thread_id}").status_code == 404
    assert answer.result().status_code == 200
    keys = [
        key
        for key in zoo.valkey.client.keys(f"*{thread_id}*")
        if not key.endswith(b":fence") and b":gone:" not in key
    ]
    assert keys == []


# Processes that are paused and die


# So long that a process that is only slow is not taken for dead; `lapse` ends it.
LEASE_SECONDS = 6


def test_a_process_that_was_paused_changes_nothing_of_what_others_did_since(
    serve, valkey, on_thread, tmp_path, gate
):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RUN_LEASE_SECONDS=LEASE_SECONDS)
    thread_id = new_thread(server)
    paused, _ = server.workers()
    file = tmp_path / "file"
    with only(server, paused):
        steps = {**gate.input, "n": 5, "file": str(file)}
        first = on_thread(server, thread_id, "steps_sync", input=steps, durability="sync")
        in_the_third_step(server, thread_id)
    pause(paused)
    gate.open()
    try:
        run = get_run(server, thread_id)
        lapse(valkey, run)
        join = get(server, f"/threads/{thread_id}/runs/{run}/join")
        assert join["steps"] == [1, 2, 3, 4, 5]
        third = wait_on(server, thread_id, "steps_sync", input={"n": 7})
        assert third.json()["steps"] == [1, 2, 3, 4, 5, 6, 7]
        left = everything(server, thread_id)
        assert lines(file) == ["1", "2", "3", "4", "5", "6", "7"]
    finally:
        resume(paused)
    # Its client is answered with what became of the run elsewhere.
    assert first.result().json()["steps"] == [1, 2, 3, 4, 5]
    eventually(lambda: server.logged("goes on elsewhere"))
    assert everything(server, thread_id) == left


@pytest.mark.parametrize("ttl", [0, 300])
@pytest.mark.parametrize("on_completion", ["delete", "keep"])
def test_a_process_that_was_paused_hears_that_its_run_was_rolled_back(
    serve, valkey, tmp_path, gate, on_completion, ttl
):
    server = serve(
        REDIS_URL=valkey.url,
        LANGGRAPH_CONFIG=ZOO,
        RUN_LEASE_SECONDS=LEASE_SECONDS,
        RESULT_TTL_SECONDS=ttl,
    )
    paused, _ = server.workers()
    file = tmp_path / "file"
    body = {
        "assistant_id": "sleep_async",
        "input": {**gate.input, "file": str(file)},
        "on_completion": on_completion,
    }
    with ThreadPoolExecutor() as pool:
        with only(server, paused):
            answer = pool.submit(httpx.post, f"{server.url}/runs/wait", json=body, timeout=PATIENCE)
            [run] = eventually(lambda: valkey.client.zrange("{runwait}:leases", 0, -1))
            eventually(lambda: lines(file))
        pause(paused)
        try:
            thread_id = valkey.client.hget(b"{runwait}:run:" + run, "thread_id").decode()
            path = f"/threads/{thread_id}/runs/{run.decode()}"
            cancel = f"{server.url}{path}/cancel?action=rollback"
            assert httpx.post(cancel, timeout=PATIENCE).status_code == 202
            lapse(valkey, run.decode())
            eventually(lambda: fresh_get(server, path).status_code == 404)
        finally:
            resume(paused)
        assert "__error__" not in answer.result().json()
    assert lines(file) == ["started"]
    # Who waited may hear of it before the process that had the run does, with its next beat.
    eventually(lambda: all(fresh_get(server, path).status_code == 404 for _ in range(8)))
    assert valkey.client.zcard("{runwait}:leases") == valkey.client.zcard("{runwait}:ready") == 0


@pytest.mark.parametrize("graph", ["steps_sync", "steps_async"])
def test_a_killed_process_loses_no_step_and_none_is_done_twice(
    serve, valkey, on_thread, tmp_path, gate, graph
):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RUN_LEASE_SECONDS=LEASE_SECONDS)
    thread_id = new_thread(server)
    killed, _ = server.workers()
    file = tmp_path / "file"
    with only(server, killed):
        steps = {**gate.input, "n": 5, "file": str(file)}
        first = on_thread(server, thread_id, graph, input=steps, durability="sync")
        in_the_third_step(server, thread_id)
        run = get_run(server, thread_id)
        os.kill(killed, signal.SIGKILL)
        # It is gone when its client knows: nothing of it sees the gate open.
        with pytest.raises(httpx.HTTPError):
            first.result()
    gate.open()
    lapse(valkey, run)
    document = get(server, f"/threads/{thread_id}/runs/{run}/join")
    assert document["steps"] == [1, 2, 3, 4, 5]
    assert lines(file) == ["1", "2", "3", "4", "5"]
    assert get(server, f"/threads/{thread_id}")["status"] == "idle"


def test_a_resume_is_not_lost_with_its_process(serve, valkey, on_thread, tmp_path, gate):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RUN_LEASE_SECONDS=LEASE_SECONDS)
    file = tmp_path / "file"
    given = {"file": str(file), "gate": str(gate.path)}
    thread_id, _ = keep(server, "asks_twice", input=given)
    killed, _ = server.workers()
    with only(server, killed):
        first = on_thread(server, thread_id, "asks_twice", command={"resume": "wait"})
        eventually(lambda: lines(file))
        [run, _] = get(server, f"/threads/{thread_id}/runs")
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(httpx.HTTPError):
            first.result()
    gate.open()
    lapse(valkey, run["run_id"])
    document = get(server, f"/threads/{thread_id}/runs/{run['run_id']}/join")
    assert [each["value"] for each in document["__interrupt__"]] == ["second"]
    document = wait_on(server, thread_id, "asks_twice", command={"resume": "two"}).json()
    assert document["answers"] == ["wait", "two"]


@pytest.mark.parametrize("graph", ["steps_sync", "steps_async"])
@pytest.mark.parametrize("where", ["interrupt_before", "interrupt_after"])
def test_a_process_that_is_killed_at_a_breakpoint_does_not_have_it_passed(
    serve, valkey, on_thread, tmp_path, graph, where
):
    network = FaultyNetwork(valkey.port)
    settings = {"LANGGRAPH_CONFIG": ZOO, "RUN_LEASE_SECONDS": LEASE_SECONDS, "WEB_CONCURRENCY": 1}
    server = serve(REDIS_URL=network.url(), **settings)
    file = tmp_path / "file"
    steps = {"n": 3, "file": str(file)}
    thread_id, _ = keep(server, graph, input=steps, interrupt_before=["step"])
    # It comes to its breakpoint, and cannot say so any more.
    with network.cut(records._FINISH.sha, "request", times=1_000_000) as cut:
        again = {"input": None, "durability": "sync", where: ["step"]}
        on_thread(server, thread_id, graph, **again)
        eventually(lambda: cut.done)
        [worker] = server.workers()
        server.stop(signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)
        # What it sent before it died does not arrive either.
        network.close()
    other = serve(REDIS_URL=valkey.url, **settings)
    [run, _] = get(other, f"/threads/{thread_id}/runs")
    assert run["status"] == "running"
    lapse(valkey, run["run_id"])
    document = get(other, f"/threads/{thread_id}/runs/{run['run_id']}/join")
    assert document["steps"] == [1]
    assert lines(file) == ["1"]
    assert get(other, f"/threads/{thread_id}")["status"] == "interrupted"
    assert get(other, f"/threads/{thread_id}/state")["next"] == ["step"]


@pytest.mark.parametrize("graph", ["steps_sync", "steps_async"])
def test_a_run_that_is_begun_again_does_not_answer_with_what_another_left(
    serve, valkey, on_thread, tmp_path, gate, graph
):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RUN_LEASE_SECONDS=LEASE_SECONDS)
    thread_id, _ = keep(server, "echo", input={"value": "another's"})
    killed, _ = server.workers()
    file = tmp_path / "file"
    with only(server, killed):
        # It has no checkpoint of its own before its end.
        steps = {**gate.input, "n": 3, "file": str(file)}
        first = on_thread(server, thread_id, graph, input=steps, durability="exit")
        eventually(lambda: lines(file) == ["1", "2"])
        [run, _] = get(server, f"/threads/{thread_id}/runs")
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(httpx.HTTPError):
            first.result()
    gate.open()
    lapse(valkey, run["run_id"])
    document = get(server, f"/threads/{thread_id}/runs/{run['run_id']}/join")
    assert document["steps"] == [1, 2, 3]
    assert lines(file) == ["1", "2", "1", "2", "3"]


def test_runs_that_are_handed_back_go_on_in_the_next_process(
    serve, valkey, on_thread, tmp_path, gate
):
    server = serve(
        REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, SHUTDOWN_GRACE_SECONDS=0.5, WEB_CONCURRENCY=1
    )
    thread_id = new_thread(server)
    file = tmp_path / "file"
    steps = {**gate.input, "n": 6, "file": str(file)}
    first = on_thread(server, thread_id, "steps_async", input=steps, durability="sync")
    in_the_third_step(server, thread_id)
    run = get_run(server, thread_id)
    assert server.stop() == 0
    with pytest.raises(httpx.HTTPError):
        first.result()
    gate.open()
    other = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    document = get(other, f"/threads/{thread_id}/runs/{run}/join")
    assert document["steps"] == [1, 2, 3, 4, 5, 6]
    assert lines(file) == ["1", "2", "3", "4", "5", "6"]


def test_without_redis_threads_are_a_503_and_no_run_is_half_taken_in(serve, valkey):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    thread_id, _ = keep(server, "echo")
    valkey.stop()
    for response in (
        wait_on(server, thread_id, "echo", input={}),
        fresh_get(server, f"/threads/{thread_id}"),
        fresh_get(server, f"/threads/{thread_id}/state"),
        httpx.post(
            f"{server.url}/runs/wait",
            json={"assistant_id": "echo", "input": {}, "on_completion": "keep"},
            timeout=PATIENCE,
        ),
    ):
        assert response.status_code == 503
        assert "Retry-After" in response.headers
    valkey.start()
    eventually(lambda: server.log.read_text().count("Redis is back") == 2)
    assert wait_on(server, thread_id, "echo", input={"value": 1}).json() == {"value": 1}
    assert len(get(server, f"/threads/{thread_id}/runs")) == 2


def test_a_run_on_a_thread_of_its_own_has_it_while_it_works(zoo, tmp_path):
    file = tmp_path / "file"
    with begun(zoo, "steps_sync", input={**FOREVER, "file": str(file)}, config=UNLIMITED) as run:
        thread_id = thread_of(run)
        assert get(zoo, f"/threads/{thread_id}")["status"] == "busy"
        path = run.headers["Content-Location"]
        runs = f"/threads/{thread_id}/runs?select=status"
        assert get(zoo, runs) == get(zoo, f"{runs}&status=running") == [{"status": "running"}]
        assert get(zoo, f"{runs}&offset=1") == get(zoo, f"{runs}&status=pending") == []
        # The second step begins once the process knows what the first made.
        eventually(lambda: len(lines(file)) > 1)
        cancel = f"{zoo.url}{path}/cancel?wait=1&action=rollback"
        assert httpx.post(cancel, timeout=PATIENCE).status_code == 202
        run.read()
        assert run.json()["steps"]
    assert fresh_get(zoo, f"/threads/{thread_id}").status_code == 404
    assert fresh_get(zoo, path).status_code == 404
