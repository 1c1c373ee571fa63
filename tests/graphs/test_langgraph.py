"""What is used of LangGraph that it does not offer is as it was when this was written."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import pytest
from langchain_core.messages import HumanMessage
from langgraph._internal import _constants as constants
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel, ValidationError

from runwait.graphs import langgraph


class State(TypedDict, total=False):
    value: str
    seen: str


@pytest.mark.parametrize(
    ("ours", "its"),
    [
        (langgraph.RUNTIME, constants.CONFIG_KEY_RUNTIME),
        (langgraph.CHECKPOINTER, constants.CONFIG_KEY_CHECKPOINTER),
        (langgraph.INTERRUPT, constants.INTERRUPT),
        (langgraph.NULL_TASK, constants.NULL_TASK_ID),
        (langgraph.SENDS, constants.TASKS),
    ],
)
def test_a_name_is_the_same(ours: str, its: str) -> None:
    assert ours == its


def test_the_control_channels_are_the_same() -> None:
    names = (constants.ERROR, constants.INTERRUPT, constants.RESUME, constants.ERROR_SOURCE_NODE)
    assert names == langgraph.CONTROL_CHANNELS


def test_the_nodes_of_updates_are_the_same() -> None:
    assert {constants.INPUT, START, END, "__copy__"} == langgraph.PSEUDO_NODES


def test_the_channels_that_lead_to_nodes_have_these_names() -> None:
    graph = (
        StateGraph(State)
        .add_node("a", lambda _: {})
        .add_node("b", lambda _: {})
        .add_node("c", lambda _: {})
        .add_edge(START, "a")
        .add_edge(START, "b")
        .add_edge(["a", "b"], "c")
        .compile()
    )
    assert {f"{langgraph.NEXT}a", f"{langgraph.NEXT}b", f"{langgraph.JOIN}a+b:c"} <= set(
        graph.channels
    )
    values = {name for name in graph.channels if not name.startswith(langgraph.NO_VALUES)}
    assert values == {"value", "seen"}


def test_a_witness_sees_the_tasks_that_the_event_protocol_keeps_back() -> None:
    inner = StateGraph(State).add_node("b", lambda _: {"seen": "b"}).add_edge(START, "b").compile()
    graph = StateGraph(State).add_node("a", inner).add_edge(START, "a").compile()
    seen: list[Any] = []

    async def run() -> list[str]:
        factory = langgraph.witness(["values", "tasks"], seen.append)
        run = await graph.astream_events({"value": "x"}, version="v3", transformers=[factory])
        return [event["method"] async for event in run]

    streamed = asyncio.run(run())
    assert "tasks" not in streamed
    tasks = [each["params"] for each in seen if each["method"] == "tasks"]
    assert [(len(each["namespace"]), each["data"]["name"]) for each in tasks] == [
        *((0, "a"), (1, "b"), (1, "b"), (0, "a"))
    ]
    assert [each["method"] for each in seen].count("values") == streamed.count("values") == 4


def test_a_whole_message_is_streamed_in_blocks() -> None:
    events = langgraph.message_to_events(HumanMessage("hi", id="m"), message_id="m")
    assert [event["event"] for event in events] == [
        "message-start",
        "content-block-start",
        "content-block-delta",
        "content-block-finish",
        "message-finish",
    ]


def test_sends_are_in_the_channel_of_sends() -> None:
    def fan_out(_: State) -> list[Send]:
        return [Send("end", {"value": "x"})]

    graph = (
        StateGraph(State)
        .add_node("begin", lambda _: {})
        .add_node("end", lambda _: {})
        .add_edge(START, "begin")
        .add_conditional_edges("begin", fan_out, ["end"])
        .compile(InMemorySaver(), interrupt_before=["end"])
    )
    config: Any = {"configurable": {"thread_id": "t"}}
    graph.invoke({"value": "x"}, config)
    saved = graph.checkpointer.get_tuple(config)
    (send,) = saved.checkpoint["channel_values"][langgraph.SENDS]
    assert send == Send("end", {"value": "x"})


def test_every_task_is_run_through_this_module() -> None:
    def fail(_: State) -> State:
        raise ValueError("as told")

    async def afail(_: State) -> State:
        raise ValueError("as told")

    def graph(node: Any) -> Any:
        return StateGraph(State).add_node("node", node).add_edge(START, "node").compile()

    for run in (
        lambda: graph(fail).invoke({}),
        lambda: asyncio.run(graph(fail).ainvoke({})),
        lambda: asyncio.run(graph(afail).ainvoke({})),
    ):
        with pytest.raises(ValueError, match="as told") as raised:
            run()
        names = [each.frame.f_globals["__name__"] for each in raised.traceback]
        assert langgraph.TASK_MODULE in names


class Strict(BaseModel):
    items: list[str] = []


def test_a_state_is_read_without_making_the_input_of_nodes() -> None:
    def bad(_: Strict) -> Any:
        return {"items": [None]}

    def inner() -> Any:
        builder = StateGraph(Strict).add_node("bad", bad).add_edge(START, "bad")
        return builder.add_node("next", lambda _: {}).add_edge("bad", "next").compile()

    outer = StateGraph(Strict).add_node("inner", inner()).add_edge(START, "inner").compile()
    # A graph may hold itself.
    outer.nodes["inner"].subgraphs.append(outer)
    saver = InMemorySaver()
    config: Any = {"configurable": {"thread_id": "t"}}
    with pytest.raises(ValidationError):
        langgraph.attached(outer, saver).invoke({}, config)
    with pytest.raises(ValidationError):
        langgraph.attached(outer, saver).get_state(config, subgraphs=True)

    [task] = langgraph.reading(outer, saver).get_state(config, subgraphs=True).tasks

    assert (task.state.values, task.state.next) == ({"items": [None]}, ("next",))
    assert outer.nodes["inner"].mapper is not None


def test_what_waits_is_found_by_task_until_it_is_answered() -> None:
    def ask(_: State) -> State:
        return {"seen": interrupt("well?")}

    graph = StateGraph(State).add_node(ask).add_edge(START, "ask").compile(InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    graph.invoke({"value": "x"}, config)
    saved = graph.checkpointer.get_tuple(config)
    [[raised]] = langgraph.interrupts_by_task(saved).values()
    assert raised.value == "well?"
    graph.invoke(Command(resume="yes"), config)
    assert langgraph.interrupts_by_task(graph.checkpointer.get_tuple(config)) == {}


def test_the_runtimes_of_factories_take_what_they_are_given() -> None:
    executes = langgraph.ExecutionRuntime(
        access_context="threads.create_run", context={"a": 1}, store=None
    )
    assert executes.context == {"a": 1}
    assert langgraph.ReadRuntime(access_context="threads.read", store=None).store is None


@pytest.mark.parametrize(
    ("namespace", "nodes"), [("", ""), ("a:1", "a"), ("a:1|b:2", "a|b"), ("a:1|2|b:3", "a|b")]
)
def test_a_namespace_is_told_by_its_nodes(namespace: str, nodes: str) -> None:
    assert langgraph.without_tasks(namespace) == nodes
