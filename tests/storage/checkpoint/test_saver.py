"""What the saver stores, and by how many round trips."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.base import INTERRUPT, RESUME, CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver

from runwait.storage.checkpoint import ClientRunner, Fenced, RedisSaver, UnrevivableValue, plans
from runwait.storage.connection import Storage
from tests.servers import RedisServer
from tests.storage.checkpoint.graphs import answer_one, build, config_of, history
from tests.storage.checkpoint.test_rollback import FLOWS, run

Contents = Callable[..., dict[str, Any]]


def at(thread: str, ns: str = "", id: str | None = None) -> Any:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id}}


def step(
    saver: RedisSaver, config: Any, values: dict[str, Any], *, run: str | None = None
) -> dict[str, Any]:
    """Put a checkpoint on top of another, with new values for some channels."""
    before = saver.get_tuple(config) if config["configurable"]["checkpoint_id"] else None
    checkpoint: Any = empty_checkpoint()
    if before is not None:
        checkpoint["channel_values"] = before.checkpoint["channel_values"]
        checkpoint["channel_versions"] = before.checkpoint["channel_versions"]
    versions = checkpoint["channel_versions"]
    new = {each: saver.get_next_version(versions.get(each), None) for each in values}
    versions.update(new)
    checkpoint["channel_values"].update(values)
    metadata: Any = {"source": "loop", "step": int(max(versions.values(), default="0")[:10])}
    if run is not None:
        metadata["run_id"] = run
    return dict(saver.put(config, checkpoint, metadata, new))


def chain(saver: RedisSaver, thread: str, length: int, *, run: str | None = None) -> list[Any]:
    """Put checkpoints, one on top of another; their configs."""
    configs = [at(thread)]
    for number in range(length):
        configs.append(step(saver, configs[-1], {"number": number}, run=run))
    return configs[1:]


def assert_consistent(found: dict[str, Any]) -> None:
    """Check that each key of a thread agrees with its checkpoints."""
    checkpoints = found.get("checkpoints", {})
    named: Counter[bytes] = Counter()
    runs = set()
    for member, packed in checkpoints.items():
        record = plans._Record.unpacked(packed)
        ns = member.partition(b"\0")[0]
        pairs = zip(record.versions[::2], record.versions[1::2], strict=True)
        named.update(b"\0".join([ns, name.encode(), version.encode()]) for name, version in pairs)
        if record.run:
            runs.add(record.run.encode() + b"\0" + member)
    values = found.get("values", {}).keys()
    assert found.get("index", []) == sorted(checkpoints)
    assert found.get("runs", []) == sorted(runs)
    assert values <= named.keys()
    assert {n: int(c) for n, c in found.get("counts", {}).items()} == {n: named[n] for n in values}
    assert found.get("pending", []) == sorted(found.get("writes", {}))
    assert {each.rpartition(b"\0")[0] for each in found.get("writes", {})} <= checkpoints.keys()


# Round trips


def test_put_put_writes_and_reading_the_latest_state_take_one_round_trip_each(
    saver: RedisSaver,
) -> None:
    chain(saver, "t", 300)
    before = saver.runner.calls

    config = saver.put(at("t"), empty_checkpoint(), {"source": "loop"}, {})
    assert saver.runner.calls - before == 1
    saver.put_writes(config, [("a", 1), ("b", 2)], "task")
    assert saver.runner.calls - before == 2
    assert saver.get_tuple(at("t")) is not None
    assert saver.runner.calls - before == 3
    assert asyncio.run(saver.aget_tuple(at("t"))) is not None
    assert saver.runner.calls - before == 4


def test_a_script_that_is_sent_twice_does_no_more(saver: RedisSaver, contents: Contents) -> None:
    saver.runner.sends = 2
    for name, (steps, last) in FLOWS.items():
        memory = InMemorySaver()
        for number, each in enumerate([*steps, last]):
            run(build(saver), each, config_of(name, f"run-{number}"), "sync")
            run(build(memory), each, config_of(name, f"run-{number}"), "sync")
        assert_consistent(contents(name))

        there, here = (history(build(each), config_of(name, "")) for each in (memory, saver))
        assert here == there


def test_it_runs_on_the_connections_of_the_service(
    any_redis: RedisServer, saver: RedisSaver
) -> None:
    storage = Storage(any_redis.url, 2)
    storage.start()
    shared = RedisSaver(storage, prefix=saver.prefix)
    steps, last = FLOWS["resume of a subgraph"]
    for number, each in enumerate([*steps, last]):
        run(build(shared), each, config_of("t", f"run-{number}"), "async", on_loop=number == 1)

    assert history(build(shared), config_of("t", "")) == history(build(saver), config_of("t", ""))
    assert shared.get_tuple(at("t")) == asyncio.run(shared.aget_tuple(at("t")))
    with pytest.raises(Fenced):
        shared.fenced(1).put(at("t"), empty_checkpoint(), {}, {})


def test_a_client_for_the_other_kind_of_call_is_missed_by_name(any_redis: RedisServer) -> None:
    saver = RedisSaver(ClientRunner(any_redis.client))

    with pytest.raises(TypeError, match="no client for an event loop"):
        asyncio.run(saver.aget_tuple(at("t")))
    with pytest.raises(TypeError, match="no client for synchronous calls"):
        RedisSaver(ClientRunner()).get_tuple(at("t"))


def test_a_script_that_redis_has_forgotten_is_loaded_again(
    saver: RedisSaver, any_redis: RedisServer
) -> None:
    chain(saver, "t", 1)
    any_redis.client.script_flush()

    chain(saver, "t", 1)
    any_redis.client.script_flush()

    assert asyncio.run(saver.aget_tuple(at("t"))) is not None


# Values


def test_a_value_is_stored_once_per_version(saver: RedisSaver, contents: Contents) -> None:
    config = step(saver, at("t"), {"large": "x" * 10_000, "small": 0})
    for number in range(20):
        config = step(saver, config, {"small": number})

    values = contents("t")["values"]

    assert sum(b"x" * 10_000 in each for each in values.values()) == 1
    assert len(values) == 22
    held = sum(len(each) for key in contents("t").values() for each in key)
    assert held < 20_000
    assert_consistent(contents("t"))


def test_a_value_goes_with_the_last_checkpoint_that_names_it(
    saver: RedisSaver, contents: Contents
) -> None:
    first = step(saver, at("t"), {"shared": "shared", "own": "of first"}, run="one")
    step(saver, first, {"own": "of second"}, run="two")
    step(saver, first, {"own": "of third"}, run="three")

    def stored() -> set[str]:
        found = contents("t").get("values", {}).values()
        return {saver.serde.loads_typed(("msgpack", each[8:])) for each in found}

    saver.delete_for_runs(["one"])
    assert stored() == {"shared", "of second", "of third"}
    saver.delete_for_runs(["three"])
    assert stored() == {"shared", "of second"}
    saver.delete_for_runs(["two"])
    assert contents("t") == {}


def test_whatever_happens_the_keys_of_a_thread_agree(saver: RedisSaver, contents: Contents) -> None:
    chance = random.Random(20)
    configs: list[Any] = []
    for number in range(150):
        thread = chance.choice("ab")
        mine = [c for c in configs if c["configurable"]["thread_id"] == thread]
        base = chance.choice([*mine, at(thread), at(thread, "sub:1")])
        match chance.randrange(12):
            case 0:
                saver.delete_for_runs([f"run-{chance.randrange(4)}"], thread_id=thread)
            case 1:
                saver.prune([thread])
            case 2:
                saver.copy_thread("a", "b")
                configs = [c for c in configs if c["configurable"]["thread_id"] == "a"]
            case 3 if mine and saver.get_tuple(base) and base["configurable"]["checkpoint_id"]:
                base = {**base, "metadata": {"run_id": f"run-{chance.randrange(4)}"}}
                saver.put_writes(base, [("a", 1), (RESUME, [number])], f"task-{number % 2}")
            case _:
                if base["configurable"]["checkpoint_id"] and saver.get_tuple(base) is None:
                    continue
                values = dict.fromkeys(chance.sample("xyz", chance.randrange(4)), number)
                configs.append(step(saver, base, values, run=f"run-{chance.randrange(4)}"))
        assert_consistent(contents("a"))
        assert_consistent(contents("b"))


def test_a_checkpoint_that_is_put_again_with_other_values_leaves_none_of_the_old(
    saver: RedisSaver, contents: Contents
) -> None:
    checkpoint: Any = empty_checkpoint()
    for value, run_id in (("old", "one"), ("new", "two")):
        version = saver.get_next_version(None, None)
        checkpoint["channel_values"] = {"a": value}
        checkpoint["channel_versions"] = {"a": version}
        saver.put(at("t"), checkpoint, {"source": "loop", "run_id": run_id}, {"a": version})

    assert len(contents("t")["values"]) == 1
    assert_consistent(contents("t"))
    found = saver.get_tuple(at("t"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": "new"}


def test_what_two_checkpoints_have_in_common_is_not_shared_by_who_reads_them(
    saver: RedisSaver,
) -> None:
    config = step(saver, at("t"), {"list": [1]})
    step(saver, config, {"other": 1})

    first, second = saver.list(at("t"))
    first.checkpoint["channel_values"]["list"].append(2)

    assert second.checkpoint["channel_values"]["list"] == [1]


def test_very_many_channels_tasks_and_writes_are_no_problem(
    saver: RedisSaver, contents: Contents
) -> None:
    config: Any = step(saver, at("t"), {f"channel {each}": each for each in range(12_000)})
    saver.put_writes(config, [("one", each) for each in range(10_000)], "task")
    for each in range(3_000):
        saver.put_writes(config, [("two", each)], f"task {each}")
    saver.copy_thread("t", "u")

    for thread in "tu":
        found = saver.get_tuple(at(thread))
        assert found is not None and found.pending_writes is not None
        assert len(found.checkpoint["channel_values"]) == 12_000
        assert [value for task, _, value in found.pending_writes if task == "task"] == [
            *range(10_000)
        ]
        assert len(found.pending_writes) == 13_000
    saver.delete_thread("t")
    saver.prune(["u"], strategy="delete")
    assert contents() == {}


def test_a_run_of_many_checkpoints_is_taken_back_in_parts(
    saver: RedisSaver, contents: Contents
) -> None:
    kept = chain(saver, "t", 3, run="kept")
    before = contents("t")
    config = kept[-1]
    for number in range(450):
        config = step(saver, config, {"number": number}, run="taken-back")
    calls = saver.runner.calls

    saver.delete_for_runs(["taken-back"], thread_id="t")

    assert saver.runner.calls - calls == 5
    assert contents("t") == before


# Writes


def test_writes_keep_the_first_of_an_index_but_the_last_of_a_special_channel(
    saver: RedisSaver,
) -> None:
    config: Any = step(saver, at("t"), {})
    saver.put_writes(config, [("a", 1), (INTERRUPT, "one")], "task", "path")
    saver.put_writes(config, [("a", 2), ("b", 3), (INTERRUPT, "two")], "task", "path")

    found = saver.get_tuple(config)

    assert found is not None
    assert found.pending_writes == [
        ("task", INTERRUPT, "two"),
        ("task", "a", 1),
        ("task", "b", 3),
    ]


def test_writes_come_in_the_order_of_task_paths(saver: RedisSaver) -> None:
    config: Any = step(saver, at("t"), {})
    saver.put_writes(config, [("a", 2)], "task-1", "path-2")
    saver.put_writes(config, [("a", 1)], "task-2", "path-1")
    saver.put_writes(config, [("a", 0)], "task-3")

    found = saver.get_tuple(config)

    assert found is not None and found.pending_writes is not None
    assert [value for *_, value in found.pending_writes] == [0, 1, 2]


def test_writes_may_come_before_their_checkpoint(saver: RedisSaver, contents: Contents) -> None:
    checkpoint = empty_checkpoint()
    config = {**at("t", id=checkpoint["id"]), "metadata": {"run_id": "run"}}
    saver.put_writes(config, [("a", 1)], "task")
    saver.put({**at("t"), "metadata": {"run_id": "run"}}, checkpoint, {"source": "loop"}, {})

    found = saver.get_tuple(at("t"))

    assert found is not None
    assert found.pending_writes == [("task", "a", 1)]
    saver.delete_for_runs(["run"])
    assert contents("t") == {}


# Versions


def test_versions_grow_and_differ_between_branches(saver: RedisSaver) -> None:
    versions = [saver.get_next_version(None, None)]
    for _ in range(1200):
        versions.append(saver.get_next_version(versions[-1], None))
    branch = saver.get_next_version(versions[0], None)

    assert versions == sorted(set(versions))
    assert branch.partition(".")[0] == versions[1].partition(".")[0]
    assert branch != versions[1]


def test_a_node_that_seeds_chance_does_not_repeat_versions(saver: RedisSaver) -> None:
    random.seed(1)
    first = saver.get_next_version(None, None)
    random.seed(1)

    assert saver.get_next_version(None, None) != first


def test_versions_go_on_from_those_of_other_savers(saver: RedisSaver) -> None:
    theirs: Any = InMemorySaver().get_next_version("41.5", None)

    assert saver.get_next_version(theirs, None).startswith("0000000043.")
    assert saver.get_next_version(7, None).startswith("0000000008.")  # type: ignore[arg-type]


# Listing


def ids(found: list[CheckpointTuple]) -> list[str]:
    return [each.checkpoint["id"] for each in found]


def test_a_long_history_is_listed_whole_by_pages(saver: RedisSaver) -> None:
    configs = chain(saver, "t", 450)
    before = saver.runner.calls

    found = list(saver.list(at("t")))

    assert ids(found) == [c["configurable"]["checkpoint_id"] for c in reversed(configs)]
    assert [each.checkpoint["channel_values"]["number"] for each in found] == [
        *reversed(range(450))
    ]
    assert saver.runner.calls - before <= 12

    async def alist() -> list[CheckpointTuple]:
        return [each async for each in saver.alist(at("t"))]

    assert asyncio.run(alist()) == found


def test_a_limited_listing_reads_no_more_than_it_has_to(
    saver: RedisSaver, any_redis: RedisServer
) -> None:
    chain(saver, "t", 450)
    before, sent = saver.runner.calls, any_redis.client.info("stats")["total_net_output_bytes"]

    found = list(saver.list(at("t"), limit=3))

    assert len(found) == 3
    assert saver.runner.calls - before == 2
    assert any_redis.client.info("stats")["total_net_output_bytes"] - sent < 30_000


def test_a_filter_is_found_among_many(saver: RedisSaver) -> None:
    configs = chain(saver, "t", 450)

    found = list(saver.list(at("t"), filter={"step": 7}))
    assert ids(found) == [configs[6]["configurable"]["checkpoint_id"]]

    found = list(saver.list(at("t"), filter={"source": "loop"}, before=configs[300], limit=250))
    assert ids(found) == [
        c["configurable"]["checkpoint_id"] for c in reversed(configs[300 - 250 : 300])
    ]
    assert list(saver.list(at("t"), filter={"step": 7}, limit=0)) == []
    assert list(saver.list(configs[3], filter={"step": 7})) == []
    assert ids(list(saver.list(configs[6], filter={"step": 7}))) == [
        configs[6]["configurable"]["checkpoint_id"]
    ]


def test_all_namespaces_and_all_threads_are_listed_where_none_is_named(saver: RedisSaver) -> None:
    for thread in ("one", "two}", "{three"):
        for ns in ("", "sub:1", "sub:1|inner:2"):
            step(saver, at(thread, ns), {"a": 1})

    of_one = list(saver.list({"configurable": {"thread_id": "one"}}))
    of_all = list(saver.list(None))

    def places(found: list[CheckpointTuple]) -> list[tuple[str, str]]:
        configs = (each.config["configurable"] for each in found)
        return [(each["thread_id"], each["checkpoint_ns"]) for each in configs]

    assert places(of_one) == [("one", ns) for ns in ("", "sub:1", "sub:1|inner:2")]
    assert sorted(places(of_all)) == sorted(
        (thread, ns)
        for thread in ("one", "two}", "{three")
        for ns in ("", "sub:1", "sub:1|inner:2")
    )
    assert len(list(saver.list(None, limit=4))) == 4


def test_what_is_deleted_while_it_is_listed_is_left_out(saver: RedisSaver) -> None:
    chain(saver, "t", 250)
    listing = saver.list(at("t"))
    next(listing)

    saver.delete_thread("t")

    assert len(list(listing)) < 250


# Copies


def large(saver: RedisSaver) -> None:
    """A thread of several pages, with values above what a script reads at once."""
    config = step(saver, at("source"), {"constant": "x" * 100_000}, run="one")
    for number in range(30):
        config = step(saver, config, {"large": str(number) * 150_000}, run="two")
    for number in range(250):
        config = step(saver, config, {"small": number}, run="three")
    saver.put_writes(config, [("small", 1), (INTERRUPT, "?")], "task", "path")
    child = step(saver, at("source", "sub:1"), {"a": b"bytes", "b": None}, run="three")
    saver.put_writes(child, [("a", 2)], "task")


def test_a_copy_has_all_that_the_source_has(saver: RedisSaver, contents: Contents) -> None:
    large(saver)
    before = contents("source")

    saver.copy_thread("source", "target")

    assert contents("target") == contents("source", without=["fence", "undo"])
    assert contents("source") == before
    source, target = (
        list(saver.list({"configurable": {"thread_id": t}})) for t in ("source", "target")
    )
    assert [each.checkpoint for each in source] == [each.checkpoint for each in target]
    assert [each.metadata for each in source] == [each.metadata for each in target]
    assert [each.pending_writes for each in source] == [each.pending_writes for each in target]


def test_a_copy_may_be_repeated_and_mends_what_was_there(
    saver: RedisSaver, contents: Contents
) -> None:
    large(saver)
    chain(saver, "target", 3)
    saver.copy_thread("source", "target")
    saver.delete_for_runs(["two"], thread_id="target")
    saver.runner.sends = 2

    asyncio.run(saver.acopy_thread("source", "target"))

    assert contents("target") == contents("source", without=["fence", "undo"])


def test_a_copy_lives_on_its_own(saver: RedisSaver, contents: Contents) -> None:
    graph = build(saver)
    run(graph, FLOWS["one of two interrupts"][0][0], config_of("source", "one"), "sync")
    before = contents("source")
    saver.copy_thread("source", "target")

    run(graph, FLOWS["one of two interrupts"][1], config_of("target", "two"), "sync")
    assert contents("source") == before
    saver.delete_thread("source")

    assert_consistent(contents("target"))
    run(graph, answer_one("right?", 2), config_of("target", "three"), "sync")
    assert {"left 1", "right 2"} <= set(graph.get_state(at("target")).values["log"])


def test_a_copy_onto_itself_changes_nothing(saver: RedisSaver, contents: Contents) -> None:
    chain(saver, "t", 3)
    before = contents("t")

    saver.copy_thread("t", "t")

    assert contents("t") == before


# Deletion


def test_no_key_is_left_but_the_fence_of_a_deleted_thread(
    saver: RedisSaver, contents: Contents
) -> None:
    graph = build(saver)
    for thread in ("deleted", "pruned"):
        for number, each in enumerate([*FLOWS["resume of a subgraph"][0], answer_of_flow()]):
            run(graph, each, config_of(thread, f"run-{number}"), "sync")
    assert any("undo" in key for key in contents(without=[]))

    saver.delete_thread("deleted")
    saver.prune(["pruned", "unknown"], strategy="delete")

    left = contents(without=[])
    assert sorted(left) == ["{deleted}:fence", "{pruned}:fence", "{unknown}:fence"]


def answer_of_flow() -> Any:
    return FLOWS["resume of a subgraph"][1]


def test_pruning_leaves_no_key_more_than_a_thread_with_the_latest_checkpoint_alone(
    saver: RedisSaver, contents: Contents
) -> None:
    configs = chain(saver, "t", 450)
    for each in configs[::50]:
        saver.put_writes(each, [("number", 1)], "task")

    saver.prune(["t"])

    found = contents("t")
    assert {key: len(each) for key, each in found.items()} == {
        "checkpoints": 1,
        "counts": 1,
        "index": 1,
        "values": 1,
    }
    assert_consistent(found)


def test_an_unknown_way_to_prune_is_refused(saver: RedisSaver, contents: Contents) -> None:
    chain(saver, "t", 2)
    before = contents("t")

    with pytest.raises(ValueError, match="'keep_latest' or 'delete'"):
        saver.prune(["t"], strategy="keep_all")

    assert contents("t") == before


def test_a_layout_of_another_version_is_refused_by_name(
    saver: RedisSaver, any_redis: RedisServer, contents: Contents
) -> None:
    chain(saver, "t", 1)
    ((member, packed),) = contents("t")["checkpoints"].items()
    later = packed.replace(b"\x94\x01", b"\x94\x02", 1)
    any_redis.client.hset(f"{saver.prefix}:{{t}}:checkpoints", member, later)

    with pytest.raises(UnrevivableValue, match="layout is 2, not 1"):
        saver.get_tuple(at("t"))
