"""Every field of the body of POST /runs/wait does what it says, and is refused where it cannot."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest

from tests.e2e.calls import (
    FOREVER,
    UNLIMITED,
    Gate,
    bad_fields,
    begun,
    detail,
    document,
    joined,
    only,
    output,
    post,
    run_of,
)
from tests.servers import PATIENCE, RedisServer, Server, ServerFactory, eventually

NAMESPACE = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
OBSERVED = str(Path(__file__).resolve().parent / "observed" / "langgraph.json")
STREAM_MODES = ["values", "messages", "messages-tuple", "tasks", "checkpoints", "updates"]
STREAM_MODES += ["events", "debug", "custom"]


def seen(server: Server, **fields: Any) -> dict[str, Any]:
    """What the node of the graph `who` sees of its run."""
    facts: dict[str, Any] = output(server, "who", **fields)["seen"]
    return facts


class TestBody:
    @pytest.mark.parametrize("kind", ["application/json", "text/plain", None])
    def test_is_json_whatever_its_content_type(self, zoo: Server, kind: str | None) -> None:
        headers = {"Content-Type": kind} if kind else {}
        body = b'{"assistant_id": "echo", "input": {"value": 1}}'
        response = zoo.http.post("/runs/wait", content=body, headers=headers)
        assert response.json() == {"value": 1}

    @pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"\xff", b'{"a": NaN}', b"[" * 9999])
    def test_that_is_not_json_is_refused(self, zoo: Server, body: bytes) -> None:
        assert "JSON" in detail(zoo.http.post("/runs/wait", content=body), 422)

    @pytest.mark.parametrize("body", [[], "text", 1, None, True])
    def test_that_is_no_object_is_refused(self, zoo: Server, body: Any) -> None:
        content = json.dumps(body).encode()
        assert "object" in detail(zoo.http.post("/runs/wait", content=content), 422)

    def test_may_have_fields_that_nobody_knows(self, zoo: Server) -> None:
        config = {"nonsense": 1, "callbacks": 2, "run_id": "mine"}
        answer = output(zoo, "echo", input={"value": 1}, nonsense={}, config=config)
        assert answer == {"value": 1}

    def test_has_all_its_bad_fields_named_at_once(self, zoo: Server) -> None:
        response = zoo.http.post(
            "/runs/wait",
            json={
                "input": 1,
                "command": {"update": 1, "goto": {"node": "a"}},
                "metadata": None,
                "config": {"tags": "x", "recursion_limit": 0, "configurable": []},
                "context": [],
                "webhook": "",
                "stream_mode": ["values", "all"],
                "feedback_keys": [1],
                "stream_subgraphs": "true",
                "stream_resumable": 1,
                "on_completion": "complete",
                "on_disconnect": None,
                "after_seconds": "5",
                "checkpoint_during": 0,
                "durability": "never",
                "interrupt_before": "a",
                "interrupt_after": [None],
                "langsmith_tracer": "x",
                "multitask_strategy": "x",
                "if_not_exists": "x",
                "checkpoint": "x",
                "checkpoint_id": "x",
                "strict_resume": "x",
            },
        )
        assert sorted(bad_fields(response)) == [
            "after_seconds",
            "assistant_id",
            "checkpoint",
            "checkpoint_during",
            "checkpoint_id",
            "command.goto",
            "command.update",
            "config.configurable",
            "config.recursion_limit",
            "config.tags",
            "context",
            "durability",
            "feedback_keys",
            "if_not_exists",
            "interrupt_after",
            "interrupt_before",
            "langsmith_tracer",
            "metadata",
            "multitask_strategy",
            "on_completion",
            "on_disconnect",
            "stream_mode",
            "stream_resumable",
            "stream_subgraphs",
            "strict_resume",
            "webhook",
        ]


class TestAssistantId:
    def test_may_be_the_graphs_name(self, zoo: Server) -> None:
        assert output(zoo, "echo", input={"value": 1}) == {"value": 1}

    def test_may_be_the_uuid_made_from_the_graphs_name(self, zoo: Server) -> None:
        made = uuid5(NAMESPACE, "echo")
        for text in (str(made), str(made).upper()):
            response = post(zoo, text, input={"value": 1})
            assert response.json() == {"value": 1}
            assert run_of(zoo, response)["assistant_id"] == str(made)

    def test_is_not_found_where_it_is_a_uuid_of_nothing(self, zoo: Server) -> None:
        unknown = str(uuid4())
        assert unknown in detail(post(zoo, unknown), 404)

    @pytest.mark.parametrize("name", ["nonsense", "", "Echo", "echo ", "046b5dc7"])
    def test_is_refused_with_all_graphs_where_it_is_no_name(self, zoo: Server, name: str) -> None:
        response = post(zoo, name)
        assert bad_fields(response) == ["assistant_id"]
        graphs = json.loads(Path(zoo.environment["LANGGRAPH_CONFIG"]).read_text())["graphs"]
        words = detail(response, 422).replace(",", " ").split()
        assert set(graphs) <= set(words)

    def test_is_required(self, zoo: Server) -> None:
        assert bad_fields(zoo.http.post("/runs/wait", json={})) == ["assistant_id"]


class TestInput:
    @pytest.mark.parametrize("given", [{}, {"a": [1]}, [], [[1], "x"], "text", "", 5, -0.5, True])
    def test_may_be_any_json(self, zoo: Server, given: Any) -> None:
        for graph in ("entry", "aentry"):
            assert output(zoo, graph, input=given) == given

    def test_is_null_where_it_is_not_given(self, zoo: Server) -> None:
        answers = [
            zoo.http.post("/runs/wait", json={"assistant_id": "two_nodes", **given}).json()
            for given in ({}, {"input": None})
        ]
        assert answers[0] == answers[1]
        assert "__error__" in answers[0]


class TestCommand:
    """A command as a run's first input also follows the edge from the start: to a, and so to b."""

    @pytest.mark.parametrize(
        ("goto", "names", "values"),
        [
            ("c", ["a", "c", "b"], [None, None, None]),
            (["c"], ["a", "c", "b"], [None, None, None]),
            (["b", "c"], ["a", "b", "c", "b"], [None] * 4),
            ({"node": "c", "input": {"value": 5}}, ["a", "c", "b"], [None, 5, None]),
            ({"node": "c", "input": {}}, ["a", "c", "b"], [None, None, None]),
            ([{"node": "c", "input": {"value": n}} for n in (1, 2)], "accb", [None, 1, 2, None]),
            (["c", {"node": "c", "input": {"value": 5}}], "accb", [None, None, 5, None]),
            ("__end__", ["a", "b"], [None, None]),
        ],
        ids=str,
    )
    def test_goto_runs_the_nodes_besides(
        self, zoo: Server, goto: Any, names: Any, values: list[Any]
    ) -> None:
        answer = output(zoo, "gotos", input=None, command={"goto": goto})
        assert answer["names"] == list(names)
        assert answer["seen"] == values

    @pytest.mark.parametrize("update", [{"value": 3}, [["value", 3]]])
    def test_update_sets_the_values_that_nodes_see(self, zoo: Server, update: Any) -> None:
        answer = output(zoo, "gotos", input=None, command={"update": update})
        assert answer == {"value": 3, "names": ["a", "b"], "seen": [3, 3]}

    def test_update_and_goto_go_together(self, zoo: Server) -> None:
        command = {"update": {"value": 3}, "goto": "c", "resume": None}
        answer = output(zoo, "gotos", input=None, command=command)
        assert answer == {"value": 3, "names": ["a", "c", "b"], "seen": [3, 3, 3]}

    def test_takes_the_place_of_the_input(self, zoo: Server) -> None:
        answer = output(zoo, "gotos", input={"value": 9}, command={"goto": "c"})
        assert answer["seen"] == [None, None, None]

    @pytest.mark.parametrize(
        "command",
        [
            None,
            {},
            {"update": None, "goto": None, "resume": None},
            {"update": {}, "goto": []},
            {"update": [], "resume": None},
            {"nonsense": 1},
        ],
        ids=str,
    )
    def test_without_content_is_none(self, zoo: Server, command: Any) -> None:
        answer = output(zoo, "gotos", input={"value": 9}, command=command)
        assert answer == {"value": 9, "names": ["a", "b"], "seen": [9, 9]}

    @pytest.mark.parametrize("resume", [{}, [], "", 0, False, "yes", {"id": 1}])
    def test_resume_needs_a_thread(self, zoo: Server, resume: Any) -> None:
        refused = detail(post(zoo, "gotos", command={"resume": resume}), 400)
        assert "command.resume" in refused

    @pytest.mark.parametrize(
        "goto", [5, {}, {"node": "c"}, {"input": {}}, {"node": 1, "input": {}}, [1], [["c"]], True]
    )
    def test_goto_of_another_form_is_refused(self, zoo: Server, goto: Any) -> None:
        assert bad_fields(post(zoo, "gotos", command={"goto": goto})) == ["command.goto"]

    @pytest.mark.parametrize("update", [5, "text", [1], [["a"]], [["a", 1, 2]], [[1, 2]], True])
    def test_update_of_another_form_is_refused(self, zoo: Server, update: Any) -> None:
        assert bad_fields(post(zoo, "gotos", command={"update": update})) == ["command.update"]

    @pytest.mark.parametrize(
        "goto", ["x", ["c", "x"], {"node": "x", "input": 1}, ["a", {"node": "x", "input": None}]]
    )
    def test_goto_a_node_that_the_graph_lacks_is_refused(self, zoo: Server, goto: Any) -> None:
        response = post(zoo, "gotos", command={"goto": goto})
        assert bad_fields(response) == ["command.goto"]
        assert "'x'" in detail(response, 422)

    def test_goto_a_node_that_a_factorys_graph_lacks_is_the_runs_error(self, zoo: Server) -> None:
        answer = output(zoo, "factory", command={"goto": "x"})
        assert "'x'" in answer["__error__"]["message"]


class TestMetadata:
    def test_is_seen_by_the_graph_and_kept_with_the_run(self, zoo: Server) -> None:
        response = post(zoo, "who", metadata={"batch": "b1", "nested": {"n": [1]}})
        metadata = response.json()["seen"]["metadata"]
        assert metadata["batch"] == "b1"
        assert run_of(zoo, response)["metadata"]["batch"] == "b1"
        assert run_of(zoo, response)["metadata"]["nested"] == {"n": [1]}

    def test_of_the_config_is_seen_by_the_graph_too(self, zoo: Server) -> None:
        metadata = seen(zoo, config={"metadata": {"a": 1}}, metadata={"b": 2})["metadata"]
        assert (metadata["a"], metadata["b"]) == (1, 2)

    def test_holds_the_runs_ids_which_nobody_else_sets(self, zoo: Server) -> None:
        mine = dict.fromkeys(["run_id", "thread_id", "graph_id", "assistant_id"], "mine")
        for fields in ({}, {"metadata": mine}, {"config": {"metadata": mine}}):
            response = post(zoo, "who", **fields)
            facts = response.json()["seen"]
            _, _, thread_id, _, run_id = response.headers["Content-Location"].split("/")
            expected = {"run_id": run_id, "thread_id": thread_id, "graph_id": "who"}
            expected["assistant_id"] = str(uuid5(NAMESPACE, "who"))
            for where in ("metadata", "configurable"):
                assert {name: facts[where][name] for name in expected} == expected


class TestConfig:
    def test_tags_are_the_runs(self, zoo: Server) -> None:
        assert seen(zoo, config={"tags": ["a", "b"]})["tags"] == ["a", "b"]

    @pytest.mark.parametrize("limit", [7, 7.0])
    def test_recursion_limit_ends_a_graph_that_goes_on(self, zoo: Server, limit: float) -> None:
        error = output(zoo, "recursion", config={"recursion_limit": limit})["__error__"]
        assert error["error"] == "GraphRecursionError"
        assert "limit of 7 " in error["message"]

    def test_recursion_limit_may_allow_more_than_is_usual(self, zoo: Server) -> None:
        answer = output(zoo, "steps_sync", input={"n": 30}, config={"recursion_limit": 31})
        assert answer["steps"] == list(range(1, 31))

    @pytest.mark.parametrize("limit", [0, -1, 1.5, "7", True, None, [7]])
    def test_recursion_limit_of_another_form_is_refused(self, zoo: Server, limit: Any) -> None:
        for name in ("recursion_limit", "max_concurrency"):
            assert bad_fields(post(zoo, "who", config={name: limit})) == [f"config.{name}"]

    def test_configurable_is_seen_by_the_graph_as_its_context_too(self, zoo: Server) -> None:
        facts = seen(zoo, config={"configurable": {"colour": "red", "n": {"m": 1}}})
        assert facts["configurable"]["colour"] == "red"
        assert facts["configurable"]["n"] == {"m": 1}
        assert facts["context"] == {"colour": "red", "n": {"m": 1}}

    def test_configurable_holds_what_is_not_the_callers_to_set(self, zoo: Server) -> None:
        reserved = ["run_id", "thread_id", "graph_id", "assistant_id", "langgraph_request_id"]
        reserved += ["checkpoint_id", "checkpoint_ns", "checkpoint_map", "checkpoint_x"]
        mine = {**dict.fromkeys(reserved, "mine"), "colour": "red"}
        response = post(zoo, "who", config={"configurable": mine})
        facts = response.json()["seen"]
        assert facts["configurable"]["colour"] == "red"
        assert "mine" not in facts["configurable"].values()
        _, _, thread_id, _, run_id = response.headers["Content-Location"].split("/")
        assert facts["configurable"]["thread_id"] == thread_id
        assert facts["configurable"]["run_id"] == run_id
        assert facts["configurable"]["graph_id"] == "who"
        assert facts["configurable"]["assistant_id"] == str(uuid5(NAMESPACE, "who"))
        assert facts["context"] == {"colour": "red"}

    def test_configurable_cannot_reach_what_is_langgraphs_own(self, zoo: Server) -> None:
        mine = {"__pregel_checkpointer": 1, "__pregel_runtime": 2, "__x": 3, "colour": "red"}
        facts = seen(zoo, config={"configurable": mine})
        assert facts["configurable"]["colour"] == "red"
        assert facts["context"] == {"colour": "red"}

    def test_is_refused_where_a_part_is_of_another_type(self, zoo: Server) -> None:
        config = {"tags": [1], "run_name": 1, "metadata": [], "configurable": "x"}
        assert bad_fields(post(zoo, "who", config=config)) == [
            "config.tags",
            "config.configurable",
            "config.run_name",
            "config.metadata",
        ]
        for other in (None, [], "x", 1, True):
            assert bad_fields(post(zoo, "who", config=other)) == ["config"]


class TestContext:
    def test_is_seen_by_the_graph_in_the_configurable_too(self, zoo: Server) -> None:
        facts = seen(zoo, context={"colour": "red"})
        assert facts["context"] == {"colour": "red"}
        assert facts["configurable"]["colour"] == "red"

    def test_is_empty_where_neither_is_given(self, zoo: Server) -> None:
        for fields in ({}, {"context": {}}, {"config": {"configurable": {}}, "context": {}}):
            assert seen(zoo, **fields)["context"] == {}

    def test_and_a_configurable_exclude_each_other(self, zoo: Server) -> None:
        both = {"context": {"a": 1}, "config": {"configurable": {"b": 1}}}
        refused = detail(post(zoo, "who", **both), 400)
        assert "configurable" in refused
        assert "context" in refused

    @pytest.mark.parametrize("field", ["context", "configurable"])
    def test_has_the_shape_of_the_graphs_schema(self, zoo: Server, field: str) -> None:
        def ask(graph: str, values: dict[str, Any]) -> Any:
            given = {"context": values} if field == "context" else {"config": {field: values}}
            return output(zoo, graph, **given)["context"]

        assert ask("context_dataclass", {}) == {"user": "nobody", "level": 1}
        assert ask("context_dataclass", {"level": 2, "x": 1}) == {"user": "nobody", "level": 2}
        assert ask("context_pydantic", {"user": "ada"}) == {"user": "ada", "age": 0}
        assert ask("context_pydantic", {"user": "ada", "x": 1}) == {"user": "ada", "age": 0}

    def test_is_none_where_the_schema_requires_what_is_not_given(self, zoo: Server) -> None:
        assert output(zoo, "context_pydantic")["context"] is None

    @pytest.mark.parametrize("field", ["context", "configurable"])
    def test_that_the_schema_refuses_is_refused(self, zoo: Server, field: str) -> None:
        values = {"age": "old"}
        given = {"context": values} if field == "context" else {"config": {field: values}}
        response = post(zoo, "context_pydantic", **given)
        assert sorted(bad_fields(response)) == ["context.age", "context.user"]

    def test_reaches_factories(self, zoo: Server) -> None:
        for fields in ({"context": {"flavour": "mint"}},):
            assert output(zoo, "factory_config", **fields) == {"value": "mint"}
            both = output(zoo, "factory_both", **fields)["value"]
            assert (both["flavour"], both["context"]) == ("mint", {"flavour": "mint"})

    @pytest.mark.parametrize("other", [None, [], "x", 1, True])
    def test_of_another_type_is_refused(self, zoo: Server, other: Any) -> None:
        assert bad_fields(post(zoo, "who", context=other)) == ["context"]


class TestStreamMode:
    @pytest.mark.parametrize("mode", [*STREAM_MODES, STREAM_MODES, []], ids=str)
    def test_never_changes_the_answer(self, zoo: Server, mode: Any) -> None:
        for flags in ({}, {"stream_subgraphs": True, "stream_resumable": True}):
            answer = output(zoo, "subgraph", stream_mode=mode, **flags)
            assert answer == {"names": ["first", "third"], "value": 1}

    @pytest.mark.parametrize("mode", ["all", "", None, ["values", 1], [["values"]], {}, 1])
    def test_of_another_kind_is_refused(self, zoo: Server, mode: Any) -> None:
        assert bad_fields(post(zoo, "echo", stream_mode=mode)) == ["stream_mode"]


class TestDurability:
    @pytest.mark.parametrize("durability", ["sync", "async", "exit", None])
    @pytest.mark.parametrize("during", [True, False, None])
    def test_never_changes_the_answer(
        self, zoo: Server, durability: str | None, during: bool | None
    ) -> None:
        given = {"durability": durability, "checkpoint_during": during}
        fields = {name: value for name, value in given.items() if value is not None}
        assert output(zoo, "ckpt_true_subgraph", **fields) == {"visits": 1}
        assert output(zoo, "lambda_only_async", input={"value": 1}, **fields) == {"value": 1}


class TestInterruptBeforeAndAfter:
    @pytest.mark.parametrize("field", ["interrupt_before", "interrupt_after"])
    def test_refuse_nodes_that_the_graph_lacks(self, zoo: Server, field: str) -> None:
        response = post(zoo, "breakpoints", **{field: ["a", "x", "y"]})
        assert bad_fields(response) == [field]
        assert "'x'" in detail(response, 422)
        assert "'y'" in detail(response, 422)
        assert "'a'" not in detail(response, 422)

    def test_and_goto_are_told_of_unknown_nodes_all_at_once(self, zoo: Server) -> None:
        response = post(
            zoo,
            "context_pydantic",
            interrupt_before=["x"],
            interrupt_after=["y"],
            command={"goto": ["z"]},
            context={"age": 1},
        )
        named = ["command.goto", "context.user", "interrupt_after", "interrupt_before"]
        assert sorted(bad_fields(response)) == named

    @pytest.mark.parametrize("field", ["interrupt_before", "interrupt_after"])
    def test_take_the_end_for_a_node(self, zoo: Server, field: str) -> None:
        assert output(zoo, "breakpoints", **{field: ["__end__"]})["names"][0] == "a"

    @pytest.mark.parametrize("nodes", [[], "*", ["a"]])
    def test_may_be_a_list_or_all(self, zoo: Server, nodes: Any) -> None:
        names = ["a", "b", "c"] if nodes == [] else ["a"]
        assert output(zoo, "breakpoints", interrupt_after=nodes) == {"names": names}

    @pytest.mark.parametrize("nodes", ["a", "", None, [1], {}, 1, True, ["*", None]])
    def test_of_another_form_are_refused(self, zoo: Server, nodes: Any) -> None:
        fields = {"interrupt_before": nodes, "interrupt_after": nodes}
        assert bad_fields(post(zoo, "breakpoints", **fields)) == list(fields)

    def test_hold_for_the_graph_of_a_factory(self, zoo: Server) -> None:
        assert "value" not in output(zoo, "factory", interrupt_before=["node"])
        error = output(zoo, "factory", interrupt_before=["x"])["__error__"]
        assert "'x'" in error["message"]


class TestOnDisconnect:
    """More of clients that go away is in test_stopping.py."""

    @pytest.mark.parametrize("graph", ["steps_sync", "steps_async"])
    def test_cancel_stops_the_run_of_a_client_that_left(
        self, zoo: Server, graph: str, tmp_path: Path
    ) -> None:
        notes = tmp_path / "notes"
        given = {**FOREVER, "file": str(notes)}
        with begun(zoo, graph, input=given, on_disconnect="cancel", config=UNLIMITED) as response:
            eventually(notes.exists)
        eventually(lambda: run_of(zoo, response)["status"] == "interrupted")
        ended = len(notes.read_text().splitlines())
        with joined(zoo, response) as again:
            values = document(again)
        assert values["steps"] == list(range(1, len(values["steps"]) + 1))
        # A step that could not be stopped may end; a run of ten steps' length shows that no
        # other begins.
        output(zoo, "sleep_async", input={"seconds": 10 * FOREVER["seconds"]})
        assert len(notes.read_text().splitlines()) <= ended + 1

    @pytest.mark.parametrize("field", [{"on_disconnect": "continue"}, {}], ids=str)
    def test_continue_lets_the_run_finish(
        self, zoo: Server, field: dict[str, str], tmp_path: Path
    ) -> None:
        with Gate(tmp_path) as gate:
            with begun(zoo, "sleep_sync", input=gate.input, **field) as response:
                pass
            # Whoever the worker is, it has answered others since: it had its chance to notice.
            for worker in zoo.workers():
                with only(zoo, worker):
                    assert run_of(zoo, response)["status"] == "running"
            gate.open()
            with joined(zoo, response) as again:
                assert document(again) == {**gate.input, "done": True}
        assert run_of(zoo, response)["status"] == "success"


class TestAfterSeconds:
    @pytest.mark.parametrize("seconds", [0, -0.0, -5, -1e300, -(10**400)])
    def test_of_nothing_or_less_start_at_once(self, zoo: Server, seconds: float) -> None:
        assert output(zoo, "echo", input={"value": 1}, after_seconds=seconds) == {"value": 1}


class TestWhatReachesBeyondTheRun:
    @pytest.mark.parametrize(
        ("field", "values"),
        [
            ("on_completion", ["Keep", "", None, True]),
            ("after_seconds", ["1", None, True, []]),
            ("webhook", ["", "<string>", "a b", 5, None, "http://a/" + "a" * 65536]),
        ],
    )
    def test_is_refused_where_it_is_malformed(
        self, zoo: Server, field: str, values: list[Any]
    ) -> None:
        for value in values:
            assert bad_fields(post(zoo, "echo", **{field: value})) == [field]

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://8.8.8.8/",
            "http:///path",
            "http://user:secret@8.8.8.8/",
            "http://127.0.0.1:8000/",
            "http://localhost/",
            "http://10.1.2.3/",
            "http://169.254.169.254/latest/meta-data",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://2130706433/",
            "http://0x7f.1/",
            "/relative",
        ],
    )
    def test_is_refused_where_a_webhook_goes_to_no_public_address(
        self, zoo: Server, url: str
    ) -> None:
        assert bad_fields(post(zoo, "echo", webhook=url)) == ["webhook"]

    @pytest.mark.parametrize("key", ["", "a b", '"', '"a', '""', "~" * 256, "é"])
    def test_is_refused_where_an_idempotency_key_is_malformed(self, zoo: Server, key: str) -> None:
        headers = {"Idempotency-Key": key.encode("latin-1")}
        assert bad_fields(post(zoo, "echo", headers)) == ["Idempotency-Key"]  # type: ignore[arg-type]


class TestRequestId:
    def test_of_the_header_is_seen_by_the_graph(self, zoo: Server) -> None:
        mine = f"request-{uuid4()}"
        facts = seen(zoo, headers={"X-Request-ID": mine})
        assert facts["configurable"]["langgraph_request_id"] == mine
        assert facts["metadata"]["langgraph_request_id"] == mine
        eventually(lambda: zoo.logged(mine))

    def test_is_made_where_there_is_none(self, zoo: Server) -> None:
        made = [seen(zoo)["configurable"]["langgraph_request_id"] for _ in range(2)]
        assert made[0] != made[1]
        assert all(each and isinstance(each, str) for each in made)


class TestOrderOfChecks:
    def test_is_path_size_body_assistant_conflicts_and_nodes(self, zoo: Server) -> None:
        """Each request has every problem that comes later in the order."""
        body: dict[str, Any] = {
            "assistant_id": str(uuid4()),
            "stream_mode": "nonsense",
            "context": {"age": "old"},
            "config": {"configurable": {"a": 1}},
            "command": {"resume": 1, "goto": "x"},
        }
        assert zoo.http.post("/runs/waits", json=body).status_code == 404
        assert zoo.http.put("/runs/wait", json=body).status_code == 405
        assert "POST" in zoo.http.get("/runs/wait").headers["Allow"]
        assert bad_fields(zoo.http.post("/runs/wait", json=body)) == ["stream_mode"]
        del body["stream_mode"]
        detail(zoo.http.post("/runs/wait", json=body), 404)
        body["assistant_id"] = "nonsense"
        assert bad_fields(zoo.http.post("/runs/wait", json=body)) == ["assistant_id"]
        body["assistant_id"] = "context_pydantic"
        detail(zoo.http.post("/runs/wait", json=body), 400)
        del body["config"]
        detail(zoo.http.post("/runs/wait", json=body), 400)
        del body["command"]["resume"]
        detail(zoo.http.post("/runs/wait", json=body), 422)
        del body["command"]
        detail(zoo.http.post("/runs/wait", json=body), 422)
        body["context"]["age"] = 1
        body["context"]["user"] = "ada"
        assert zoo.http.post("/runs/wait", json=body).status_code == 200

    def test_has_the_size_before_the_content(self, zoo: Server) -> None:
        with socket.create_connection(("127.0.0.1", zoo.port), PATIENCE) as connection:
            head = (
                "POST /runs/wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
            )
            connection.sendall(head.encode() + b"nonsense")
            assert connection.makefile("rb").readline() == (
                b"HTTP/1.1 413 REQUEST ENTITY TOO LARGE\r\n"
            )

    def test_has_the_path_before_the_size(self, zoo: Server) -> None:
        with socket.create_connection(("127.0.0.1", zoo.port), PATIENCE) as connection:
            head = "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
            connection.sendall(head.encode() + b"nonsense")
            assert connection.makefile("rb").readline() == b"HTTP/1.1 404 NOT FOUND\r\n"


class TestWhatLangChainIsTold:
    def test_follows_the_config(self, serve: ServerFactory, valkey: RedisServer) -> None:
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=OBSERVED, WEB_CONCURRENCY=1)

        config = {"run_name": "nightly", "tags": ["t"]}
        response = post(server, "traced", config=config, metadata={"batch": 1})
        trace = response.json()["trace"]
        # That it was found at all shows that the tracer knows the run by the run's own id.
        assert trace["name"] == "nightly"
        assert trace["tags"] == ["t"]
        assert trace["metadata"]["batch"] == 1
        assert output(server, "traced")["trace"]["name"] == "traced"

        for graph in ("wide", "awide"):
            for limit in (1, 2, 4):
                limited = {"max_concurrency": limit}
                answer = output(server, graph, input={"together": limit}, config=limited)
                assert answer == {"together": limit, "peak": limit, "done": 4}
            assert output(server, graph, input={"together": 4})["peak"] == 4


class TestFeedbackKeys:
    """What they do with LangSmith is in test_langsmith.py."""

    def test_change_nothing_without_langsmith(self, zoo: Server) -> None:
        answer = output(zoo, "echo", input={"value": 1}, feedback_keys=["liked"])
        assert answer == {"value": 1}

    @pytest.mark.parametrize("keys", [None, "liked", [1], {}])
    def test_of_another_type_are_refused(self, zoo: Server, keys: Any) -> None:
        assert bad_fields(post(zoo, "echo", feedback_keys=keys)) == ["feedback_keys"]
