"""Streams and background runs by LangGraph's Python SDK, in both forms, across two processes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError
from langgraph_sdk.schema import StreamPart

from tests.e2e.calls import Gate, Sdk, lapse, only
from tests.e2e.chats import GISTS, TOKENS, TOLD, gist, of_mode, said, until, whole
from tests.faulty import FaultyNetwork
from tests.servers import PROJECTS, RedisServer, Server, ServerFactory, eventually

ZOO = PROJECTS / "zoo" / "langgraph.json"


@pytest.fixture(params=["sync", "async"])
def form(request: pytest.FixtureRequest) -> str:
    form: str = request.param
    return form


@pytest.fixture
def sdk(form: str, zoo: Server) -> Sdk:
    return Sdk(zoo.url, form)


@pytest.fixture
def thread_id(sdk: Sdk) -> str:
    found: str = sdk("threads.create")["thread_id"]
    return found


class TestStream:
    @pytest.mark.parametrize("mode", GISTS)
    def test_has_the_events_of_a_mode(self, sdk: Sdk, thread_id: str, mode: str) -> None:
        parts = whole(
            [*sdk.stream("runs.stream", thread_id, "chat", input=said(TOLD), stream_mode=mode)]
        )
        assert [gist(part) for part in parts] == GISTS[mode]
        assert of_mode(mode, parts) == parts

    def test_has_the_events_of_all_modes_at_once(self, sdk: Sdk, thread_id: str) -> None:
        parts = whole(
            [*sdk.stream("runs.stream", thread_id, "chat", input=said(TOLD), stream_mode=[*GISTS])]
        )
        for mode, gists in GISTS.items():
            assert [gist(part) for part in of_mode(mode, parts)] == gists
        # What is named first does not come first; what happened first does.
        names = [part.event for part in parts]
        assert (
            names.index("custom")
            < names.index("messages")
            < len(names) - names[::-1].index("values")
        )

    def test_has_the_events_of_langchain(self, sdk: Sdk) -> None:
        parts = whole(
            [*sdk.stream("runs.stream", None, "chat", input=said(TOLD), stream_mode="events")]
        )
        assert {part.event for part in parts} == {"events"}
        chunks = [
            part.data["data"]["chunk"]["content"]
            for part in parts
            if part.data["event"] == "on_chat_model_stream"
        ]
        assert chunks == [*TOKENS, ""]

    def test_has_the_events_of_tools(self, sdk: Sdk) -> None:
        given = said("Count: one two")
        parts = whole([*sdk.stream("runs.stream", None, "chat", input=given, stream_mode="tools")])
        assert [gist(part) for part in parts] == [
            ("on_tool_start", "call_1"),
            ("on_tool_end", "call_1"),
        ]

    def test_names_subgraphs_in_its_events(self, sdk: Sdk) -> None:
        modes = ["updates", "messages-tuple", "custom"]
        asked = {"input": said(TOLD), "stream_mode": modes}
        inside = whole(
            [*sdk.stream("runs.stream", None, "chat_inside", stream_subgraphs=True, **asked)]
        )
        (namespace,) = {part.event.partition("|")[2] for part in inside} - {""}
        assert namespace.startswith("chat:")
        for mode in modes:
            gists = [gist(part) for part in of_mode(mode, inside) if "|" in part.event]
            assert gists == GISTS[mode]
        assert [gist(part) for part in inside if "|" not in part.event] == [["chat"]]

        outside = whole([*sdk.stream("runs.stream", None, "chat_inside", **asked)])
        assert [(part.event, gist(part)) for part in outside] == [
            ("messages", TOLD),
            ("updates", ["chat"]),
        ]

    @pytest.mark.parametrize("resumable", [True, False])
    @pytest.mark.parametrize("graph", ["chat", "chat_async"])
    def test_has_each_token_as_soon_as_it_is_there(
        self, sdk: Sdk, tmp_path: Path, graph: str, resumable: bool
    ) -> None:
        told: list[Any] = []
        with Gate(tmp_path) as gate:
            parts = sdk.stream(
                "runs.stream",
                None,
                graph,
                input=said(TOLD, gate),
                stream_mode="messages-tuple",
                stream_resumable=resumable,
                on_run_created=told.append,
            )
            # The second does not come before the gate is open: the first did not wait for it.
            begun = until("messages", parts)
            assert [gist(part) for part in begun[1:]] == ["one "]
            gate.open()
            assert [gist(part) for part in whole([*begun, *parts])] == [*TOKENS, ""]
        (run,) = told
        assert run.items() <= begun[0].data.items()
        assert (begun[0].id is not None) is resumable

    def test_is_interrupted_and_resumed(self, sdk: Sdk, thread_id: str) -> None:
        asked = {"stream_mode": ["values", "updates"]}
        parts = [*sdk.stream("runs.stream", thread_id, "chat", input=said("May I go?"), **asked)]
        *_, update, values = whole(parts, "interrupted")
        assert (update.event, values.event) == ("updates", "values")
        (pending,) = values.data["__interrupt__"]
        assert pending["value"] == {"question": "May I go?"}
        assert update.data == {"__interrupt__": [pending]}

        command = {"resume": {pending["id"]: "You may."}}
        parts = whole([*sdk.stream("runs.stream", thread_id, "chat", command=command, **asked)])
        assert [gist(part) for part in of_mode("updates", parts)] == [["ask"], ["answer"]]
        assert gist(parts[-1]) == ["May I go?", "You may.", "You may."]

    def test_shows_all_interrupts_of_a_step_at_its_end(self, sdk: Sdk) -> None:
        parts = whole([*sdk.stream("runs.stream", None, "two_interrupts", input={})], "interrupted")
        assert [each["value"]["ask"] for each in parts[-1].data["__interrupt__"]] == [
            "left",
            "right",
        ]

    def test_stops_at_breakpoints(self, sdk: Sdk) -> None:
        asked = {"input": {}, "interrupt_before": ["c"], "stream_mode": "updates"}
        parts = whole([*sdk.stream("runs.stream", None, "breakpoints", **asked)], "interrupted")
        assert [part.data for part in parts] == [
            {"a": {"names": ["a"]}},
            {"b": {"names": ["b"]}},
            {"__interrupt__": []},
        ]

    @pytest.mark.parametrize("graph", ["fails", "fails_async"])
    def test_has_the_runs_error_as_an_event(self, sdk: Sdk, graph: str) -> None:
        parts = [*sdk.stream("runs.stream", None, graph, input={}, stream_mode="updates")]
        (error,) = whole(parts, "error")
        assert error.event == "error"
        assert error.data == {"error": "ValueError", "message": "no luck"}

    def test_has_the_form_that_the_sdk_calls_v2(self, sdk: Sdk) -> None:
        asked = {"input": said("May I go?"), "version": "v2"}
        first: Any
        first, *others = sdk.stream("runs.stream", None, "chat", **asked)
        assert first["type"] == "metadata"
        values: Any = others[-1]
        assert (values["type"], values["ns"]) == ("values", [])
        assert values["interrupts"][0]["value"] == {"question": "May I go?"}

    def test_cancels_its_run_if_it_is_left_and_was_told_to(self, sdk: Sdk, tmp_path: Path) -> None:
        with Gate(tmp_path) as gate:
            parts = sdk.stream(
                "runs.stream",
                None,
                "chat",
                input=said(TOLD, gate),
                stream_mode="messages-tuple",
                on_disconnect="cancel",
                on_completion="keep",
            )
            run = until("messages", parts)[0].data
            parts.close()
            eventually(
                lambda: sdk("runs.get", run["thread_id"], run["run_id"])["status"] == "interrupted"
            )

    def test_begins_although_the_thread_is_busy(
        self, sdk: Sdk, thread_id: str, tmp_path: Path
    ) -> None:
        with Gate(tmp_path) as gate:
            first = sdk("runs.create", thread_id, "chat", input=said("first", gate))
            with contextlib.closing(
                sdk.stream("runs.stream", thread_id, "chat", input=said("second"))
            ) as parts:
                with pytest.raises(ConflictError):
                    next(sdk.stream("runs.stream", thread_id, "chat", multitask_strategy="reject"))
                gate.open()
                assert gist(whole([*parts])[-1]) == ["first", "first", "second", "second"]
        assert sdk("runs.get", thread_id, first["run_id"])["status"] == "success"

    def test_is_refused_before_it_begins(self, sdk: Sdk) -> None:
        for assistant_id, options, words in (
            ("nonsense", {}, "assistant_id"),
            ("chat", {"stream_mode": "nonsense"}, "stream_mode"),
        ):
            with pytest.raises(UnprocessableEntityError, match=words):
                next(sdk.stream("runs.stream", None, assistant_id, input={}, **options))
        with pytest.raises(NotFoundError, match="not found"):
            next(sdk.stream("runs.stream", str(uuid4()), "chat", input={}))


class TestJoinStream:
    MODES = ("messages-tuple", "values", "custom")

    def stream(self, sdk: Sdk, **options: Any) -> list[StreamPart]:
        """A run that can be resumed, to its end."""
        asked = {"input": said(TOLD), "stream_mode": [*self.MODES], "stream_resumable": True}
        return [*sdk.stream("runs.stream", None, "chat", **{**asked, **options})]

    def join(
        self, sdk: Sdk, first: StreamPart, **options: Any
    ) -> Generator[StreamPart, None, None]:
        run = first.data
        return sdk.stream("runs.join_stream", run["thread_id"], run["run_id"], **options)

    def test_has_all_events_again_from_the_first_on(self, sdk: Sdk) -> None:
        parts = self.stream(sdk)
        for beginning in ("-1", "0"):
            assert [*self.join(sdk, parts[0], last_event_id=beginning)] == parts

    def test_has_the_events_after_any_other(self, sdk: Sdk) -> None:
        parts = self.stream(sdk)
        for place in (1, len(parts) // 2, len(parts) - 2):
            joined = [*self.join(sdk, parts[0], last_event_id=parts[place].id)]
            assert joined[0].data == parts[0].data
            assert joined[1:] == parts[place + 1 :]

    def test_has_the_modes_that_are_asked_for(self, sdk: Sdk) -> None:
        parts = self.stream(sdk)
        for mode in self.MODES:
            joined = whole([*self.join(sdk, parts[0], stream_mode=mode, last_event_id="-1")])
            assert [gist(part) for part in joined] == GISTS[mode]
        two = ["values", "custom"]
        joined = whole([*self.join(sdk, parts[0], stream_mode=two, last_event_id="-1")])
        assert {part.event for part in joined} == {*two}

    def test_has_the_last_values_of_a_run_that_was_not_stored(self, sdk: Sdk) -> None:
        parts = self.stream(sdk, stream_resumable=False)
        (values,) = whole([*self.join(sdk, parts[0])])
        assert gist(values) == [TOLD, TOLD]

    @pytest.mark.parametrize("resumable", [True, False])
    def test_follows_a_run_of_another_process(
        self, sdk: Sdk, zoo: Server, tmp_path: Path, resumable: bool
    ) -> None:
        one, other = zoo.workers()
        with Gate(tmp_path) as gate:
            with only(zoo, one):
                run = sdk(
                    "runs.create",
                    None,
                    "chat",
                    input=said(TOLD, gate),
                    stream_mode=["messages-tuple", "values"],
                    stream_resumable=resumable,
                )
                ids = run["thread_id"], run["run_id"]
                eventually(lambda: sdk("runs.get", *ids)["status"] == "running")
            with only(zoo, other):
                parts = sdk.stream(
                    "runs.join_stream", *ids, last_event_id="-1" if resumable else None
                )
                first = next(parts)
            gate.open()
            joined = whole([first, *parts])
        if resumable:
            assert [gist(part) for part in of_mode("messages-tuple", joined)] == [*TOKENS, ""]
        # Of one that is not stored, there is what came once the other process had heard of it.
        assert gist(of_mode("values", joined)[-1]) == [TOLD, TOLD]

    def test_has_what_comes_from_now_on_without_an_id(self, sdk: Sdk, tmp_path: Path) -> None:
        with Gate(tmp_path) as gate:
            asked = {"input": said(TOLD, gate), "stream_mode": "messages-tuple"}
            parts = sdk.stream("runs.stream", None, "chat", stream_resumable=True, **asked)
            begun = until("messages", parts)
            joining = self.join(sdk, begun[0])
            first = next(joining)
            gate.open()
            joined = [first, *joining]
            assert joined == [begun[0]._replace(id=None), *parts]

    def test_cancels_the_run_if_it_is_left_and_was_told_to(self, sdk: Sdk, tmp_path: Path) -> None:
        with Gate(tmp_path) as gate:
            run = sdk("runs.create", None, "chat", input=said(TOLD, gate), on_completion="keep")
            ids = run["thread_id"], run["run_id"]
            parts = sdk.stream("runs.join_stream", *ids, cancel_on_disconnect=True)
            next(parts)
            parts.close()
            eventually(lambda: sdk("runs.get", *ids)["status"] == "interrupted")

    def test_of_what_there_is_not_is_refused(self, sdk: Sdk) -> None:
        run = self.stream(sdk)[0]
        with pytest.raises(NotFoundError):
            next(sdk.stream("runs.join_stream", str(uuid4()), run.data["run_id"]))
        for bad in ({"last_event_id": "nonsense"}, {"stream_mode": "nonsense"}):
            with pytest.raises(UnprocessableEntityError):
                next(self.join(sdk, run, **bad))


class TestAConnectionThatBreaks:
    @pytest.fixture
    def network(self, zoo: Server) -> Iterator[FaultyNetwork]:
        network = FaultyNetwork(zoo.port)
        yield network
        network.close()

    @pytest.fixture
    def far(self, form: str, network: FaultyNetwork) -> Sdk:
        """A client whose connections go through that network."""
        return Sdk(f"http://127.0.0.1:{network.port}", form)

    def test_costs_a_resumable_stream_nothing(
        self, far: Sdk, sdk: Sdk, network: FaultyNetwork, tmp_path: Path
    ) -> None:
        with Gate(tmp_path) as gate:
            asked = {"input": said(TOLD, gate), "stream_mode": [*GISTS]}
            parts = far.stream("runs.stream", None, "chat", stream_resumable=True, **asked)
            begun = until("messages", parts)
            network.break_all()
            gate.open()
            rest = [*parts]
        # The join says which run it is; it repeats nothing else.
        (again,) = [part for part in rest if part.event == "metadata"]
        assert again.data == begun[0].data
        rest.remove(again)
        run = again.data
        joining = sdk.stream(
            "runs.join_stream", run["thread_id"], run["run_id"], last_event_id="-1"
        )
        assert [*begun, *rest] == [*joining]
        tokens = of_mode("messages-tuple", whole([*begun, *rest]))
        assert [gist(part) for part in tokens] == [*TOKENS, ""]

    def test_costs_another_stream_no_more_than_what_came_meanwhile(
        self, far: Sdk, network: FaultyNetwork, tmp_path: Path
    ) -> None:
        with Gate(tmp_path) as gate, pytest.warns(UserWarning, match="Last-Event-ID"):
            asked = {"input": said(TOLD, gate), "stream_mode": ["values", "messages-tuple"]}
            parts = far.stream("runs.stream", None, "chat", **asked)
            begun = until("messages", parts)
            network.break_all()
            again = next(parts)
            assert again.data == begun[0].data
            gate.open()
            assert gist(whole([again, *parts])[-1]) == [TOLD, TOLD]

    def test_leaves_a_join_the_modes_that_were_asked_for(
        self, far: Sdk, sdk: Sdk, network: FaultyNetwork, tmp_path: Path
    ) -> None:
        with Gate(tmp_path) as gate:
            asked = {"input": said(TOLD, gate), "stream_mode": ["values", "updates"]}
            run = sdk("runs.create", None, "chat", stream_resumable=True, **asked)
            ids = run["thread_id"], run["run_id"]
            parts = far.stream("runs.join_stream", *ids, stream_mode="updates", last_event_id="-1")
            begun = until("updates", parts)
            network.break_all()
            gate.open()
            # Each join says which run it is.
            rest = [part for part in parts if part.event != "metadata"]
        assert [gist(part) for part in whole([*begun, *rest])] == GISTS["updates"]


class TestAProcessThatDies:
    def test_costs_a_resumable_stream_a_second_attempt(
        self, form: str, serve: ServerFactory, valkey: RedisServer, tmp_path: Path
    ) -> None:
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
        sdk = Sdk(server.url, form)
        killed, _ = server.workers()
        with Gate(tmp_path) as gate, only(server, killed):
            asked = {"input": said(TOLD, gate), "stream_mode": "messages-tuple"}
            parts = sdk.stream("runs.stream", None, "chat", stream_resumable=True, **asked)
            begun = until("messages", parts)
            os.kill(killed, signal.SIGKILL)
        lapse(valkey, begun[0].data["run_id"])
        rest = [*parts]
        attempts = [part.data["attempt"] for part in rest if part.event == "metadata"]
        assert attempts == [1, 2]
        # On a thread of its own it begins again, with what it had had as with what it had not.
        second = [part for part in rest if part.event == "messages"]
        assert [gist(part) for part in [*begun[1:], *second]] == ["one ", *TOKENS, ""]
        assert rest[-1].data["status"] == "success"


class TestBackground:
    def test_runs_are_there_at_once_and_end_by_themselves(
        self, sdk: Sdk, thread_id: str, tmp_path: Path
    ) -> None:
        with Gate(tmp_path) as gate:
            first = sdk("runs.create", thread_id, "chat", input=said("first", gate))
            second = sdk("runs.create", thread_id, "chat", input=said("second"))
            assert [run["status"] for run in (first, second)] == ["pending", "pending"]
            queue = sdk("runs.list", thread_id, status="pending")
            assert second["run_id"] in [run["run_id"] for run in queue]
            gate.open()
            answer = sdk("runs.join", thread_id, second["run_id"])
        assert [each["content"] for each in answer["messages"]] == [
            *("first", "first"),
            *("second", "second"),
        ]
        assert sdk("runs.join", thread_id, first["run_id"])["messages"] == answer["messages"][:2]

    def test_without_a_thread_have_one_of_their_own(self, sdk: Sdk) -> None:
        told: list[Any] = []
        run = sdk("runs.create", None, "echo", input={"value": 1}, on_run_created=told.append)
        ids = {name: run[name] for name in ("run_id", "thread_id")}
        assert told == [ids]
        assert sdk("runs.join", run["thread_id"], run["run_id"]) == {"value": 1}
        assert sdk("runs.get", run["thread_id"], run["run_id"])["status"] == "success"

    def test_in_a_batch_are_told_in_order(self, sdk: Sdk) -> None:
        batch = [{"assistant_id": "echo", "input": {"value": number}} for number in range(5)]
        runs = sdk("runs.create_batch", batch)
        assert [run["kwargs"]["input"]["value"] for run in runs] == [0, 1, 2, 3, 4]
        assert len({run["thread_id"] for run in runs}) == 5
        for number, run in enumerate(runs):
            assert sdk("runs.join", run["thread_id"], run["run_id"]) == {"value": number}

    def test_in_a_batch_are_refused_together(self, sdk: Sdk) -> None:
        mark = {"mark": str(uuid4())}
        good = {"assistant_id": "echo", "metadata": mark, "on_completion": "keep"}
        bad = {"assistant_id": "nonsense"}
        with pytest.raises(UnprocessableEntityError, match="1: assistant_id"):
            sdk("runs.create_batch", [good, bad, good])
        assert sdk("threads.count", metadata=mark) == 0
        sdk("runs.create_batch", [good, good])
        assert sdk("threads.count", metadata=mark) == 2


class TestThreadStream:
    def test_has_the_runs_one_after_the_other(
        self, sdk: Sdk, thread_id: str, tmp_path: Path
    ) -> None:
        stored = [
            [*sdk.stream("runs.stream", thread_id, "chat", input=said(text), stream_resumable=True)]
            for text in ("first", "second")
        ]
        with contextlib.closing(
            sdk.stream("threads.join_stream", thread_id, last_event_id="-")
        ) as parts:
            # It says that a run is done where that says that it ended.
            for run in stored:
                replayed = [next(parts) for _ in run]
                assert replayed[:-1] == run[:-1]
                assert replayed[-1].event == "metadata"
                assert replayed[-1].data == {
                    "status": "run_done",
                    "run_id": run[0].data["run_id"],
                    "how": "success",
                }
            with Gate(tmp_path) as gate:
                # It goes on with what comes.
                sdk("runs.create", thread_id, "chat", input=said("third", gate))
                assert until("metadata", parts)[0].data["attempt"] == 1
                gate.open()
                *values, done = until("metadata", parts)
            assert gist(values[-1])[-2:] == ["third", "third"]
            assert done.data["status"] == "run_done"

    def test_has_no_more_than_was_asked_for(self, sdk: Sdk, thread_id: str) -> None:
        with contextlib.closing(
            sdk.stream(
                "threads.join_stream",
                thread_id,
                last_event_id="-",
                stream_mode=["lifecycle", "state_update"],
            )
        ) as parts:
            asked = {"input": said("first"), "stream_resumable": True}
            run = sdk.stream("runs.stream", thread_id, "chat", **asked)
            until("end", run)
            begun, done = next(parts), next(parts)
            assert (begun.data["attempt"], done.data["status"]) == (1, "run_done")
            sdk("threads.update_state", thread_id, said("noted"))
            update = next(parts)
        assert update.event == "state_update"
        values = update.data["state"]["values"]
        assert values["messages"][-1]["content"] == "noted"

    def test_of_what_there_is_not_is_refused(self, sdk: Sdk, thread_id: str) -> None:
        with pytest.raises(NotFoundError):
            next(sdk.stream("threads.join_stream", str(uuid4())))
        for bad in ({"last_event_id": "nonsense"}, {"stream_mode": "nonsense"}):
            with pytest.raises(UnprocessableEntityError):
                next(sdk.stream("threads.join_stream", thread_id, **bad))
