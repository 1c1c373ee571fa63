"""The body table of POST /runs/wait, field by field."""

from __future__ import annotations

from typing import Any

import pytest

from runwait.api.errors import InvalidRequest
from runwait.api.schemas import RunBody, ThreadRunBody


def load(**fields: Any) -> dict[str, Any]:
    return RunBody().of({"assistant_id": "g", **fields})


def refusal(**fields: Any) -> str:
    with pytest.raises(InvalidRequest) as raised:
        load(**fields)
    return str(raised.value)


NOT_A_STRING = [None, 1, 1.5, True, [], {}]
NOT_AN_OBJECT = [None, 1, "x", True, []]
NOT_A_BOOLEAN = [None, 0, 1, "true", [], {}]

INVALID = [
    *(("assistant_id", value, "must be a string") for value in NOT_A_STRING),
    *(("metadata", value, "must be an object") for value in NOT_AN_OBJECT),
    *(("config", value, "must be an object") for value in NOT_AN_OBJECT),
    *(("context", value, "must be an object") for value in NOT_AN_OBJECT),
    *(("langsmith_tracer", value, "must be an object") for value in NOT_AN_OBJECT),
    *(("checkpoint", value, "must be an object") for value in NOT_AN_OBJECT),
    *(
        ("command", value, "must be an object or null")
        for value in NOT_AN_OBJECT
        if value is not None
    ),
    *(
        (name, value, "must be true or false")
        for name in ("stream_subgraphs", "stream_resumable", "checkpoint_during", "strict_resume")
        for value in NOT_A_BOOLEAN
    ),
    *(
        ("webhook", value, "must be a URI reference of 1 to 65536 characters")
        for value in [*NOT_A_STRING, "", "a b", "http://x/\n", "%zz", "x" * 65537]
    ),
    *(
        ("on_completion", value, "must be one of: delete, keep")
        for value in [None, "x", 1, ["keep"]]
    ),
    *(("on_disconnect", value, "must be one of: continue, cancel") for value in [None, "x", {}]),
    *(("durability", value, "must be one of: sync, async, exit") for value in [None, "x", 1]),
    *(("if_not_exists", value, "must be one of: reject, create") for value in [None, "x"]),
    *(
        ("multitask_strategy", value, "must be one of: enqueue, reject, interrupt, rollback")
        for value in [None, "x"]
    ),
    *(("after_seconds", value, "must be a finite number") for value in [None, "5", True, [], {}]),
    *(
        ("feedback_keys", value, "must be a list of strings")
        for value in [None, "x", [1], [None], {}]
    ),
    *(("checkpoint_id", value, "must be a UUID") for value in [None, "x", 1, "0" * 32]),
    *(
        (name, value, 'must be "*" or a list of node names')
        for name in ("interrupt_before", "interrupt_after")
        for value in [None, "x", [1], {}]
    ),
    *(
        ("stream_mode", value, "must be one of, or a list of: values")
        for value in [None, "x", ["values", "x"], [1], {}]
    ),
    *(("config.tags", value, "must be a list of strings") for value in [None, "x", [1]]),
    *(
        (f"config.{name}", value, "must be an integer of at least 1")
        for name in ("recursion_limit", "max_concurrency")
        for value in [None, 0, -1, 1.5, "5", True, []]
    ),
    *(("config.configurable", value, "must be an object") for value in NOT_AN_OBJECT),
    *(("config.metadata", value, "must be an object") for value in NOT_AN_OBJECT),
    *(("config.run_name", value, "must be a string") for value in NOT_A_STRING),
    *(
        ("command.update", value, "must not have LangGraph's own key '__resume__'")
        for value in [{"a": 1, "__resume__": 1}, [["a", 1], ["__resume__", None]]]
    ),
    *(
        ("command.update", value, "must be an object, a list of [key, value] pairs, or null")
        for value in [1, "x", True, [1], [["a"]], [[1, 2]], [["a", 1, 2]], [{}]]
    ),
    *(
        ("command.goto", value, "must be a node name, an object with node and input")
        for value in [
            1,
            True,
            [1],
            {},
            {"node": "a"},
            {"input": 1},
            {"node": 1, "input": 1},
            [["a"]],
        ]
    ),
]


def nested(path: str, value: Any) -> dict[str, Any]:
    outer, _, inner = path.partition(".")
    return {outer: {inner: value} if inner else value}


@pytest.mark.parametrize(("path", "value", "text"), INVALID)
def test_a_value_of_a_wrong_kind_is_refused_by_the_fields_path(path, value, text):
    detail = refusal(**nested(path, value))
    assert detail.startswith(f"{path}: {text}")
    assert ";" not in detail


@pytest.mark.parametrize(
    ("path", "value", "loaded"),
    [
        ("input", None, None),
        ("input", [1], [1]),
        ("input", 10**400, 10**400),
        ("command", None, None),
        ("command", {}, {}),
        ("command.update", None, None),
        ("command.update", [["a", 1]], [["a", 1]]),
        ("command.resume", None, None),
        ("command.resume", [False], [False]),
        ("command.goto", None, None),
        ("command.goto", ["a", {"node": "b", "input": None}], ["a", {"node": "b", "input": None}]),
        ("config.recursion_limit", 5.0, 5),
        ("config.recursion_limit", 10**30, 10**30),
        ("stream_mode", "updates", ["updates"]),
        ("stream_mode", [], []),
        ("after_seconds", -1, -1),
        ("after_seconds", 0.5, 0.5),
        ("interrupt_before", "*", "*"),
        ("interrupt_after", [], []),
        ("webhook", "/relative?x=%20#f", "/relative?x=%20#f"),
        ("feedback_keys", [], []),
        ("metadata", {"a": {"b": None}}, {"a": {"b": None}}),
    ],
)
def test_a_valid_value_is_taken_as_it_is(path, value, loaded):
    body = load(**nested(path, value))
    for name in path.split("."):
        body = body[name]
    assert body == loaded
    assert type(body) is type(loaded)


def test_what_is_not_sent_is_not_made_up():
    assert load() == {"assistant_id": "g"}


def test_unknown_fields_are_ignored_at_every_depth():
    assert load(other=1, config={"callbacks": 1, "run_id": 2}) == {
        "assistant_id": "g",
        "config": {},
    }


def test_all_problems_are_named_at_once():
    detail = refusal(config={"recursion_limit": 0, "tags": 1}, on_completion="x")
    assert detail.split("; ") == [
        "config.tags: must be a list of strings",
        "config.recursion_limit: must be an integer of at least 1",
        "on_completion: must be one of: delete, keep",
    ] or set(detail.split("; ")) == {
        "config.tags: must be a list of strings",
        "config.recursion_limit: must be an integer of at least 1",
        "on_completion: must be one of: delete, keep",
    }


def test_a_missing_assistant_is_named():
    with pytest.raises(InvalidRequest, match=r"^assistant_id: is required$"):
        RunBody().of({})


@pytest.mark.parametrize("body", [None, [], "x", 1, True])
def test_a_body_that_is_no_object_is_refused(body):
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        RunBody().of(body)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("checkpoint_id", "x", "must be a UUID"),
        ("checkpoint_id", 5, "must be a UUID"),
        ("checkpoint_ns", [], "must be a string"),
        ("checkpoint_map", {"": "x"}, "must be an object of checkpoint ids"),
    ],
)
def test_a_checkpoint_among_the_configurable_is_one_on_a_thread_and_nothing_without(
    name, value, text
):
    body = {"assistant_id": "g", "config": {"configurable": {name: value}}, "metadata": 1}
    with pytest.raises(InvalidRequest) as raised:
        ThreadRunBody().of(body)
    problems = str(raised.value).split("; ")
    assert sorted(problems) == [
        f"config.configurable.{name}: {text}",
        "metadata: must be an object",
    ]
    assert refusal(**body | {"assistant_id": 1}).startswith("assistant_id: must be a string; meta")


@pytest.mark.parametrize("config", [None, 5, {"configurable": []}])
def test_a_configurable_that_is_none_is_refused_as_such(config):
    with pytest.raises(InvalidRequest, match=r"^config(\.configurable)?: must be an object$"):
        ThreadRunBody().of({"assistant_id": "g", "config": config})
