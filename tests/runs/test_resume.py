"""Where a kept run starts, the first time and after the process that had it is gone."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Interrupt, interrupt

from runwait.runs import resume
from runwait.runs.executor import Start
from runwait.runs.request import RunRequest
from runwait.runs.resume import EndedBefore, NothingToResume, check_resume, waiting_interrupts
from runwait.threads.compatibility import StateIncompatible
from runwait.threads.states import CheckpointNotFound


class State(TypedDict, total=False):
    names: Annotated[list[str], operator.add]
    secret: str


class Output(TypedDict, total=False):
    names: list[str]


def named(name: str) -> Any:
    return lambda state: {"names": [name], "secret": "kept"}


def asking(name: str) -> Any:
    return lambda state: {"names": [f"{name} {interrupt(name)}"]}


BUILDER = (
    StateGraph(State, output_schema=Output)
    .add_node("a", named("a"))
    .add_node("b", named("b"))
    .add_node("c", named("c"))
    .add_edge(START, "a")
    .add_edge("a", "b")
    .add_edge("b", "c")
)
GRAPH = BUILDER.compile()
ASKING = (
    StateGraph(State)
    .add_node("left", asking("left"))
    .add_node("right", asking("right"))
    .add_edge(START, "left")
    .add_edge(START, "right")
    .compile()
)


def configured(saver: InMemorySaver, run_id: str) -> Any:
    return {
        "configurable": {"thread_id": "t", "__pregel_checkpointer": saver},
        "metadata": {"run_id": run_id, "graph_id": "g"},
    }


def executed(graph: Any, given: Any, run_id: str, saver: InMemorySaver, **stops: Any) -> Any:
    return graph.invoke(given, configured(saver, run_id), **stops)


def started(graph: Any, saver: InMemorySaver, run_id: str, attempt: int, **fields: Any) -> Start:
    request = RunRequest(assistant_id="g", request_id="x", thread_id="t", **fields)
    return resume.start(
        graph,
        saver,
        request=request,
        run_id=run_id,
        thread_id="t",
        graph_id="g",
        attempt=attempt,
    )


@pytest.fixture
def saver() -> InMemorySaver:
    return InMemorySaver()


def test_a_run_that_left_nothing_starts_again_with_its_own_input(saver):
    assert started(GRAPH, saver, "r1", 2, input={"names": []}) == Start({"names": []})


def test_a_run_on_anothers_state_starts_again_with_its_own_input(saver):
    executed(GRAPH, {"names": []}, "r0", saver)
    assert started(GRAPH, saver, "r1", 2, input={"names": ["x"]}) == Start({"names": ["x"]})


def test_a_run_that_left_a_checkpoint_goes_on_from_it(saver):
    executed(GRAPH, {"names": []}, "r1", saver, interrupt_before=["b"])
    assert started(GRAPH, saver, "r1", 2, input={"names": ["x"]}) == Start(None, from_latest=True)


@pytest.mark.parametrize(
    ("stops", "names"),
    [
        ({"interrupt_before": ["a"]}, []),
        ({"interrupt_before": ["b"]}, ["a"]),
        ({"interrupt_before": "*"}, []),
        ({"interrupt_after": ["a"]}, ["a"]),
        ({"interrupt_after": ["c"]}, ["a", "b", "c"]),
        ({"interrupt_after": "*"}, ["a"]),
        ({"interrupt_before": ["c"], "interrupt_after": ["c"]}, ["a", "b"]),
    ],
)
def test_a_run_that_stood_at_a_breakpoint_ends_there_with_its_output(saver, stops, names):
    # Whether the run brought it, or the graph has it of its own.
    for run_id, graph, brought in (("r1", GRAPH, stops), ("r2", BUILDER.compile(**stops), {})):
        saver.delete_thread("t")
        executed(graph, {"names": []}, run_id, saver, **brought)
        with pytest.raises(EndedBefore) as ended:
            started(graph, saver, run_id, 2, input={"names": []}, **brought)
        assert ended.value.outcome.answer == {"names": names}
        assert ended.value.outcome.status == "interrupted"


@pytest.mark.parametrize(
    "stops", [{"interrupt_before": ["c"]}, {"interrupt_after": ["b"]}, {"interrupt_before": ["a"]}]
)
def test_a_run_before_its_breakpoint_goes_on(saver, stops):
    executed(GRAPH, {"names": []}, "r1", saver, interrupt_after=["a"])
    assert started(GRAPH, saver, "r1", 2, **stops) == Start(None, from_latest=True)


def test_a_run_that_goes_on_from_anothers_breakpoint_is_not_taken_to_stand_at_it(saver):
    executed(GRAPH, {"names": []}, "r0", saver, interrupt_before=["b"])
    assert started(GRAPH, saver, "r1", 2, input=None, interrupt_before=["b"]) == Start(None)


def test_a_resume_is_given_again_where_the_attempt_before_left_no_checkpoint(saver):
    executed(ASKING, {"names": []}, "r0", saver)
    answers = {each.id: "yes" for each in waiting_interrupts(resume.latest(saver, "t"), "g")}
    command = {"resume": answers}
    first = started(ASKING, saver, "r1", 1, command=command)
    assert first == Start(Command(resume=answers, goto=[]))
    # As far as a process can get that dies before the step's checkpoint is written.
    task = ASKING.get_state(configured(saver, "r1")).tasks[0]
    saver.put_writes(
        resume.latest(saver, "t").config, [("names", ["left yes"])], task.id, "~__pregel_pull"
    )
    assert started(ASKING, saver, "r1", 2, command=command) == first
    assert executed(ASKING, first.input, "r1", saver) == {"names": ["left yes", "right yes"]}


def test_a_resume_for_which_nothing_waits_is_refused_at_its_turn(saver):
    with pytest.raises(NothingToResume):
        started(ASKING, saver, "r1", 1, command={"resume": "x"})
    executed(GRAPH, {"names": []}, "r0", saver, interrupt_before=["b"])
    with pytest.raises(NothingToResume):
        started(GRAPH, saver, "r1", 1, command={"resume": "x"})


def test_only_what_has_no_answer_yet_waits(saver):
    executed(ASKING, {"names": []}, "r0", saver)
    left, right = waiting_interrupts(resume.latest(saver, "t"), "g")
    assert {left.value, right.value} == {"left", "right"}
    executed(ASKING, Command(resume={left.id: "yes"}), "r1", saver)
    assert waiting_interrupts(resume.latest(saver, "t"), "g") == [right]
    executed(ASKING, Command(resume={right.id: "yes"}), "r2", saver)
    assert waiting_interrupts(resume.latest(saver, "t"), "g") == []


def test_another_graphs_interrupts_wait_for_that_graph(saver):
    executed(ASKING, {"names": []}, "r0", saver)
    assert waiting_interrupts(resume.latest(saver, "t"), "other") == []


A, B = Interrupt("a", id="a" * 32), Interrupt("b", id="b" * 32)


@pytest.mark.parametrize(
    ("resume", "waiting"),
    [("x", [A]), (False, [A]), ({"a": 1}, [A]), ({A.id: 1}, [A]), ({A.id: 1, B.id: 2}, [A, B])],
)
def test_a_resume_that_is_waited_for_is_taken(resume, waiting):
    check_resume(resume, waiting)


@pytest.mark.parametrize(
    ("resume", "waiting", "text"),
    [
        ("x", [], "no interrupt waits"),
        ({A.id: 1}, [], "no interrupt waits"),
        ("x", [A, B], "several interrupts wait"),
        ({"a": 1}, [A, B], "several interrupts wait"),
        ({B.id: 1}, [A], B.id),
        ({A.id: 1, B.id: 2}, [A], B.id),
    ],
)
def test_a_resume_that_is_not_waited_for_is_refused(resume, waiting, text):
    with pytest.raises(NothingToResume, match=text):
        check_resume(resume, waiting)


def waiting_at(node: str) -> Any:
    """A graph that asks at one node, after another."""
    builder = StateGraph(State).add_node("a", named("a")).add_node(node, asking(node))
    return builder.add_edge(START, "a").add_edge("a", node).compile()


def around(inner: Any) -> Any:
    return StateGraph(State).add_node("inner", inner).add_edge(START, "inner").compile()


class TestANodeThatIsGone:
    """The thread waits at a node that a later version of its graph lacks."""

    @pytest.fixture(params=[waiting_at, lambda node: around(waiting_at(node))])
    def after(self, request, saver) -> Any:
        executed(request.param("ask"), {"names": []}, "r0", saver)
        return request.param("question")

    @pytest.mark.parametrize(
        "fields",
        [
            {"command": {"resume": "yes"}},
            {"command": {"resume": "yes", "goto": "a"}},
            {"command": {"update": {"secret": "x"}}},
            {"command": {"resume": None}},
            {"input": None},
        ],
    )
    def test_is_nothing_to_go_on_with(self, saver, after, fields):
        with pytest.raises(
            StateIncompatible, match="node 'ask', which the graph does not have any more"
        ):
            started(after, saver, "r1", 1, **fields)

    @pytest.mark.parametrize("fields", [{"input": {"names": []}}, {"command": {"goto": "a"}}])
    def test_does_not_matter_to_a_run_that_goes_elsewhere(self, saver, after, fields):
        assert started(after, saver, "r1", 1, **fields).input is not None

    def test_ends_a_run_that_an_earlier_attempt_brought_there(self, saver, after):
        with pytest.raises(EndedBefore) as ended:
            started(after, saver, "r0", 2, input={"names": []})
        assert ended.value.outcome.error["error"] == "StateIncompatible"
        assert "node 'ask'" in ended.value.outcome.error["message"]

    def test_may_be_of_an_older_state_than_the_one_to_go_on_from(self, saver, after):
        executed(after, {"names": []}, "r1", saver)
        waits = [each.config for each in saver.list({"configurable": {"thread_id": "t"}})]
        oldest = next(
            config["configurable"]
            for config in waits
            if config["configurable"]["checkpoint_ns"] == ""
            and any(each[1] == "__interrupt__" for each in saver.get_tuple(config).pending_writes)
            and saver.get_tuple(config).metadata["run_id"] == "r0"
        )
        started(after, saver, "r2", 1, command={"resume": "yes"})
        with pytest.raises(StateIncompatible, match="node 'ask'"):
            started(
                after,
                saver,
                "r2",
                1,
                command={"resume": "yes"},
                checkpoint_id=oldest["checkpoint_id"],
            )


@pytest.mark.parametrize("answer", [{}, [], False, 0, ""])
def test_an_empty_answer_is_one(saver, answer):
    graph = StateGraph(State).add_node("ask", asking("ask")).add_edge(START, "ask").compile()
    executed(graph, {"names": []}, "r0", saver)
    first = started(graph, saver, "r1", 1, command={"resume": answer})
    assert executed(graph, first.input, "r1", saver) == {"names": [f"ask {answer}"]}


def test_an_empty_answer_where_several_wait_names_none_of_them(saver):
    executed(ASKING, {"names": []}, "r0", saver)
    with pytest.raises(NothingToResume, match="several interrupts wait"):
        started(ASKING, saver, "r1", 1, command={"resume": {}})


NOWHERE = "01980a2e-5c7b-7d3e-8f4a-6b1c2d3e4f50"
INNER = (
    StateGraph(State)
    .add_node("inner", asking("inner"))
    .add_edge(START, "inner")
    .compile(checkpointer=True)
)
OUTER = StateGraph(State).add_node("sub", INNER).add_edge(START, "sub").compile()


@pytest.mark.parametrize(
    ("point", "missing"),
    [
        ({"checkpoint_id": NOWHERE}, NOWHERE),
        ({"checkpoint_map": {"": NOWHERE}}, NOWHERE),
        # LangGraph starts from what the map says.
        ({"checkpoint_id": "<outer>", "checkpoint_map": {"": NOWHERE}}, NOWHERE),
        ({"checkpoint_map": {"": "<outer>", "sub": NOWHERE}}, NOWHERE),
        ({"checkpoint_ns": "sub", "checkpoint_id": NOWHERE}, NOWHERE),
        ({"checkpoint_ns": "zz"}, "in namespace 'zz'"),
        ({"checkpoint_map": {"": "<outer>", "sub": "<inner>"}}, None),
        ({"checkpoint_ns": "sub", "checkpoint_id": "<inner>"}, None),
        ({"checkpoint_id": NOWHERE, "checkpoint_map": {"": "<outer>"}}, None),
    ],
)
@pytest.mark.parametrize("given", [{"input": {"names": []}}, {"command": {"resume": "yes"}}])
def test_a_run_starts_from_no_checkpoint_that_is_not_there(saver, point, missing, given):
    executed(OUTER, {"names": []}, "r0", saver)
    ids = {
        f"<{name}>": saver.get_tuple(
            {"configurable": {"thread_id": "t", "checkpoint_ns": place}}
        ).config["configurable"]["checkpoint_id"]
        for name, place in (("outer", ""), ("inner", "sub"))
    }

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(each) for name, each in value.items()}
        return ids.get(value, value)

    for fields in (
        {"checkpoint": filled(point)},
        {"config": {"configurable": filled(point)}},
    ):
        if missing is None:
            started(OUTER, saver, "r1", 1, **fields, **given)
        else:
            with pytest.raises(CheckpointNotFound, match=f"^checkpoint {missing} not found$"):
                started(OUTER, saver, "r1", 1, **fields, **given)
