"""A run that is taken back leaves the thread exactly as it was."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.types import Command

from runwait.storage.checkpoint import RedisSaver
from tests.storage.checkpoint.graphs import (
    Step,
    answer,
    answer_one,
    ask,
    build,
    config_of,
    history,
)

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
