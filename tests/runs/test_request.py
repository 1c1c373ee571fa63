"""What LangGraph is given for what a client asked."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any
from uuid import UUID

import pytest
from langgraph.pregel.main import _build_server_info
from langgraph.runtime import Runtime
from langgraph.types import Command, Send
from langgraph_sdk.auth.types import BaseUser

from runwait.api.schemas import RunBody
from runwait.graphs.assistants import Assistant
from runwait.runs.request import RunRequest
from runwait.storage.records import RunRecord, RunStatus

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


def over(assistant: dict[str, Any], **fields: Any) -> RunRequest:
    return asked(**fields).over(Assistant("a", "g", **assistant))


RECORD = RunRecord(
    run_id=RUN_ID,
    thread_id="t",
    assistant_id="a",
    graph_id="g",
    status=RunStatus.RUNNING,
    metadata={},
    kwargs={},
)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"input": {}}, False),
        ({"command": {"resume": False}, "input": {}}, True),
        ({"command": {"resume": 1, "goto": "a"}}, True),
        ({"command": {"update": {"a": 1}}, "input": {}}, True),
        ({"command": {"update": {"a": 1}, "goto": "a"}}, False),
        ({"command": {"resume": None}, "input": {}}, False),
    ],
)
def test_a_run_goes_on_if_it_brings_nothing_to_start_with(fields, expected):
    assert asked(thread_id="t", **fields).goes_on is expected
    assert not asked(**fields).goes_on


def config(**fields: Any) -> Any:
    return over({}, **fields).graph_config(RECORD)


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
        ({"resume": False}, Command(resume=False, goto=[])),
        ({"resume": 1, "goto": "a"}, Command(resume=1, goto=["a"])),
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


# What an assistant has of its own


@pytest.mark.parametrize(
    ("own", "sent", "context"),
    [
        ({"context": {"x": 1, "y": 1}}, {"context": {"y": 2}}, {"x": 1, "y": 2}),
        ({"context": {"x": 1}}, {"config": {"configurable": {"y": 2}}}, {"x": 1, "y": 2}),
        ({"config": {"configurable": {"x": 1}}}, {"context": {"y": 2}}, {"x": 1, "y": 2}),
        ({"config": {"configurable": {"x": 1}}}, {}, {"x": 1}),
        ({"context": {"x": 1}}, {}, {"x": 1}),
        ({}, {"context": {"y": 2}}, {"y": 2}),
        ({}, {"config": {"configurable": {"y": 2}}}, {"y": 2}),
    ],
)
def test_a_context_lies_over_the_assistants_however_each_is_given(own, sent, context):
    request = over(own, **sent)
    assert request.effective_context == context
    assert not (request.context and request.configurable)


def test_of_an_assistants_configurable_too_a_graph_sees_what_is_a_callers_to_set():
    config = {"configurable": {"a": 1, "thread_id": "evil", "__x": 1, "checkpoint_id": "c"}}
    request = over({"config": config}, context={"b": 2})
    assert request.effective_context == {"a": 1, "b": 2}
    assert over({"config": config}).effective_context == {"a": 1}


def test_a_config_lies_over_the_assistants_name_by_name():
    own = {"config": {"tags": ["a"], "recursion_limit": 5, "metadata": {"x": 1, "y": 1}}}
    made = over(own, config={"tags": ["b"], "metadata": {"y": 2}}).config
    assert made == {"tags": ["b"], "recursion_limit": 5, "metadata": {"x": 1, "y": 2}}


def test_the_assistants_metadata_lies_under_all_other():
    own = {"metadata": {"x": 1, "y": 1, "z": 1}}
    request = over(own, config={"metadata": {"y": 2, "z": 2}}, metadata={"z": 3})
    metadata = request.graph_config(RECORD)["metadata"]
    assert metadata == {"x": 1, "y": 2, "z": 3, **IDS}


# Runs on threads


def test_a_request_on_a_thread_or_to_keep_one_is_kept():
    assert not asked().kept
    assert asked(on_completion="keep").kept
    assert asked(thread_id="t").kept


@pytest.mark.parametrize(
    "fields",
    [
        {"checkpoint_id": "c"},
        {"checkpoint": {"checkpoint_id": "c", "checkpoint_ns": None}},
        {"config": {"configurable": {"checkpoint_id": "c"}}},
    ],
)
def test_a_checkpoint_to_start_from_is_taken_only_on_a_thread(fields):
    assert asked(thread_id="t", **fields).starting_point == {"checkpoint_id": "c"}
    made = asked(thread_id="t", **fields).graph_config(RECORD)["configurable"]
    assert made["checkpoint_id"] == "c"
    assert asked(**fields).starting_point == {}
    assert "checkpoint_id" not in asked(**fields).graph_config(RECORD)["configurable"]


def test_a_request_is_restored_from_its_record_whole():
    request = over(
        {"context": {"a": 1}, "metadata": {"m": 1}},
        thread_id="t",
        input={"x": [1, 2**70]},
        command={"resume": {"y": None}},
        metadata={"n": 1},
        config={"tags": ["t"], "metadata": {"o": 1}},
        interrupt_before=["b"],
        interrupt_after="*",
        durability="exit",
        on_disconnect="cancel",
        multitask_strategy="rollback",
        checkpoint_id="c",
        feedback_keys=["f"],
        stream_mode=["updates"],
        stream_subgraphs=True,
        on_completion="keep",
        after_seconds=5,
        if_not_exists="create",
        user={"identity": "ada", "permissions": ["read"], "team": {"id": 1}},
    )
    kwargs, hidden = request.stored()
    record = replace(RECORD, kwargs=kwargs, surroundings=hidden, multitask_strategy="rollback")
    stored = record.lasting().encode()
    assert RunRequest.restored(RunRecord.restored(stored, b"running", b"now")) == request


def test_a_record_of_version_0_2_is_restored_with_defaults_for_what_it_lacks():
    request = asked(thread_id="t", input=1, durability="sync", on_completion="keep")
    kwargs, hidden = request.stored()
    names = ("metadata", "assistant_metadata", "request_id", "thread_id", "on_disconnect")
    before = {name: hidden[name] for name in (*names, "checkpoint", "checkpoint_id")}
    assert RunRequest.restored(replace(RECORD, kwargs=kwargs, surroundings=before)) == request


def test_each_field_of_a_body_is_one_of_a_request():
    names = {each.name for each in fields(RunRequest)}
    assert set(RunBody().fields) - {"langsmith_tracer", "strict_resume"} <= names


ADA = {"identity": "ada", "permissions": ["read"], "token": "secret"}


def test_a_run_has_its_caller_in_the_config_and_in_the_servers_runtime():
    made = asked(user=ADA).graph_config(RECORD)
    told = made["configurable"]
    assert told["langgraph_auth_user_id"] == "ada"
    assert told["langgraph_auth_permissions"] == ["read"]
    user = _build_server_info(made, Runtime()).user
    assert isinstance(user, BaseUser) and user is told["langgraph_auth_user"]
    assert (user.identity, user.display_name, user.is_authenticated) == ("ada", "ada", True)
    assert user["token"] == user.token == "secret" and "token" in user
    assert "secret" not in repr(user)


@pytest.mark.parametrize("name", ["langgraph_auth_user", "langgraph_auth_user_id"])
@pytest.mark.parametrize("assistant", [{}, {"config": {"configurable": {"a": 1}}}])
def test_nobody_says_in_a_config_who_they_are(name, assistant):
    forged = {"configurable": {name: "eve"}}
    for request in (
        over({"config": forged}),
        over(assistant, config=forged),
        over(assistant, context=forged["configurable"]),
    ):
        assert name not in request.graph_config(RECORD)["configurable"]
        known = replace(request, user=ADA).graph_config(RECORD)["configurable"]
        assert known[name] in ("ada", ADA | {"display_name": "ada", "is_authenticated": True})
