"""Fencing tokens: who was overtaken changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from runwait.storage.checkpoint import Fenced, RedisSaver, StateLost
from tests.servers import RedisServer
from tests.storage.checkpoint.graphs import answer, ask, build, config_of

LATEST: Any = {"configurable": {"thread_id": "t"}}
ROOT: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}


def put(saver: RedisSaver, config: Any = ROOT) -> Any:
    return saver.put(config, empty_checkpoint(), {"source": "loop", "step": 0}, {})


def change(saver: RedisSaver) -> list[Callable[[], Any]]:
    """All ways to change a thread."""
    at = {"configurable": {**ROOT["configurable"], "checkpoint_id": "some"}}
    return [
        lambda: put(saver),
        lambda: saver.put_writes(at, [("channel", "value")], "task"),
        lambda: saver.delete_for_runs(["run"], thread_id="t"),
        lambda: asyncio.run(
            saver.aput(ROOT, empty_checkpoint(), {"source": "loop", "step": 0}, {})
        ),
        lambda: asyncio.run(saver.aput_writes(at, [("channel", "value")], "task")),
        lambda: asyncio.run(saver.adelete_for_runs(["run"], thread_id="t")),
    ]


def test_reading_the_latest_state_claims_the_thread_in_the_same_round_trip(
    saver: RedisSaver, contents: Callable[..., Any]
) -> None:
    calls = saver.runner.calls
    assert saver.fenced(3).get_tuple(LATEST) is None

    assert saver.runner.calls - calls == 1
    assert contents("t", without=[]) == {"fence": b"3"}


def test_a_higher_token_takes_the_thread_over(saver: RedisSaver) -> None:
    saver.fenced(3).get_tuple(LATEST)
    put(saver.fenced(3))

    found = saver.fenced(4).get_tuple(LATEST)

    assert found is not None
    put(saver.fenced(4))


def test_one_that_was_overtaken_can_neither_change_nor_claim(
    saver: RedisSaver, contents: Callable[..., Any]
) -> None:
    saver.fenced(3).get_tuple(LATEST)
    saver.raise_fence("t", 4)
    put(saver.fenced(4))
    before = contents("t", without=[])

    for attempt in change(saver.fenced(3)):
        with pytest.raises(Fenced):
            attempt()
    with pytest.raises(Fenced):
        saver.fenced(3).get_tuple(LATEST)
    with pytest.raises(Fenced):
        saver.fenced(3).raise_fence("t", 3)

    assert contents("t", without=[]) == before


def test_a_thread_that_was_not_claimed_cannot_be_changed_with_a_token(
    saver: RedisSaver, contents: Callable[..., Any]
) -> None:
    for attempt in change(saver.fenced(3)):
        with pytest.raises(Fenced):
            attempt()

    assert contents("t", without=[]) == {}


def test_with_a_token_a_run_is_taken_back_from_a_named_thread_alone(saver: RedisSaver) -> None:
    with pytest.raises(ValueError, match="say which"):
        saver.fenced(3).delete_for_runs(["run"])


def test_reading_a_subgraph_does_not_claim_the_thread(
    saver: RedisSaver, contents: Callable[..., Any]
) -> None:
    saver.fenced(3).get_tuple({"configurable": {"thread_id": "t", "checkpoint_ns": "sub:1"}})

    assert contents("t", without=[]) == {}


def test_without_a_token_nothing_is_checked(saver: RedisSaver) -> None:
    saver.raise_fence("t", 4)

    put(saver)

    assert saver.get_tuple(LATEST) is not None


def test_a_deleted_thread_is_not_brought_back_by_who_ran_on_it(
    saver: RedisSaver, contents: Callable[..., Any], any_redis: RedisServer
) -> None:
    saver.fenced(3).get_tuple(LATEST)
    put(saver.fenced(3))

    saver.delete_thread("t")

    for attempt in change(saver.fenced(2**40)):
        with pytest.raises(Fenced):
            attempt()
    assert list(contents("t", without=[])) == ["fence"]
    assert 0 < any_redis.client.pttl(f"{saver.prefix}:{{t}}:fence") <= 3_600_000


def test_after_a_deletion_with_a_token_higher_ones_may_make_the_thread_anew(
    saver: RedisSaver, any_redis: RedisServer
) -> None:
    saver.fenced(3).get_tuple(LATEST)
    put(saver.fenced(3))

    saver.fenced(4).delete_thread("t")

    with pytest.raises(Fenced):
        put(saver.fenced(3))
    assert saver.fenced(5).get_tuple(LATEST) is None
    put(saver.fenced(5))
    assert any_redis.client.pttl(f"{saver.prefix}:{{t}}:fence") == -1


def test_a_deletion_with_an_old_token_is_refused(saver: RedisSaver) -> None:
    saver.raise_fence("t", 4)
    put(saver)

    with pytest.raises(Fenced):
        saver.fenced(3).delete_thread("t")

    assert saver.get_tuple(LATEST) is not None


def test_a_graph_that_was_overtaken_in_a_node_leaves_the_thread_to_the_other(
    saver: RedisSaver,
) -> None:
    build(saver.fenced(1)).invoke(ask("twice")(None, None), config_of("t", "first"))
    overtaken = build(saver.fenced(2))
    with pytest.raises(Fenced):
        for _ in overtaken.stream(
            ask("hello")(None, None), config_of("t", "second"), durability="sync"
        ):
            # Whoever takes over here finds the thread as it is between two steps.
            build(saver.fenced(3)).invoke(answer(1)(None, None), config_of("t", "third"))
    found = saver.get_tuple(LATEST)

    assert found is not None
    with pytest.raises(Fenced):
        overtaken.invoke(None, config_of("t", "second"))
    assert saver.get_tuple(LATEST) == found


def test_what_follows_a_checkpoint_that_was_lost_is_refused(
    saver: RedisSaver, any_redis: RedisServer
) -> None:
    ours = saver.fenced(3)
    ours.get_tuple(LATEST)
    parent = put(ours)
    put(ours, parent)
    any_redis.client.delete(f"{saver.prefix}:{{t}}:checkpoints")

    with pytest.raises(StateLost):
        put(ours, parent)


@pytest.mark.parametrize("dropped", ["checkpoints", "values"])
def test_what_redis_dropped_a_part_of_is_not_shown_as_if_that_were_all(
    saver: RedisSaver, any_redis: RedisServer, dropped: str
) -> None:
    build(saver).invoke(ask("twice")(None, None), config_of("t", "first"))
    assert any_redis.client.delete(f"{saver.prefix}:{{t}}:{dropped}") == 1

    for reads in (
        lambda: saver.get_tuple(LATEST),
        lambda: [*saver.list(LATEST)],
        lambda: saver.copy_thread("t", "other"),
    ):
        with pytest.raises(StateLost, match="thread t"):
            reads()
    saver.delete_thread("t")
    assert saver.get_tuple(LATEST) is None
