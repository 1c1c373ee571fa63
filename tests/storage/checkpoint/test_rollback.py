"""A run that is taken back leaves the thread exactly as it was."""

from __future__ import annotations

import asyncio
import contextlib
import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import START, StateGraph
from langgraph.types import Command

from runwait.storage.checkpoint import Fenced, RedisSaver, UnstorableValue
from tests.storage.checkpoint.graphs import (
    Step,
    answer,
    answer_one,
    ask,
    build,
    config_of,
    history,
)

LATEST: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}

# What came before, and the run that is taken back.
FLOWS: dict[str, tuple[list[Step], Step]] = {
    "first run": ([], ask("hello")),
    "first run with an interrupt": ([], ask("both")),
    "second run": ([ask("hello")], ask("again")),
    "run after a subgraph": ([ask("sub"), answer("x")], ask("hello")),
    "resume to the end": ([ask("twice"), answer(1)], answer(2)),
    "interrupted again in the same node": ([ask("twice")], answer(1)),
    "one of two interrupts": ([ask("both")], answer_one("left?", 1)),
    "the other of two interrupts": (
        [ask("both"), answer_one("left?", 1)],
        answer_one("right?", 2),
    ),
    "resume of a subgraph": ([ask("sub")], answer("x")),
    "resume that fails": ([ask("fail")], answer("yes")),
    "resume after a failure": ([ask("fail"), answer("yes")], answer("no")),
    "new input instead of a resume": ([ask("both")], ask("hello")),
    "update and goto": (
        [ask("twice")],
        lambda graph, config: Command(update={"log": ["updated"]}, goto="last"),
    ),
    "nothing but an update": (
        [ask("hello")],
        lambda graph, config: Command(update={"log": ["updated"]}),
    ),
    "fan-out": ([ask("hello")], ask("map")),
}


def run(graph: Any, step: Step, config: Any, durability: Any, *, on_loop: bool = False) -> None:
    """One run, which may fail as it was told."""
    with contextlib.suppress(ValueError):
        given = step(graph, config)
        if on_loop:
            asyncio.run(graph.ainvoke(given, config, durability=durability))
        else:
            graph.invoke(given, config, durability=durability)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("flow", FLOWS)
def test_a_run_taken_back_leaves_all_as_it_was(
    flow: str, durability: str, saver: RedisSaver, contents: Callable[..., Any]
) -> None:
    steps, last = FLOWS[flow]
    graph = build(saver)
    for number, step in enumerate(steps):
        run(graph, step, config_of("t", f"before-{number}"), durability)
    before = contents("t", without=["fence", "undo"])
    seen = history(graph, config_of("t", ""))
    run(graph, last, config_of("t", "taken-back"), durability)
    assert contents("t", without=["fence", "undo"]) != before

    saver.delete_for_runs(["taken-back"], thread_id="t")

    assert contents("t") == before
    assert history(graph, config_of("t", "")) == seen


@pytest.mark.parametrize("flow", FLOWS)
def test_a_run_taken_back_can_be_run_again_with_the_same_result(
    flow: str, saver: RedisSaver
) -> None:
    steps, last = FLOWS[flow]
    graph = build(saver)
    for number, step in enumerate(steps):
        run(graph, step, config_of("t", f"before-{number}"), "sync")
    run(graph, last, config_of("t", "run"), "sync")
    once = history(graph, config_of("t", ""))
    saver.delete_for_runs(["run"], thread_id="t")

    run(graph, last, config_of("t", "run"), "sync")

    assert history(graph, config_of("t", "")) == once


def test_a_run_on_an_event_loop_is_taken_back_too(
    saver: RedisSaver, contents: Callable[..., Any]
) -> None:
    graph = build(saver)
    run(graph, ask("both"), config_of("t", "before"), "async", on_loop=True)
    before = contents("t", without=["fence", "undo"])
    run(graph, answer_one("left?", 1), config_of("t", "taken-back"), "async", on_loop=True)

    asyncio.run(saver.adelete_for_runs(["taken-back"], thread_id="t"))

    assert contents("t") == before


def test_a_run_that_a_second_process_went_on_with_is_taken_back_whole(
    saver: RedisSaver, contents: Callable[..., Any]
) -> None:
    graph = build(saver)
    run(graph, ask("twice"), config_of("t", "before"), "sync")
    before = contents("t", without=["fence", "undo"])
    run(graph, answer(1), config_of("t", "taken-back"), "sync")
    run(graph, answer(2), config_of("t", "taken-back"), "sync")

    saver.delete_for_runs(["taken-back"], thread_id="t")

    assert contents("t") == before


def test_taking_back_may_be_repeated(saver: RedisSaver, contents: Callable[..., Any]) -> None:
    graph = build(saver)
    run(graph, ask("both"), config_of("t", "before"), "sync")
    before = contents("t", without=["fence", "undo"])
    run(graph, answer_one("left?", 1), config_of("t", "taken-back"), "sync")
    saver.runner.sends = 2

    saver.delete_for_runs(["taken-back"], thread_id="t")
    saver.delete_for_runs(["taken-back"], thread_id="t")

    assert contents("t") == before


def test_a_run_that_others_have_built_on_loses_its_checkpoints_alone(saver: RedisSaver) -> None:
    graph = build(saver)
    for number in range(3):
        run(graph, ask("hello"), config_of("t", f"run-{number}"), "sync")
    latest = history(graph, config_of("t", ""))[0]

    saver.delete_for_runs(["run-1"], thread_id="t")

    left = [each["metadata"]["run_id"] for each in history(graph, config_of("t", ""))]
    assert set(left) == {"run-0", "run-2"}
    assert history(graph, config_of("t", ""))[0] == latest


def test_a_run_is_found_in_all_threads_where_none_is_named(saver: RedisSaver) -> None:
    graph = build(saver)
    for thread in ("one", "two", "three*[x]"):
        run(graph, ask("hello"), config_of(thread, "kept"), "sync")
        run(graph, ask("again"), config_of(thread, "taken-back"), "sync")

    saver.delete_for_runs(["taken-back"])

    for thread in ("one", "two", "three*[x]"):
        found = list(saver.list({"configurable": {"thread_id": thread}}))
        assert {each.metadata["run_id"] for each in found} == {"kept"}


class Log(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def lists(saver: RedisSaver, *nodes: Any) -> Any:
    """A graph of nodes, one after the other, that write these to a log."""
    builder, before = StateGraph(Log), START
    for number, written in enumerate(nodes):
        builder.add_node(str(number), lambda _, written=written: {"log": written})
        builder.add_edge(before, str(number))
        before = str(number)
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
class TestWhatAChannelRefused:
    def refused(self, saver: RedisSaver, graph: Any, given: Any, durability: Any) -> None:
        """A run whose step a channel refuses, and that is then taken back.

        LangGraph may still be at work when it has raised: a higher token keeps that out.
        """
        saver.raise_fence("t", 1)
        graph.checkpointer = saver.fenced(1)
        with pytest.raises(TypeError):
            graph.invoke(given, config_of("t", "run-2"), durability=durability)
        owner = saver.fenced(2)
        owner.raise_fence("t", 2)
        owner.take_back_refused("t", "run-2", whole=durability == "exit")
        graph.checkpointer = saver

    @pytest.mark.parametrize("given", [{"log": "no list"}, Command(update={"log": "no list"})])
    def test_of_what_it_was_given_goes_with_the_run(
        self, durability: Any, given: Any, saver: RedisSaver, contents: Callable[..., Any]
    ) -> None:
        graph = lists(saver, ["a"])
        graph.invoke({"log": ["x"]}, config_of("t", "run-1"), durability=durability)
        # What the first run could undo is forgotten with the second one.
        before = contents(without=("fence", "undo"))

        self.refused(saver, graph, given, durability)

        assert contents(without=("fence", "undo")) == before

    def test_of_a_later_step_goes_alone(self, durability: Any, saver: RedisSaver) -> None:
        graph = lists(saver, ["a"], "no list")

        self.refused(saver, graph, {"log": ["x"]}, durability)

        found = saver.get_tuple(LATEST)
        if durability == "exit":
            assert found is None
        else:
            assert found is not None
            assert found.checkpoint["channel_values"]["log"] == ["x", "a"]
            assert found.pending_writes == []
            assert graph.get_state(LATEST).next == ("1",)


def test_one_who_lost_the_thread_takes_nothing_back(saver: RedisSaver) -> None:
    lists(saver, ["a"]).invoke({"log": ["x"]}, config_of("t", "run-1"))
    saver.raise_fence("t", 5)

    with pytest.raises(Fenced):
        saver.fenced(4).take_back_refused("t", "run-1")


def test_after_a_checkpoint_that_was_refused_its_run_stores_nothing_more(saver: RedisSaver) -> None:
    saver.raise_fence("t", 1)
    holder = saver.fenced(1)
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    bad = {**empty_checkpoint(), "channel_values": {"a": print}, "channel_versions": {"a": "1"}}
    good = {**empty_checkpoint(), "channel_values": {}, "channel_versions": {}}

    for checkpoint, new in ((bad, {"a": "1"}), (good, {})):
        with pytest.raises(UnstorableValue, match="channel 'a'"):
            holder.put(config, checkpoint, {}, new)  # type: ignore[arg-type]
    with pytest.raises(UnstorableValue, match="channel 'a'"):
        holder.put_writes(config, [("b", 1)], "task")

    assert saver.get_tuple(config) is None
    saver.fenced(1).put(config, good, {}, {})  # type: ignore[arg-type]
    assert saver.get_tuple(config) is not None
