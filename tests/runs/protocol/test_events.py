"""The events of LangGraph's event protocol: as they are logged, and as they are given."""

from __future__ import annotations

import json
from typing import Any, ClassVar, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Interrupt, interrupt

from runwait.runs.events import Event, last_events, metadata_of
from runwait.runs.protocol.events import CHANNELS, ProtocolTranslation, Subscription

TOKEN = 1_700_000_000_000_000


def made(*chunks: tuple[tuple[str, ...], str, Any]) -> list[tuple[str, Any]]:
    """The events that are made of what LangGraph streams."""
    translation = ProtocolTranslation()
    pairs = [pair for chunk in chunks for pair in translation.events(*chunk)]
    return [(name, json.loads(data)) for name, data in [*pairs, *translation.last((), b"")]]


def given(subscription: Subscription, *events: Event) -> list[dict[str, Any]]:
    """What a client is given for events."""
    return [json.loads(data) for each in events for _, data in subscription.messages(each)]


def event(name: str, data: Any, number: int = 1) -> Event:
    return Event(name, json.dumps(data).encode(), (TOKEN, number))


def ending(status: str, error: dict[str, str] | None = None) -> list[Event]:
    return [
        Event(*pair, (TOKEN, number))
        for number, pair in enumerate(last_events("r", status, error), 10)
    ]


class TestOtherRuns:
    """What is told of runs that the protocol did not start."""

    ASKED: ClassVar[Any] = {"a": 1, "__interrupt__": [{"value": "May I?", "id": "i"}]}

    @pytest.mark.parametrize("channels", [["input", "lifecycle"], ["values", "input"]])
    def test_an_interrupt_is_told_of_before_the_last_values_which_have_it(
        self, channels: list[str]
    ) -> None:
        got = given(Subscription(channels), event("values", self.ASKED))
        asked = {"interrupt_id": "i", "payload": "May I?", "value": "May I?"}
        assert got[0]["method"] == "input.requested"
        assert (got[0]["params"]["namespace"], got[0]["params"]["data"]) == ([], asked)
        # Where it is cut off in between, both come again.
        assert got[0]["seq"] == TOKEN
        assert [each["method"] for each in got[1:]] == ["values"] * ("values" in channels)

    def test_it_is_told_of_once_and_to_who_wants_it(self) -> None:
        values = event("values", self.ASKED)
        assert given(Subscription(["input"], since=TOKEN + 1), values) == []
        assert [each["method"] for each in given(Subscription(["values"]), values)] == ["values"]

    @pytest.mark.parametrize(
        "values", ["__interrupt__", {"__interrupt__": "a"}, {"__interrupt__": [1, {}]}]
    )
    def test_values_may_have_the_word_otherwise(self, values: Any) -> None:
        got = given(Subscription(["input", "values"]), event("values", values))
        assert [each["method"] for each in got] == ["values"]


class TestTranslation:
    def test_has_the_checkpoint_of_values_before_them(self) -> None:
        config = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c2"}}
        parent = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c1"}}
        metadata = {"step": 3, "source": "loop"}
        checkpoint = {"config": config, "parent_config": parent, "metadata": metadata, "values": 1}
        events = made(((), "values", 1), ((), "checkpoints", checkpoint), ((), "custom", 2))
        assert [name for name, _ in events] == ["checkpoints", "values", "custom"]
        named = {"id": "c2", "parent_id": "c1", "step": 3, "source": "loop"}
        assert events[0][1] == {**checkpoint, **named, "tasks": []}

    def test_has_values_without_a_checkpoint_in_their_order(self) -> None:
        chunks = [((), "values", 1), (("sub:1",), "values", 2), ((), "updates", 3)]
        events = made(*chunks, (("sub:1",), "checkpoints", {}), ((), "values", 4))
        assert [name for name, _ in events] == [
            *("values", "values|sub:1", "updates", "checkpoints|sub:1", "values")
        ]
        assert events[-1] == ("values", 4)

    def test_names_the_message_in_each_of_its_events(self) -> None:
        """Several models may speak at once."""
        first, second = ({"run_id": "r1"}, {"run_id": "r2"})
        events = made(
            ((), "messages", ({"event": "message-start", "id": "m1"}, first)),
            ((), "messages", ({"event": "message-start", "id": "m2"}, second)),
            ((), "messages", ({"event": "content-block-delta", "delta": 1}, first)),
            ((), "messages", ({"event": "message-finish"}, second)),
        )
        assert [data[0]["message_id"] for _, data in events] == ["m1", "m2", "m1", "m2"]
        assert [data[0]["run_id"] for _, data in events] == ["r1", "r2", "r1", "r2"]

    def test_has_whole_messages_in_blocks_by_their_roles(self) -> None:
        events = made(
            ((), "messages", (AIMessage("a", id="1"), {})),
            ((), "messages", (HumanMessage("b", id="2"), {})),
        )
        begun = [data[0] for _, data in events if data[0]["event"] == "message-start"]
        assert [(each["id"], each["role"]) for each in begun] == [("1", "ai"), ("2", "human")]
        texts = [data[0]["delta"]["text"] for _, data in events if "delta" in data[0]]
        assert texts == ["a", "b"]

    @pytest.mark.parametrize("message", [ToolMessage("a", tool_call_id="c"), RemoveMessage("1")])
    def test_has_nothing_of_messages_that_are_none_of_a_chat(self, message: Any) -> None:
        assert made(((), "messages", (message, {}))) == []

    def test_asks_what_interrupts_ask_at_the_end(self) -> None:
        asked = list(ProtocolTranslation().last([Interrupt({"a": 1}, id="i")], b"{}"))
        assert [(name, json.loads(data)) for name, data in asked] == [
            ("input", {"interrupt_id": "i", "payload": {"a": 1}, "value": {"a": 1}})
        ]

    @pytest.mark.parametrize(
        ("waiting", "failed", "answered"),
        [
            ([], False, ["a", "b"]),
            (["b", "c"], False, ["a"]),
            (["a", "b"], False, []),
            ([], True, []),
        ],
    )
    def test_names_what_was_answered_and_waits_no_more(
        self, waiting: list[str], failed: bool, answered: list[str]
    ) -> None:
        interrupts = [Interrupt(1, id=each) for each in waiting]
        told = ProtocolTranslation(["a", "b"]).last(interrupts, b"{}", failed=failed)
        named = [json.loads(data)["interrupt_ids"] for name, data in told if name != "input"]
        assert named == ([answered] if answered else [])

    def test_asks_in_the_innermost_graph_that_was_interrupted(self) -> None:
        class Inner(TypedDict, total=False):
            answer: str

        def ask(state: Inner) -> Inner:
            return {"answer": interrupt("sure?")}

        inner = StateGraph(Inner).add_node(ask).add_edge(START, "ask").compile()
        middle = StateGraph(Inner).add_node("inner", inner).add_edge(START, "inner").compile()
        graph = StateGraph(Inner).add_node("middle", middle).add_edge(START, "middle")
        translation = ProtocolTranslation()
        events = graph.compile(checkpointer=InMemorySaver()).stream(
            {}, {"configurable": {"thread_id": "t"}}, stream_mode=["tasks"], subgraphs=True
        )
        asked = [
            Interrupt(**each)
            for namespace, mode, payload in events
            for _ in [*translation.events(namespace, mode, payload)]
            for each in payload.get("interrupts", ())
        ]
        ((name, _),) = translation.last(asked[:1], b"{}")
        assert [each.partition(":")[0] for each in name.split("|")] == ["input", "middle", "inner"]


class TestSubscription:
    def test_gives_an_event_its_place_its_time_and_its_namespace(self) -> None:
        (got,) = given(Subscription(["values"]), event("values|a:1|b:2", {"x": "ü"}, 2500))
        assert got == {
            "type": "event",
            "event_id": f"{TOKEN}-2500",
            "seq": TOKEN + 2500,
            "method": "values",
            "params": {
                "namespace": ["a:1", "b:2"],
                "timestamp": TOKEN // 1000 + 2,
                "data": {"x": "ü"},
            },
        }

    def test_gives_what_was_answered_with_what_is_asked(self) -> None:
        (got,) = given(Subscription(["input"]), event("input.answered", 1))
        assert (got["method"], got["params"]["data"]) == ("input.answered", 1)

    def test_gives_only_what_comes_after_a_number(self) -> None:
        events = [event("values", number, number) for number in range(1, 5)]
        got = given(Subscription(["values"], since=TOKEN + 2), *events)
        assert [each["params"]["data"] for each in got] == [3, 4]

    @pytest.mark.parametrize(
        ("namespaces", "depth", "wanted"),
        [
            (None, None, ["", "a:1", "a:1|b:2", "c:3"]),
            ([], 0, ["", "a:1", "a:1|b:2", "c:3"]),
            ([[]], 0, [""]),
            ([[]], 1, ["", "a:1", "c:3"]),
            ([["a"]], None, ["a:1", "a:1|b:2"]),
            ([["a:1"]], 0, ["a:1"]),
            ([["a:2"]], None, []),
            ([["a", "b"], ["c"]], 0, ["a:1|b:2", "c:3"]),
        ],
    )
    def test_gives_only_what_is_in_the_namespaces(
        self, namespaces: Any, depth: int | None, wanted: list[str]
    ) -> None:
        events = [
            event("values" + ("|" + each if each else ""), each)
            for each in ("", "a:1", "a:1|b:2", "c:3")
        ]
        got = given(Subscription(["values"], namespaces, depth), *events)
        assert [each["params"]["data"] for each in got] == wanted

    @pytest.mark.parametrize(
        ("channel", "wanted"),
        [("custom", [None, "n", "m"]), ("custom:n", ["n"]), ("custom:other", [])],
    )
    def test_gives_what_is_written_by_the_names_of_channels(
        self, channel: str, wanted: list[Any]
    ) -> None:
        events = [event("custom", 1), event("custom:n", 1), event("custom:m", 1)]
        got = given(Subscription([channel]), *events)
        assert {each["method"] for each in got} <= {"custom"}
        assert [each["params"]["data"].get("name") for each in got] == wanted
        assert [each["params"]["data"]["payload"] for each in got] == [1] * len(wanted)

    def test_gives_what_names_its_channel_itself_on_that_and_as_it_was_written(self) -> None:
        written = {"name": "n", "step": 1}
        events = [event("custom", each) for each in (written, {"name": ""}, {"name": 5}, ["name"])]
        for channel in ("custom:n", "custom"):
            first, *others = given(Subscription([channel]), *events)
            assert first["params"]["data"] == {**written, "payload": written}
            assert len(others) == (3 if channel == "custom" else 0)
        assert given(Subscription(["custom:other"]), *events) == []

    @pytest.mark.parametrize(
        ("status", "error", "told"),
        [
            ("success", None, {"event": "completed"}),
            ("error", {"error": "E", "message": "m"}, {"event": "failed", "error": "E: m"}),
            ("timeout", {"error": "E", "message": "m"}, {"event": "failed", "error": "E: m"}),
            ("interrupted", None, {"event": "interrupted"}),
            ("rollback", None, {"event": "interrupted"}),
        ],
    )
    def test_tells_how_a_run_begins_and_ends(
        self, status: str, error: dict[str, str] | None, told: dict[str, Any]
    ) -> None:
        begun = Event("metadata", metadata_of("t", "r", 1, graph_name="g").data, (TOKEN, 1))
        got = given(Subscription(["lifecycle"]), begun, *ending(status, error))
        assert [each["params"]["data"] for each in got] == [
            {"event": "running", "graph_name": "g"},
            told,
        ]
        assert all(each["event_id"].startswith("synth:r:") for each in got)

    def test_does_not_take_the_error_of_one_run_for_that_of_the_next(self) -> None:
        error = {"error": "E", "message": "m"}
        subscription = Subscription(["lifecycle"])
        got = given(subscription, *ending("error", error), *ending("interrupted"))
        assert got[-1]["params"]["data"] == {"event": "interrupted"}

    def test_gives_what_has_no_place_in_a_log_without_a_number(self) -> None:
        (got,) = given(
            Subscription(["lifecycle"]), Event("end", b'{"run_id":"r","status":"success"}')
        )
        assert set(got) == {"type", "event_id", "method", "params"}
        assert got["event_id"] == "synth:r:end"

    def test_gives_nothing_that_the_protocol_has_no_word_for(self) -> None:
        names = ("debug", "events", "feedback", "messages/partial", "state_update")
        events = [event(each, {}) for each in names]
        events.append(event("messages", [{"content": "chunk"}, {}]))
        events.append(event("tools", {"event": "on_tool_start"}))
        assert given(Subscription(CHANNELS), *events) == []
