"""Graphs leave the same behind as with LangGraph's own checkpointer in memory."""

from __future__ import annotations

import asyncio
import itertools
import operator
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels.any_value import AnyValue
from langgraph.channels.delta import DeltaChannel
from langgraph.channels.ephemeral_value import EphemeralValue
from langgraph.channels.last_value import LastValue
from langgraph.channels.topic import Topic
from langgraph.channels.untracked_value import UntrackedValue
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from runwait.storage.checkpoint import RedisSaver, UnrevivableValue
from tests.servers import VERSION
from tests.storage.checkpoint.graphs import build, config_of, history
from tests.storage.checkpoint.test_rollback import FLOWS, run

LATEST: Any = {"configurable": {"thread_id": "t"}}


# The same flows are run on all kinds by test_rollback.py, and what a script does there is tested by
# test_saver.py.
on_one_kind = pytest.mark.parametrize("any_redis", [VERSION], indirect=True)


@on_one_kind
@pytest.mark.parametrize("on_loop", [False, True], ids=["sync", "on a loop"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("flow", FLOWS)
def test_the_history_is_the_same(
    flow: str, durability: str, on_loop: bool, saver: RedisSaver
) -> None:
    steps, last = FLOWS[flow]
    histories = []
    for each in (InMemorySaver(), saver):
        graph = build(each)
        for number, step in enumerate([*steps, last]):
            run(graph, step, config_of("t", f"run-{number}"), durability, on_loop=on_loop)
        histories.append(history(graph, config_of("t", "")))

    assert histories[0] == histories[1]
    assert len(histories[0]) > 1


def test_time_travel_and_updates_are_the_same(saver: RedisSaver) -> None:
    histories = []
    for each in (InMemorySaver(), saver):
        graph = build(each)
        run(graph, FLOWS["second run"][0][0], config_of("t", "one"), "sync")
        middle = list(graph.get_state_history(LATEST))[2]
        graph.invoke(None, middle.config)
        graph.update_state(middle.config, {"log": ["forked"]}, as_node="first")
        graph.invoke(None, LATEST)
        graph.update_state(LATEST, {"log": ["at last"]})
        histories.append(history(graph, config_of("t", "")))

    assert histories[0] == histories[1]


def extend(before: list[int] | None, writes: Sequence[list[int]]) -> list[int]:
    return [*(before or []), *itertools.chain(*writes)]


class Numbers(TypedDict):
    numbers: Annotated[list[int], DeltaChannel(extend, snapshot_frequency=4)]
    plain: int


def counting(saver: BaseCheckpointSaver[Any]) -> Any:
    """A graph with a channel that is stored as changes."""

    def add(state: Numbers) -> dict[str, Any]:
        return {"numbers": [len(state["numbers"])], "plain": 1}

    def other(state: Numbers) -> dict[str, Any]:
        return {"numbers": [-1]}

    def asking(state: Numbers) -> dict[str, Any]:
        return {"numbers": [interrupt("number?")]}

    return (
        StateGraph(Numbers)
        .add_node(add)
        .add_node(other)
        .add_node(asking)
        .add_edge(START, "add")
        .add_edge(START, "other")
        .add_edge("add", "asking")
        .compile(checkpointer=saver)
    )


def count(graph: Any, durability: Any, rounds: int) -> None:
    """Runs of that graph, each with an interrupt."""
    for each in range(rounds):
        graph.invoke({"numbers": [100 * each]}, config_of("t", f"in-{each}"), durability=durability)
        graph.invoke(Command(resume=each), config_of("t", f"re-{each}"), durability=durability)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_channels_of_changes_are_rebuilt_the_same(durability: str, saver: RedisSaver) -> None:
    histories = []
    for each in (InMemorySaver(), saver):
        graph = counting(each)
        count(graph, durability, 5)
        histories.append(history(graph, config_of("t", "")))

    assert histories[0] == histories[1]


@pytest.mark.parametrize("durability", ["sync", "exit"])
def test_the_delta_history_is_what_the_slow_walk_finds(durability: str, saver: RedisSaver) -> None:
    count(counting(saver), durability, 4)
    channels = ["numbers", "plain", "absent"]
    for each in saver.list(LATEST):
        slow = BaseCheckpointSaver.get_delta_channel_history(
            saver, config=each.config, channels=channels
        )
        calls = saver.runner.calls

        fast = saver.get_delta_channel_history(config=each.config, channels=channels)

        assert saver.runner.calls - calls == 1
        assert fast == slow
        assert fast == asyncio.run(
            saver.aget_delta_channel_history(config=each.config, channels=channels)
        )
    assert saver.get_delta_channel_history(config=LATEST, channels=[]) == {}


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("rounds", range(1, 5))
def test_pruning_keeps_what_channels_of_changes_are_rebuilt_from(
    durability: str, rounds: int, saver: RedisSaver
) -> None:
    graph = counting(saver)
    count(graph, durability, rounds)
    values = graph.get_state(LATEST).values
    before = len(list(saver.list(LATEST)))

    saver.prune(["t"])

    assert graph.get_state(LATEST).values == values
    assert len(list(saver.list(LATEST))) < before or rounds == 1
    graph.invoke({"numbers": [7]}, config_of("t", "later"))
    assert graph.get_state(LATEST).values["numbers"][: len(values["numbers"])] == values["numbers"]


def test_pruning_keeps_one_checkpoint_of_each_namespace_of_other_graphs(saver: RedisSaver) -> None:
    graph = build(saver)
    run(graph, FLOWS["resume of a subgraph"][0][0], config_of("t", "one"), "sync")
    run(graph, FLOWS["resume of a subgraph"][1], config_of("t", "two"), "sync")
    state = history(graph, config_of("t", ""))[0]
    namespaces = {each.config["configurable"]["checkpoint_ns"] for each in saver.list(LATEST)}
    assert len(namespaces) == 2

    saver.prune(["t"])

    found = [each.config["configurable"]["checkpoint_ns"] for each in saver.list(LATEST)]
    assert sorted(found) == sorted(namespaces)
    assert history(graph, config_of("t", ""))[0] == state


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_taking_a_run_back_restores_channels_of_changes(
    durability: str, saver: RedisSaver, contents: Any
) -> None:
    graph = counting(saver)
    count(graph, durability, 3)
    before = contents("t", without=["fence", "undo"])
    values = graph.get_state(LATEST).values
    graph.invoke({"numbers": [7]}, config_of("t", "taken-back"), durability=durability)
    graph.invoke(Command(resume=8), config_of("t", "taken-back"), durability=durability)

    saver.delete_for_runs(["taken-back"], thread_id="t")

    assert contents("t") == before
    assert graph.get_state(LATEST).values == values


KINDS: dict[str, Any] = {
    "last": LastValue(list),
    "added": operator.add,
    "topic": Topic(int),
    "gathered": Topic(int, accumulate=True),
    "ephemeral": EphemeralValue(list),
    "untracked": UntrackedValue(list),
    "any": AnyValue(list),
    "changes": DeltaChannel(extend, snapshot_frequency=100),
}


def of_kind(kind: str, saver: BaseCheckpointSaver[Any]) -> Any:
    """A graph with a channel of this kind, and one that says what a node saw in it."""
    schema: Any = TypedDict(
        "State", {"it": Annotated[list, KINDS[kind]], "seen": Annotated[list, operator.add]}
    )
    return (
        StateGraph(schema)
        .add_node("write", lambda state: {"it": [1]})
        .add_node("look", lambda state: {"seen": [repr(state.get("it"))]})
        .add_edge(START, "write")
        .add_edge("write", "look")
        .compile(checkpointer=saver)
    )


@on_one_kind
@pytest.mark.parametrize("durability", ["sync", "exit"])
@pytest.mark.parametrize("before", KINDS)
def test_a_channel_that_becomes_one_of_another_kind_ends_the_same(
    before: str, durability: Any, saver: RedisSaver
) -> None:
    for after in KINDS:
        ends = []
        # The token is what makes the saver look for what Redis may have lost.
        for each in (InMemorySaver(), saver.fenced(1)):
            config: Any = {"configurable": {"thread_id": f"{before} {after}"}}
            of_kind(before, each).invoke({"it": [0]}, config, durability=durability)
            graph = of_kind(after, each)
            rounds: list[Any] = []
            for given in ({"seen": []}, {"it": [2]}, {"seen": []}):
                try:
                    rounds.append(graph.invoke(given, config, durability=durability))
                except Exception as error:
                    rounds.append(repr(error))
            try:
                ends.append((rounds, history(graph, config)))
            except Exception as error:
                ends.append((rounds, repr(error)))
        assert ends[0] == ends[1], after
        assert "Fenced" not in str(ends)


def test_a_history_of_changes_that_goes_in_a_circle_is_an_error(saver: RedisSaver) -> None:
    def put(id: str, parent: str) -> None:
        config: Any = {"configurable": {**LATEST["configurable"], "checkpoint_id": parent}}
        config["configurable"]["checkpoint_ns"] = ""
        saver.put(config, {**empty_checkpoint(), "id": id}, {}, {})

    put("a", "b")
    put("b", "a")

    with pytest.raises(UnrevivableValue, match="ancestor of its own"):
        saver.get_delta_channel_history(config=LATEST, channels=["numbers"])
