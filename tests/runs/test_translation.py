"""LangGraph's chunks as events."""

from __future__ import annotations

import json
import operator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from runwait.runs.translation import Translation, event_names


class State(TypedDict):
    steps: Annotated[list[Any], operator.add]


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def _speak(_: State) -> State:
    model = GenericFakeChatModel(messages=iter([AIMessage("one two", id="m")]))
    return {"steps": [model.invoke("").content]}


def _write(_: State) -> State:
    get_stream_writer()({"written": 1})
    return {"steps": ["written"]}


def _call(_: State) -> State:
    add.invoke({"type": "tool_call", "id": "c", "name": "add", "args": {"a": 1, "b": 2}})
    return {"steps": []}


def _fail(_: State) -> State:
    raise ValueError("no")


def _ask(_: State) -> State:
    return {"steps": [interrupt("?")]}


def graph_of(node: Any, *, checkpointer: Any = None) -> Any:
    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    return builder.compile(checkpointer=checkpointer)


def streamed(
    graph: Any, *modes: str, subgraphs: bool = False, config: Any = None
) -> list[tuple[str, Any]]:
    """Names, without the ids of tasks, and data."""
    translation = Translation(modes, subgraphs=subgraphs)
    asked = ["updates", "values", *translation.modes - {"updates", "values"}]
    events = []
    chunks = graph.stream({"steps": []}, config, stream_mode=asked, subgraphs=translation.subgraphs)
    try:
        for chunk in chunks:
            where, mode, payload = chunk if translation.subgraphs else ((), *chunk)
            events += translation.events(where, mode, payload)
    except ValueError:
        pass
    return [
        ("|".join(each.partition(":")[0] for each in name.split("|")), json.loads(data))
        for name, data in events
    ]


def test_values_are_what_is_streamed_where_nothing_is_named():
    expected = [("values", {"steps": []}), ("values", {"steps": ["written"]})]
    assert streamed(graph_of(_write)) == expected == streamed(graph_of(_write), "values")


def test_each_mode_has_its_own_events():
    assert streamed(graph_of(_write), "updates") == [("updates", {"node": {"steps": ["written"]}})]
    assert streamed(graph_of(_write), "custom") == [("custom", {"written": 1})]
    assert [name for name, _ in streamed(graph_of(_write), "tasks")] == ["tasks", "tasks"]


def test_interrupts_are_left_to_the_end_of_the_values_and_are_among_the_updates():
    config = {"configurable": {"thread_id": "t"}}
    graph = graph_of(_ask, checkpointer=InMemorySaver())
    came = streamed(graph, "values", "updates", config=config)
    assert [name for name, _ in came] == ["values", "updates"]
    assert came[1][1]["__interrupt__"][0]["value"] == "?"


def test_tokens_come_with_what_is_known_of_their_model():
    came = streamed(graph_of(_speak), "messages-tuple")
    assert {name for name, _ in came} == {"messages"}
    assert "".join(chunk["content"] for _, (chunk, _) in came) == "one two"
    assert {metadata["langgraph_node"] for _, (_, metadata) in came} == {"node"}


def test_messages_so_far_come_with_their_metadata_once():
    came = streamed(graph_of(_speak), "messages")
    assert [name for name, _ in came][:2] == ["messages/metadata", "messages/partial"]
    assert [data[0]["content"] for name, data in came if name == "messages/partial"] == [
        "one",
        "one ",
        "one two",
    ]
    assert sum(name == "messages/metadata" for name, _ in came) == 1


def test_both_kinds_of_messages_may_be_asked_for():
    names = {name for name, _ in streamed(graph_of(_speak), "messages", "messages-tuple")}
    assert names == {"messages", "messages/metadata", "messages/partial"}


def test_messages_so_far_are_left_out_where_they_are_not_asked_for():
    came = streamed(graph_of(_speak), "messages-tuple", "lifecycle", "tools")
    assert {name for name, _ in came} == {"messages"}


def test_checkpoints_are_named_by_three_ids_alone():
    config = {"configurable": {"thread_id": "t", "mine": "secret"}}
    graph = graph_of(_write, checkpointer=InMemorySaver())
    came = streamed(graph, "checkpoints", "debug", config=config)
    checkpoints = [data for name, data in came if name == "checkpoints"]
    checkpoints += [
        data["payload"] for name, data in came if name == "debug" and data["type"] == "checkpoint"
    ]
    assert len(checkpoints) == 6
    for each in checkpoints:
        ids = each["config"]["configurable"]
        assert set(ids) == {"thread_id", "checkpoint_ns", "checkpoint_id"}
    debug = checkpoints[-1]
    assert debug["checkpoint"] == debug["config"]["configurable"]
    assert debug["parent_checkpoint"] == debug["parent_config"]["configurable"]


def test_debug_names_the_checkpoint_of_a_task_that_is_a_subgraph():
    config = {"configurable": {"thread_id": "t"}}
    graph = graph_of(graph_of(_write), checkpointer=InMemorySaver())
    came = [data["payload"] for _, data in streamed(graph, "debug", config=config)]
    tasks = [task for payload in came for task in payload.get("tasks", ()) if "checkpoint" in task]
    assert [task["name"] for task in tasks] == ["node"]
    assert set(tasks[0]["checkpoint"]) == {"thread_id", "checkpoint_ns"}
    assert "state" not in tasks[0]


def test_tools_are_told_in_the_words_of_the_sdks():
    came = [data for _, data in streamed(graph_of(_call), "tools")]
    assert [(each["event"], each["toolCallId"]) for each in came] == [
        ("on_tool_start", "c"),
        ("on_tool_end", "c"),
    ]
    assert [each["name"] for each in came] == ["add", "add"]


def test_what_happens_in_subgraphs_has_their_namespace_if_it_is_wanted():
    parent = graph_of(graph_of(_write))
    assert [name for name, _ in streamed(parent, "custom", subgraphs=True)] == ["custom|node"]
    updates = [name for name, _ in streamed(parent, "updates", subgraphs=True)]
    assert updates == ["updates|node", "updates"]
    assert [name for name, _ in streamed(parent, "updates")] == ["updates"]


@pytest.mark.parametrize(
    ("node", "last"), [(_write, {"event": "completed"}), (_fail, {"event": "failed"})]
)
def test_lifecycle_tells_when_subgraphs_begin_and_end_and_nothing_else(node, last):
    came = streamed(graph_of(graph_of(node)), "lifecycle")
    assert {name for name, _ in came} == {"lifecycle|node"}
    assert came[0][1] == {"event": "started", "graph_name": "node"}
    assert came[-1][1]["event"] == last["event"]


def test_names_of_events_are_known_by_their_modes():
    assert event_names(["values", "messages-tuple"]) == {"values", "messages"}
    assert "messages/partial" in event_names(["messages"])
