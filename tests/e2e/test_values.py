"""What graphs put on kept threads: it comes back as it was, or is refused and leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.calls import detail
from tests.e2e.test_kept import get, keep, new_thread, wait_on
from tests.servers import PROJECTS, Server, ServerFactory

DURABILITIES = pytest.mark.parametrize("durability", ["sync", "async", "exit"])


@pytest.fixture(scope="module")
def server(shared: ServerFactory) -> Server:
    """Two workers that serve tests/projects/kept."""
    return shared(LANGGRAPH_CONFIG=PROJECTS / "kept" / "langgraph.json")


def stands(server: Server, thread_id: str) -> Any:
    """A thread's states, and where it stands."""
    path = f"/threads/{thread_id}"
    return get(server, f"{path}/state"), get(server, f"{path}/history?limit=100")


def error_of(answer: Any) -> dict[str, str]:
    error: dict[str, str] = answer.json()["__error__"]
    return error


@DURABILITIES
@pytest.mark.parametrize("graph", ["holds", "holds_async"])
def test_values_of_all_kinds_come_back_as_they_were(server, graph, durability):
    thread_id, document = keep(server, graph, durability=durability)
    assert "__interrupt__" in document
    assert len(document["value"]) == len(document["seen"]) > 10
    answer = wait_on(server, thread_id, graph, command={"resume": 1}, durability=durability)
    assert answer.json() == {"value": None, "seen": []}


def test_an_interrupt_may_ask_by_a_model(server):
    thread_id, document = keep(server, "asks")
    state = get(server, f"/threads/{thread_id}/state")
    for asked in (document["__interrupt__"], state["interrupts"]):
        assert [each["value"] for each in asked] == [{"text": "Who?"}]
    answer = wait_on(server, thread_id, "asks", command={"resume": "me"})
    assert answer.json() == {"seen": "me"}


@pytest.mark.parametrize("graph", ["local", "local_factory"])
def test_a_class_that_is_made_with_its_graph_is_revived(server, graph):
    thread_id, document = keep(server, graph)
    assert (document["draft"], "__interrupt__" in document) == ({"text": "Dear"}, True)
    assert get(server, f"/threads/{thread_id}/state")["values"] == {"draft": {"text": "Dear"}}
    answer = wait_on(server, thread_id, graph, command={"resume": 1})
    assert answer.json()["again"] == "Dear True"


def test_a_class_that_could_not_be_revived_is_refused_before_anything_is_answered(server):
    _, document = keep(server, "hidden")
    assert document == {
        "__error__": {
            "error": "UnstorableValue",
            "message": "channel 'value': a value of type graphs.Hidden cannot be stored: "
            "it is not to be found in its module by its name",
        }
    }


def test_a_class_of_a_module_that_is_loaded_later_is_kept_if_a_setting_names_it(server, shared):
    error = keep(server, "lately")[1]["__error__"]
    assert error["message"] == (
        "channel 'value': a value of type late.Late cannot be stored: "
        "its module was not loaded by the end of the start; STATE_MODULES can name it"
    )
    project = PROJECTS / "kept" / "langgraph.json"
    loads_it = shared(LANGGRAPH_CONFIG=project, STATE_MODULES="late")
    thread_id, document = keep(loads_it, "lately")
    assert document == {"value": {"text": "x"}}
    assert get(loads_it, f"/threads/{thread_id}/state")["values"] == document


@DURABILITIES
@pytest.mark.parametrize("graph", ["refuses", "refuses_async"])
class TestAValueThatCannotBeStored:
    def test_leaves_the_last_good_checkpoint_the_head(self, server, graph, durability):
        thread_id, document = keep(server, graph, durability=durability)
        assert document["log"] == ["a", "b", "c"]
        before = stands(server, thread_id)

        given = {"input": {"value": "bad"}, "durability": durability}
        error = error_of(wait_on(server, thread_id, graph, **given))

        assert error["error"] == "UnstorableValue"
        assert error["message"].startswith("channel 'value': a value of type function cannot be")
        assert get(server, f"/threads/{thread_id}")["error"] == error
        state, history = stands(server, thread_id)
        assert history[-len(before[1]) :] == before[1]
        if durability == "exit":
            assert (state, history) == before
        else:
            good = [["a", "b", "c", "a"]]
            if durability == "async":
                # It is stored beside the next step, whose end may come before that.
                good.append(["a", "b", "c"])
            assert state["values"]["log"] in good
            assert "unreadable" not in state
        goes_on = wait_on(server, thread_id, graph, input={"value": 1}).json()
        assert goes_on["log"] == [*state["values"]["log"], "a", "b", "c"]

    def test_is_no_concern_of_a_run_that_keeps_nothing(self, server, graph, durability):
        body = {"assistant_id": graph, "input": {"value": "bad"}, "durability": durability}
        document = server.http.post("/runs/wait", json=body).json()
        assert (document["log"], len(document["value"])) == (["a", "b", "c"], 1)


@DURABILITIES
@pytest.mark.parametrize("graph", ["lists", "lists_async"])
class TestWhatAReducerRefuses:
    def kept(self, server: Server, graph: str) -> tuple[str, Any]:
        thread_id, document = keep(server, graph)
        assert document["log"] == ["a", "b", "c"]
        return thread_id, stands(server, thread_id)

    @pytest.mark.parametrize(
        "given", [{"input": {"log": "no list"}}, {"command": {"update": {"log": "no list"}}}]
    )
    def test_of_a_request_leaves_the_thread_as_it_was(self, server, graph, durability, given):
        thread_id, before = self.kept(server, graph)
        error = error_of(wait_on(server, thread_id, graph, durability=durability, **given))
        assert error["error"] == "TypeError"
        assert error["message"].startswith("channel 'log': can only concatenate list")
        assert stands(server, thread_id) == before
        answer = wait_on(server, thread_id, graph, input={"log": ["i"]}, durability=durability)
        assert answer.json()["log"] == ["a", "b", "c", "i", "a", "b", "c"]

    def test_of_a_new_thread_leaves_it_empty(self, server, graph, durability):
        thread_id = new_thread(server)
        given = {"input": {"log": "no list"}, "durability": durability}
        error_of(wait_on(server, thread_id, graph, **given))
        state, history = stands(server, thread_id)
        assert (state["values"], history) == ({}, [])

    def test_of_a_node_leaves_its_last_checkpoint_the_head(self, server, graph, durability):
        thread_id, before = self.kept(server, graph)
        given = {"input": {"value": "no list"}, "durability": durability}
        error_of(wait_on(server, thread_id, graph, **given))
        state, history = stands(server, thread_id)
        if durability == "exit":
            assert (state, history) == before
        else:
            assert (state["values"]["log"], state["next"]) == (["a", "b", "c", "a"], ["b"])
            assert "unreadable" not in state
        answer = wait_on(server, thread_id, graph, input={"value": None})
        assert answer.json()["log"] == [*state["values"]["log"], "a", "b", "c"]


def test_what_its_state_refuses_is_shown_as_it_is_and_mended_by_an_update(server):
    thread_id, document = keep(server, "strict", input={"items": ["x"]})
    assert document["__error__"]["error"] == "ValidationError"
    state, history = stands(server, thread_id)
    assert (state["values"]["items"], state["next"]) == (["x", None], ["b"])
    assert [each["values"].get("items") for each in history] == [["x", None], ["x"], None]
    path = f"/threads/{thread_id}/state"
    bad = {"values": {"items": [1]}, "as_node": "a"}
    assert "channel 'items'" in detail(server.http.post(path, json=bad), 422)
    assert stands(server, thread_id) == (state, history)
    good = {"values": {"items": ["y"]}, "as_node": "a"}
    assert server.http.post(path, json=good).status_code == 200
    assert wait_on(server, thread_id, "strict", input=None).json() == {
        "items": ["y"],
        "note": "seen",
    }


def test_an_error_is_kept_as_text_whatever_it_holds(server):
    thread_id, document = keep(server, "fails")
    assert document["__error__"]["error"] == "Unkept"
    [task] = get(server, f"/threads/{thread_id}/state")["tasks"]
    assert task["error"].startswith("Unkept('holds a function', <function")
