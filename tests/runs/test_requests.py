"""What LangGraph is given for what a client asked."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from langgraph.types import Command, Send

from app.graphs.assistants import Assistant
from app.runs.requests import RunRequest
from app.storage.records import RunRecord, RunStatus

RUN_ID = "01a20acd-2b83-70b2-a8d5-eb34efcb8229"
IDS = {
    "run_id": RUN_ID,
    "thread_id": "t",
    "graph_id": "g",
    "assistant_id": "a",
    "langgraph_request_id": "request",
}


def asked(**fields: Any) -> RunRequest:
    return RunRequest(assistant_id="a", request_id="request", **fields)


def config(**fields: Any) -> Any:
    record = RunRecord(
        run_id=RUN_ID,
        thread_id="t",
        assistant_id="a",
        graph_id="g",
        status=RunStatus.RUNNING,
        metadata={},
        kwargs={},
    )
    return asked(**fields).graph_config(record)


@pytest.mark.parametrize(
    "command",
    [
        None,
        {},
        {"resume": None},
        {"update": None, "goto": None},
        {"update": {}, "goto": []},
        {"update": []},
        {"other": 1},
    ],
)
def test_a_command_that_says_nothing_leaves_the_input(command):
    assert asked(input={"x": 1}, command=command).graph_input() == {"x": 1}


@pytest.mark.parametrize(
    ("command", "given"),
    [
        ({"update": {"x": 1}}, Command(update={"x": 1}, goto=[])),
        ({"update": [["x", 1]]}, Command(update=[("x", 1)], goto=[])),
        ({"goto": "a"}, Command(goto=["a"])),
        ({"goto": {"node": "a", "input": 1}}, Command(goto=[Send("a", 1)])),
        ({"goto": ["a", {"node": "b", "input": None}]}, Command(goto=["a", Send("b", None)])),
    ],
)
def test_a_command_takes_the_place_of_the_input(command, given):
    assert asked(input={"x": 1}, command=command).graph_input() == given


def test_the_ids_are_the_services_to_say():
    mine = dict.fromkeys(IDS, "mine")
    made = config(config={"configurable": {**mine, "x": 1}, "metadata": mine}, metadata=mine)
    assert made["configurable"] == {**IDS, "x": 1}
    assert made["metadata"] == {"created_by": "system", **IDS}
    assert made["run_id"] == UUID(RUN_ID)


@pytest.mark.parametrize("name", ["__pregel_store", "__x", "checkpoint_id", "checkpoint_ns"])
@pytest.mark.parametrize("where", ["configurable", "context"])
def test_reserved_names_do_not_reach_configurable(name, where):
    given = {name: 1, "x": 2}
    fields = {"context": given} if where == "context" else {"config": {"configurable": given}}
    assert config(**fields)["configurable"] == {**IDS, "x": 2}


def test_context_alone_shows_in_configurable_too_and_the_other_way_round():
    assert config(context={"x": 1})["configurable"]["x"] == 1
    given = {"x": 1, "run_id": "mine", "__y": 2}
    assert asked(config={"configurable": given}).effective_context == {"x": 1}
    assert asked(context={"x": 1}).effective_context == {"x": 1}
    assert asked().effective_context == {}


def test_the_requests_metadata_lies_over_the_configs():
    made = config(config={"metadata": {"a": 1, "b": 1}}, metadata={"b": 2})
    assert made["metadata"] == {"created_by": "system", "a": 1, "b": 2, **IDS}


def test_what_the_config_does_not_say_is_left_to_the_graph():
    assert set(config()) == {"configurable", "metadata", "run_id"}
    said = {"tags": ["x"], "recursion_limit": 3, "run_name": "n", "max_concurrency": 2}
    assert {name: config(config=said)[name] for name in said} == said


def test_every_node_that_is_named_is_known():
    request = asked(
        command={"goto": ["a", {"node": "b", "input": 1}]},
        interrupt_before=["c"],
        interrupt_after="*",
    )
    assert request.named_nodes == {"command.goto": {"a", "b"}, "interrupt_before": {"c"}}
    assert not any(asked().named_nodes.values())


def test_the_deprecated_field_decides_only_where_durability_is_absent():
    assert asked().effective_durability == "async"
    assert asked(checkpoint_during=True).effective_durability == "async"
    assert asked(checkpoint_during=False).effective_durability == "exit"
    assert asked(checkpoint_during=False, durability="sync").effective_durability == "sync"


def test_a_records_metadata_names_its_assistant():
    metadata = asked(metadata={"x": 1}).record_metadata(Assistant("id", "g"))
    assert metadata == {"created_by": "system", "x": 1, "assistant_id": "id"}
