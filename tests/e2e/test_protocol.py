"""LangGraph's event protocol, over HTTP, through two workers."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.e2e.calls import FOREVER, UNLIMITED, Gate, detail, only
from tests.e2e.chats import said
from tests.e2e.sse import Events, Sent, join
from tests.servers import PATIENCE, PROJECTS, Server, eventually

ZOO = str(PROJECTS / "zoo" / "langgraph.json")
CHANNELS = [
    "values",
    "updates",
    "messages",
    "tools",
    "lifecycle",
    "input",
    "checkpoints",
    "tasks",
    "custom",
]
WRITTEN = {"n": 2, "size": 1}


def new_id() -> str:
    return str(uuid4())


def command(server: Server, thread_id: str, method: str, **params: Any) -> dict[str, Any]:
    """What comes of a command, on a connection of its own."""
    asked = {"id": 7, "method": method, "params": params}
    url = f"{server.url}/threads/{thread_id}/commands"
    response = httpx.post(url, json=asked, timeout=PATIENCE)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert answer["id"] == 7
    return answer


def start(server: Server, thread_id: str, assistant_id: str, **params: Any) -> str:
    """The id of a run that is started."""
    asked = {"assistant_id": assistant_id, "input": {}, **params}
    answer = command(server, thread_id, "run.start", **asked)
    assert answer["type"] == "success", answer
    run_id: str = answer["result"]["run_id"]
    return run_id


def refused(server: Server, thread_id: str, method: str, **params: Any) -> tuple[str, str]:
    """The word for what is wrong with a command, and the text."""
    answer = command(server, thread_id, method, **params)
    assert answer["type"] == "error"
    return answer["error"], answer["message"]


@contextlib.contextmanager
def subscribed(
    server: Server, thread_id: str, channels: list[str] = CHANNELS, **wanted: Any
) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of a thread, as they come."""
    path = f"/threads/{thread_id}/stream/events"
    with Events(server, "POST", path, json={"channels": channels, **wanted}) as events:
        yield map(_event, events)


def _event(sent: Sent) -> dict[str, Any]:
    event: dict[str, Any] = sent.data
    assert event["type"] == "event"
    assert sent.id == str(event["seq"])
    return event


def ends(event: dict[str, Any]) -> bool:
    """Whether a run is over with an event."""
    params = event["params"]
    return event["method"] == "lifecycle" and (
        params["namespace"] == [] and params["data"]["event"] != "running"
    )


def up_to(events: Iterator[dict[str, Any]], last: Callable[[Any], bool] = ends) -> list[Any]:
    """What comes up to an event."""
    came = []
    for event in events:
        came.append(event)
        if last(event):
            return came
    raise AssertionError(f"the stream ended after {came}")


def events_of(server: Server, thread_id: str, **wanted: Any) -> list[dict[str, Any]]:
    """The events of a thread up to the end of a run, by a subscription that comes now."""
    with subscribed(server, thread_id, **wanted) as events:
        return up_to(events)


def data_of(events: list[dict[str, Any]], method: str) -> list[Any]:
    return [each["params"]["data"] for each in events if each["method"] == method]


class TestRunStart:
    def test_makes_the_thread_and_answers_at_once(self, zoo, gate):
        thread_id = new_id()
        run_id = start(zoo, thread_id, "steps_async", input={**gate.input, "n": 3})
        run = zoo.http.get(f"/threads/{thread_id}/runs/{run_id}").json()
        assert (run["status"], run["thread_id"]) == ("running", thread_id)

    def test_waits_for_its_turn_without_its_client(self, zoo, gate):
        thread_id = new_id()
        start(zoo, thread_id, "steps_async", input={**gate.input, "n": 3})
        answer = command(zoo, thread_id, "run.start", assistant_id="echo", input={})
        assert answer["meta"] == {"applied_through_seq": 0}
        gate.open()
        with subscribed(zoo, thread_id, ["lifecycle"]) as events:
            graphs = [each["params"]["data"].get("graph_name") for each in events_until(events, 4)]
        assert graphs == ["steps_async", None, "echo", None]

    def test_says_after_which_number_its_events_are(self, zoo):
        thread_id = new_id()
        start(zoo, thread_id, "writes", input=WRITTEN)
        before = events_of(zoo, thread_id)
        answer = command(zoo, thread_id, "run.start", assistant_id="writes", input=WRITTEN)
        through = answer["meta"]["applied_through_seq"]
        after = events_of(zoo, thread_id, since=through)
        assert before[-1]["seq"] <= through < after[0]["seq"]
        assert data_of(after, "custom") == data_of(before, "custom")

    def test_goes_on_from_an_earlier_state_where_the_config_names_one(self, zoo):
        thread_id = new_id()
        start(zoo, thread_id, "chat", input=said("one"))
        first = events_of(zoo, thread_id)
        start(zoo, thread_id, "chat", input=said("May I go?"))
        asked = events_of(zoo, thread_id, since=first[-1]["seq"])
        checkpoint = data_of(first, "checkpoints")[-1]["id"]
        config = {"configurable": {"checkpoint_id": checkpoint}}
        # The thread waits for an answer, of which this is none.
        start(zoo, thread_id, "chat", input=said("two"), config=config)
        (*_, values) = data_of(events_of(zoo, thread_id, since=asked[-1]["seq"]), "values")
        assert [each["content"] for each in values["messages"]][0::2] == ["one", "two"]
        config = {"configurable": {"checkpoint_id": new_id()}}
        params = {"assistant_id": "chat", "input": said("two"), "config": config}
        assert refused(zoo, thread_id, "run.start", **params)[0] == "no_such_checkpoint"

    def test_sends_config_and_metadata(self, zoo):
        thread_id = new_id()
        config = {"tags": ["t"], "configurable": {"colour": "red"}}
        start(zoo, thread_id, "who", config=config, metadata={"batch": 1})
        (*_, values) = data_of(events_of(zoo, thread_id), "values")
        assert values["seen"]["configurable"]["colour"] == "red"
        assert values["seen"]["metadata"]["batch"] == 1

    @pytest.mark.parametrize(
        ("params", "text"),
        [
            ({}, "assistant_id: is required"),
            ({"assistant_id": "nobody"}, "assistant_id: must be"),
            ({"assistant_id": "echo", "config": {"recursion_limit": 0}}, "config.recursion_limit"),
            ({"assistant_id": "echo", "metadata": []}, "metadata: must be an object"),
            (
                {"assistant_id": "echo", "config": {"configurable": {"checkpoint_id": 5}}},
                "config.configurable.checkpoint_id: must be a UUID",
            ),
        ],
    )
    def test_of_what_cannot_be_run_is_an_error_that_names_it(self, zoo, params, text):
        thread_id = new_id()
        word, message = refused(zoo, thread_id, "run.start", **params)
        assert word == "invalid_argument"
        assert text in message
        assert zoo.http.get(f"/threads/{thread_id}").status_code == 404


def events_until(events: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return [next(events) for _ in range(count)]


class TestInputRespond:
    def test_answers_an_interrupt_as_soon_as_it_is_told_of(self, zoo):
        thread_id = new_id()
        with subscribed(zoo, thread_id) as events:
            start(zoo, thread_id, "chat", input=said("May I go?"))
            came = up_to(events, lambda event: event["method"] == "input.requested")
            (asked,) = data_of(came, "input.requested")
            assert asked["payload"] == asked["value"] == {"question": "May I go?"}
            answer = {"interrupt_id": asked["interrupt_id"], "response": "You may"}
            assert command(zoo, thread_id, "input.respond", **answer)["result"] == {}
            assert data_of(up_to(events), "lifecycle")[-1] == {"event": "interrupted"}
            (*_, values) = data_of(up_to(events), "values")
        assert [each["content"] for each in values["messages"]][:2] == ["May I go?", "You may"]

    def test_answers_several(self, zoo):
        thread_id = new_id()
        start(zoo, thread_id, "two_interrupts")
        asked = data_of(events_of(zoo, thread_id), "input.requested")
        responses = [
            {"interrupt_id": each["interrupt_id"], "response": str(place), "namespace": []}
            for place, each in enumerate(asked)
        ]
        assert len(responses) == 2
        answer = command(zoo, thread_id, "input.respond", responses=responses)
        came = events_of(zoo, thread_id, since=answer["meta"]["applied_through_seq"])
        assert data_of(came, "lifecycle")[-1] == {"event": "completed"}

    def test_the_input_of_a_run_is_the_answer_where_one_is_waited_for(self, zoo):
        thread_id = new_id()
        start(zoo, thread_id, "chat", input=said("May I go?"))
        before = events_of(zoo, thread_id)
        start(zoo, thread_id, "chat", input="You may")
        came = events_of(zoo, thread_id, since=before[-1]["seq"])
        (*_, values) = data_of(came, "values")
        assert [each["content"] for each in values["messages"]][:2] == ["May I go?", "You may"]

    def test_of_what_nobody_asked_is_an_error(self, zoo):
        thread_id = new_id()
        answer = {"interrupt_id": "0" * 32, "response": 1}
        none = ("no_such_run", f"run on thread {thread_id} not found")
        assert refused(zoo, thread_id, "input.respond", **answer) == none
        start(zoo, thread_id, "chat", input=said("May I go?"))
        (asked,) = data_of(events_of(zoo, thread_id), "input.requested")
        word, message = refused(zoo, thread_id, "input.respond", **answer)
        assert word == "no_such_interrupt"
        assert asked["interrupt_id"] in message
        assert refused(zoo, thread_id, "input.respond", response=1)[0] == "invalid_argument"


class TestAgentGetTree:
    def test_has_the_subgraphs_of_the_latest_run(self, zoo):
        thread_id = new_id()
        assert refused(zoo, thread_id, "agent.getTree")[0] == "no_such_run"
        run_id = start(zoo, thread_id, "chat_inside", input=said("one"))
        events_of(zoo, thread_id)
        tree = command(zoo, thread_id, "agent.getTree")["result"]["tree"]
        (child,) = tree.pop("children")
        assert tree == {"namespace": [], "status": "completed", "graph_name": "chat_inside"}
        assert (child["status"], child["graph_name"]) == ("completed", "chat")
        assert command(zoo, thread_id, "agent.getTree", run_id=run_id)["result"]["tree"][
            "children"
        ] == [child]


class TestCommands:
    def test_that_are_not_known_are_told_so(self, zoo):
        assert refused(zoo, new_id(), "state.get", namespace=[])[0] == "unknown_command"

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "[]",
            "{}",
            '{"id": 1, "method": 2}',
            '{"id": "1", "method": "run.start"}',
            '{"id": -1, "method": "run.start"}',
            '{"id": 1, "method": "run.start", "params": []}',
        ],
    )
    def test_without_an_envelope_are_refused(self, zoo, body):
        detail(zoo.http.post(f"/threads/{new_id()}/commands", content=body), 400)


class TestEvents:
    def test_are_numbered_and_told_to_whoever_comes_later_as_they_were(self, zoo):
        thread_id = new_id()
        before = time.time()
        with subscribed(zoo, thread_id) as events:
            run_id = start(zoo, thread_id, "writes_counted", input=WRITTEN)
            came = up_to(events)
        numbers = [each["seq"] for each in came]
        assert numbers == sorted(set(numbers))
        assert len({each["event_id"] for each in came}) == len(came)
        times = [each["params"]["timestamp"] / 1000 for each in came]
        assert before - 1 <= min(times) <= max(times) <= time.time() + 1
        # By this the JavaScript SDK knows the run.
        assert [each["event_id"].split(":")[:2] for each in (came[0], came[-1])] == [
            ["synth", run_id]
        ] * 2
        for worker in zoo.workers():
            with only(zoo, worker):
                assert events_of(zoo, thread_id) == came
                assert events_of(zoo, thread_id, since=came[3]["seq"]) == came[4:]

    def test_of_several_runs_come_in_turn(self, zoo):
        thread_id = new_id()
        with subscribed(zoo, thread_id) as events:
            start(zoo, thread_id, "writes", input=WRITTEN)
            first = up_to(events)
            start(zoo, thread_id, "fails")
            second = up_to(events)
        numbers = [each["seq"] for each in first + second]
        assert numbers == sorted(set(numbers))
        with subscribed(zoo, thread_id, since=first[5]["seq"]) as events:
            assert up_to(events) + up_to(events) == first[6:] + second
        assert data_of(second, "lifecycle") == [
            {"event": "running", "graph_name": "fails"},
            {"event": "failed", "error": "ValueError: no luck"},
        ]

    def test_are_of_the_channels_that_are_asked_for(self, zoo):
        thread_id = new_id()
        start(zoo, thread_id, "writes_counted", input=WRITTEN)
        whole = events_of(zoo, thread_id)
        methods = {each["method"] for each in whole}
        assert methods == {"lifecycle", "values", "updates", "tasks", "checkpoints", "custom"}
        for channel in methods:
            came = events_of(zoo, thread_id, channels=[channel, "lifecycle"])
            assert came == [each for each in whole if each["method"] in (channel, "lifecycle")]
        counts = data_of(
            events_of(zoo, thread_id, channels=["custom:counts", "lifecycle"]), "custom"
        )
        assert counts == [{"name": "counts", "payload": 1}, {"name": "counts", "payload": 2}]
        assert [each for each in data_of(whole, "custom") if "name" not in each] == [
            {"payload": {"number": number, "text": "x"}} for number in range(2)
        ]

    def test_are_of_the_namespaces_that_are_asked_for(self, zoo):
        thread_id = new_id()
        start(zoo, thread_id, "chat_inside", input=said("Count: one two"))
        whole = events_of(zoo, thread_id)
        spaces = {tuple(each["params"]["namespace"]) for each in whole}
        inside = next(each for each in spaces if each)
        assert inside[0].startswith("chat:")
        root = events_of(zoo, thread_id, namespaces=[[]], depth=0)
        assert root == [each for each in whole if not each["params"]["namespace"]]
        last = events_of_count(zoo, thread_id, len(whole) - len(root), namespaces=[["chat"]])
        assert last == [each for each in whole if each["params"]["namespace"]]
        assert last == events_of_count(zoo, thread_id, len(last), namespaces=[[inside[0]]])

    @pytest.mark.parametrize("assistant_id", ["chat", "chat_async"])
    def test_of_messages_come_in_blocks_while_the_model_speaks(self, zoo, gate, assistant_id):
        thread_id = new_id()
        with subscribed(zoo, thread_id) as events:
            start(zoo, thread_id, assistant_id, input=said("one two three", gate))
            came = up_to(events, lambda event: event["params"]["data"].get("delta") is not None)
            gate.open()
            came += up_to(events)
        told = [each["params"] for each in came if each["method"] == "messages"]
        kinds = [each["data"]["event"] for each in told]
        assert kinds[:2] == ["message-start", "content-block-start"]
        assert kinds[-2:] == ["content-block-finish", "message-finish"]
        text = "".join(each["data"].get("delta", {}).get("text", "") for each in told)
        assert text == "one two three"
        assert {each["node"] for each in told} == {"answer"}
        assert {each["data"]["message_id"] for each in told} == {told[0]["data"]["id"]}

    def test_of_a_checkpoint_come_before_its_values(self, zoo):
        thread_id = new_id()
        start(zoo, thread_id, "chat", input=said("one"))
        came = events_of(zoo, thread_id)
        places = [n for n, each in enumerate(came) if each["method"] == "values"]
        befores = [came[place - 1]["params"]["data"] for place in places]
        assert [each["step"] for each in befores] == [0, 2]
        states = zoo.http.get(f"/threads/{thread_id}/history").json()
        ids = [each["checkpoint"]["checkpoint_id"] for each in states]
        assert [each["id"] for each in befores] == [ids[2], ids[0]]
        assert befores[1]["parent_id"] == ids[1]

    def test_of_a_run_that_is_cancelled_end_with_interrupted(self, zoo):
        thread_id = new_id()
        with subscribed(zoo, thread_id, ["lifecycle", "updates"]) as events:
            config = UNLIMITED
            run_id = start(zoo, thread_id, "steps_async", input=FOREVER, config=config)
            up_to(events, lambda event: event["method"] == "updates")
            zoo.http.post(f"/threads/{thread_id}/runs/{run_id}/cancel")
            assert data_of(up_to(events), "lifecycle")[-1] == {"event": "interrupted"}

    def test_of_other_runs_tell_of_these_too(self, zoo):
        thread_id = new_id()
        with subscribed(zoo, thread_id) as events:
            body = {"assistant_id": "chat", "input": said("one"), "if_not_exists": "create"}
            body["stream_mode"] = ["values", "messages-tuple", "messages", "tools"]
            zoo.http.post(f"/threads/{thread_id}/runs", json=body)
            came = up_to(events)
        assert {each["method"] for each in came} == {"lifecycle", "values"}
        assert data_of(came, "lifecycle")[-1] == {"event": "completed"}

    def test_can_be_joined_as_those_of_any_run(self, zoo):
        thread_id = new_id()
        run_id = start(zoo, thread_id, "chat", input=said("one two"))
        with join(zoo, f"/threads/{thread_id}/runs/{run_id}", "-1") as events:
            came = list(events)
        assert (came[0].name, came[-1].name) == ("metadata", "end")
        values = [each.data for each in came if each.name == "values"]
        assert [each["content"] for each in values[0]["messages"]] == ["one two"]
        assert [each.data for each in came if each.name == "custom"] == [{"told": 1}]
        assert all(len(each.data) == 2 for each in came if each.name == "messages")

    @pytest.mark.parametrize(
        "wanted",
        [
            {},
            {"channels": []},
            {"channels": "values"},
            {"channels": ["value"]},
            {"channels": ["custom:"]},
            {"channels": ["values"] * 1001},
            {"channels": ["values"], "namespaces": ["a"]},
            {"channels": ["values"], "namespaces": [[]] * 1001},
            {"channels": ["values"], "depth": -1},
            {"channels": ["values"], "since": "0"},
            [],
        ],
    )
    def test_are_refused_to_who_asks_badly(self, zoo, wanted):
        detail(zoo.http.post(f"/threads/{new_id()}/stream/events", json=wanted), 400)


def events_of_count(
    server: Server, thread_id: str, count: int, **wanted: Any
) -> list[dict[str, Any]]:
    with subscribed(server, thread_id, **wanted) as events:
        return events_until(events, count)


class TestWatchers:
    """Who subscribes to `lifecycle` and `input` alone, as the Python SDK does before it runs."""

    WATCHED = ("lifecycle", "input")

    def told(self, server: Server, thread_id: str, started: str) -> list[Any]:
        """The graphs of the runs that a watcher is told of, up to one that is started then."""
        with subscribed(server, thread_id, [*self.WATCHED]) as events:
            start(server, thread_id, started)
            graphs = []
            for event in events:
                graphs.append(event["params"]["data"].get("graph_name"))
                if graphs[-1] == started:
                    return [each for each in graphs if each]
        raise AssertionError(f"not told of {started}, but of {graphs}")

    def test_are_told_once_how_the_latest_run_ended(self, zoo):
        thread_id = new_id()
        for graph in ("echo", "none_output"):
            start(zoo, thread_id, graph)
            events_of(zoo, thread_id)
        assert events_of(zoo, thread_id, channels=[*self.WATCHED])
        assert self.told(zoo, thread_id, "who") == ["who"]

    def test_are_not_told_of_a_run_that_others_have_watched(self, zoo):
        thread_id = new_id()
        with subscribed(zoo, thread_id, [*self.WATCHED]) as events:
            start(zoo, thread_id, "echo")
            up_to(events)
        assert self.told(zoo, thread_id, "who") == ["who"]

    def test_are_told_of_one_that_waits_for_an_answer(self, zoo):
        thread_id = new_id()
        start(zoo, thread_id, "chat", input=said("May I go?"))
        for _ in range(2):
            came = events_of(zoo, thread_id, channels=[*self.WATCHED])
            (asked,) = data_of(came, "input.requested")
            assert asked["value"] == {"question": "May I go?"}

    def test_are_told_what_a_run_asks_that_another_client_created(self, zoo):
        thread_id = zoo.http.post("/threads", json={}).json()["thread_id"]
        with subscribed(zoo, thread_id, [*self.WATCHED]) as events:
            body = {"assistant_id": "chat", "input": said("May I go?")}
            zoo.http.post(f"/threads/{thread_id}/runs", json=body).raise_for_status()
            (asked,) = data_of(up_to(events), "input.requested")
        assert asked["value"] == {"question": "May I go?"}

    def test_are_told_what_followed_where_they_come_again(self, zoo):
        thread_id = new_id()
        with subscribed(zoo, thread_id, [*self.WATCHED]) as events:
            start(zoo, thread_id, "echo")
            came = up_to(events)
        again = events_of(zoo, thread_id, channels=[*self.WATCHED], since=came[0]["seq"])
        assert again == came[1:]


class TestFaults:
    def test_events_are_whole_although_their_process_is_killed(self, serve, valkey, gate: Gate):
        server = serve(
            REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=2, RUN_LEASE_SECONDS=1
        )
        thread_id = new_id()
        first, second = server.workers()
        with only(server, second):
            subscription = subscribed(server, thread_id)
            events = subscription.__enter__()
        with only(server, first):
            start(server, thread_id, "steps_async", input={**gate.input, "n": 5})
        came = up_to(events, lambda event: event["method"] == "updates")
        os.kill(first, signal.SIGKILL)
        gate.open()
        came += up_to(events)
        numbers = [each["seq"] for each in came]
        assert numbers == sorted(set(numbers))
        running = {"event": "running", "graph_name": "steps_async"}
        assert data_of(came, "lifecycle") == [running, running, {"event": "completed"}]
        eventually(lambda: len(server.workers()) == 2)
        assert events_of(server, thread_id) == came
        subscription.__exit__(None, None, None)
