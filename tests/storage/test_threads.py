"""Threads in Redis: what the scripts promise, and that the index says what the records do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runwait.storage import index as module
from runwait.storage.connection import Script, Storage, StorageUnavailable
from runwait.storage.metadata import contains, index_terms
from runwait.storage.threads import (
    RemovalUnfinished,
    ThreadBusy,
    ThreadExists,
    ThreadNotFound,
    ThreadQuery,
    ThreadRecords,
)
from tests.servers import RedisServer

# A script of the runs, as one would look that has the functions of threads.
SET = Script.of(
    Script.load("threads/library", "runs/library").text
    + "return thread_set(ARGV[1], ARGV[2], clock(), cjson.decode(ARGV[3])) and 1 or 0"
)
CREATE_TEMPORARY = Script.of(
    Script.load("threads/library", "runs/library").text
    + "thread_create(ARGV[1], ARGV[2], clock(), '{}', '[]', '5000', '', '{}', {temporary = 'r1'}) "
    + "return 1"
)


@pytest.fixture
def storage(redis_server: RedisServer) -> Storage:
    return connected(redis_server)


@pytest.fixture
def records(storage: Storage) -> ThreadRecords:
    return ThreadRecords(storage, "test", None)


def connected(server: RedisServer) -> Storage:
    storage = Storage(server.url, 2)
    storage.start()
    return storage


def change(storage: Storage, thread_id: str, **fields: Any) -> None:
    """Change a thread's record as the scripts of runs do."""
    assert storage.call(SET, [], ["{test}", thread_id, json.dumps(fields)]) == 1


def new(records: ThreadRecords, metadata: dict[str, Any] | None = None, **options: Any) -> str:
    thread_id = str(uuid4())
    records.create(thread_id, metadata or {}, **options)
    return thread_id


def ids(records: ThreadRecords, **query: Any) -> list[str]:
    return [each.thread_id for each in records.search(ThreadQuery(**query)).records]


def remove(records: ThreadRecords, thread_id: str) -> None:
    records.cleaned(records.delete(thread_id))


def stray_keys(server: RedisServer) -> set[bytes]:
    marks = (b"{test}:tokens", b"{test}:gone:")
    return {key for key in server.client.keys("*") if not key.startswith(marks)}


class TwiceSent:
    """A storage whose every call arrives twice, as after a connection that broke."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.clock = storage.clock

    def call(self, *args: Any) -> Any:
        self._storage.call(*args)
        return self._storage.call(*args)


def test_a_thread_is_read_as_it_was_made(records):
    thread_id = str(uuid4())
    metadata = {"a": {"ü": [1, {}, []]}, "large": 12345678901234567890123, "f": 0.1, "n": None}
    made = records.create(thread_id, metadata, config={"configurable": {}})
    read = records.get(thread_id)
    assert read == made
    assert (read.metadata, read.config, read.status, read.error) == (
        metadata,
        {"configurable": {}},
        "idle",
        None,
    )
    assert read.created_at == read.updated_at == read.state_updated_at
    assert read.created_at.endswith("+00:00")


def test_what_is_not_there_is_not_found(records):
    for call in (
        lambda: records.get("nope"),
        lambda: records.patch("nope", {"a": 1}),
        lambda: records.patch("nope", {}, ttl=5),
        lambda: records.delete("nope"),
        lambda: records.hold("nope"),
    ):
        with pytest.raises(ThreadNotFound, match="nope"):
            call()
    records.note_state("nope", True)
    assert records.search(ThreadQuery()).records == []


def test_a_second_thread_of_the_same_id_is_refused_and_the_first_stays(records):
    thread_id = new(records, {"a": 1})
    with pytest.raises(ThreadExists, match=thread_id):
        records.create(thread_id, {"a": 2})
    assert records.get(thread_id).metadata == {"a": 1}


def test_of_many_that_make_the_same_thread_at_once_in_two_processes_one_wins(redis_server):
    processes = [ThreadRecords(connected(redis_server), "test", None) for _ in range(2)]
    for _ in range(20):
        thread_id, start = str(uuid4()), threading.Barrier(8)

        def create(number: int, thread_id: str = thread_id, start: Any = start) -> int | None:
            start.wait()
            try:
                processes[number % 2].create(thread_id, {"by": number})
            except ThreadExists:
                return None
            return number

        with ThreadPoolExecutor(8) as pool:
            winners = [each for each in pool.map(create, range(8)) if each is not None]
        assert len(winners) == 1
        assert processes[0].get(thread_id).metadata == {"by": winners[0]}


def test_every_call_may_arrive_twice(storage, redis_server):
    records = ThreadRecords(TwiceSent(storage), "test", None)
    thread_id = new(records, {"a": 1})
    assert records.patch(thread_id, {"b": 2}).metadata == {"a": 1, "b": 2}
    records.note_state(thread_id, True)
    assert ids(records, metadata={"b": 2}, status="interrupted") == [thread_id]
    assert records.count(ThreadQuery()) == 1
    left_over = records.delete(thread_id)
    records.cleaned(left_over)
    assert stray_keys(redis_server) == set()


def test_a_patch_lays_names_over_and_leaves_the_others(records):
    thread_id = new(records, {"a": {"x": 1}, "b": 2})
    patched = records.patch(thread_id, {"a": {"y": 1}, "c": None})
    assert patched.metadata == {"a": {"y": 1}, "b": 2, "c": None}
    assert ids(records, metadata={"a": {"x": 1}}) == []
    assert ids(records, metadata={"a": {"y": 1}, "b": 2}) == [thread_id]


def test_patches_from_two_processes_at_once_are_all_there(redis_server):
    processes = [ThreadRecords(connected(redis_server), "test", None) for _ in range(2)]
    thread_id = new(processes[0])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: processes[i % 2].patch(thread_id, {f"n{i}": i}), range(40)))
    wanted = {f"n{i}": i for i in range(40)}
    assert processes[0].get(thread_id).metadata == wanted
    assert ids(processes[0], metadata=wanted) == [thread_id]


def test_after_a_removal_nothing_is_left(records, storage, redis_server):
    thread_id = new(records, {"a": 1, "long": "x" * 100}, ttl=60_000)
    change(storage, thread_id, status="busy")
    change(storage, thread_id, status="error", error='{"error":"E","message":"m"}')
    remove(records, thread_id)
    assert stray_keys(redis_server) == set()


def test_a_removal_takes_ended_runs_along_and_has_the_others_end(records, storage, redis_server):
    thread_id, client = new(records), redis_server.client
    key = f"{{test}}:thread:{thread_id}"
    change(storage, thread_id, status="busy", active="r1")
    client.rpush(f"{key}:queue", "r2")
    client.zadd("{test}:queued", {"r2": 2})
    for number, run in enumerate(("r0", "r1", "r2")):
        client.zadd(f"{key}:runs", {run: number})
        client.hset(f"{{test}}:run:{run}", mapping={"record": "{}", "kept": 1})
        client.hset(f"{{test}}:run:{run}", "thread_id", thread_id)
    client.hset("{test}:run:r0", "ended_by", "p1")
    client.set("{test}:result:r0", "{}")
    client.hset("{test}:run:r1", "owner", "p1")
    client.zadd("{test}:leases", {"r1": 1})
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.psubscribe("{test}:told:*")
    listener.get_message(timeout=5)
    left_over = records.delete(thread_id)
    told = [listener.get_message(timeout=5) for _ in range(2)]
    assert [(each["channel"], each["data"]) for each in told] == [
        (b"{test}:told:p1", b"cancel r1 interrupt"),
        (b"{test}:told:all", b"ready"),
    ]
    # Whoever takes the one that waited ends it; what they leave is for those who wait for them.
    assert client.zrange("{test}:ready", 0, -1) == [b"r2"]
    for run in ("r1", "r2"):
        left = client.hmget(f"{{test}}:run:{run}", "cancel", "undone", "kept")
        assert left == [b"interrupt", b"1", None]
        client.delete(f"{{test}}:run:{run}")
    client.delete("{test}:ready", "{test}:leases")
    records.cleaned(left_over)
    assert stray_keys(redis_server) == set()


def test_a_removed_thread_is_doomed_until_it_is_cleaned(records):
    thread_id = new(records)
    left_over = records.delete(thread_id)
    assert left_over.thread_id == thread_id
    assert records.sweep() == ([left_over], [], False)
    with pytest.raises(RemovalUnfinished) as refused:
        records.create(thread_id, {})
    assert refused.value.left_over == left_over
    records.cleaned(left_over)
    assert records.sweep() == ([], [], False)
    records.create(thread_id, {})


def test_a_thread_that_is_built_is_there_once_it_is_created(records, redis_server):
    thread_id = str(uuid4())
    token = records.reserve(thread_id)
    assert (ids(records), records.count(ThreadQuery())) == ([], 0)
    for call in (records.get, records.delete, records.hold):
        with pytest.raises(ThreadNotFound):
            call(thread_id)
    assert records.sweep() == ([], [], False)
    made = records.create(thread_id, {"a": 1}, token=token, status="interrupted")
    assert (made.status, made.state_updated is not None) == ("interrupted", True)
    assert ids(records, status="interrupted", metadata={"a": 1}) == [thread_id]
    assert records.abandon(thread_id, token) is None
    with pytest.raises(ThreadExists):
        records.reserve(thread_id)
    remove(records, thread_id)
    assert stray_keys(redis_server) == set()


@pytest.mark.parametrize("how", ["abandoned", "created", "reserved", "an hour ago"])
def test_a_thread_that_is_built_may_be_given_up(records, redis_server, how):
    thread_id = str(uuid4())
    token = records.reserve(thread_id)
    if how == "abandoned":
        left_over = records.abandon(thread_id, token)
    elif how == "an hour ago":
        token = int(redis_server.client.time()[0] - 3600) * 1_000_000
        redis_server.client.zadd("{test}:threads:building", {thread_id: token})
        (left_over,), _, _ = records.sweep()
    else:
        with pytest.raises(RemovalUnfinished) as refused:
            if how == "created":
                records.create(thread_id, {})
            else:
                records.reserve(thread_id)
        left_over = refused.value.left_over
    assert left_over.thread_id == thread_id
    assert left_over.token > token
    assert records.abandon(thread_id, token) is None
    with pytest.raises(ThreadBusy):
        records.create(thread_id, {}, token=token)
    assert records.sweep()[0] == [left_over]
    records.cleaned(left_over)
    assert stray_keys(redis_server) == set()
    records.create(thread_id, {})


def test_a_late_cleaner_does_not_unmark_a_later_removal(records):
    thread_id = new(records)
    first = records.delete(thread_id)
    records.cleaned(first)
    records.create(thread_id, {})
    second = records.delete(thread_id)
    assert second.token > first.token
    records.cleaned(first)
    assert records.sweep()[0] == [second]


def test_the_token_of_a_removal_is_higher_than_those_before_and_lower_than_those_after(records):
    first = new(records)
    held = records.hold(first)
    left_over = records.delete(first)
    assert held < left_over.token < records.hold(new(records))


def test_a_thread_that_a_run_has_is_not_held(records, storage):
    thread_id = new(records)
    change(storage, thread_id, status="busy", active="r1")
    with pytest.raises(ThreadBusy):
        records.hold(thread_id)


def test_a_state_changed_by_hand_is_noted_unless_a_run_has_the_thread(records, storage):
    thread_id = new(records)
    change(storage, thread_id, status="error", error='{"error":"E","message":"m"}')
    assert records.get(thread_id).error == {"error": "E", "message": "m"}
    records.note_state(thread_id, True)
    noted = records.get(thread_id)
    assert (noted.status, noted.error) == ("interrupted", None)
    assert noted.state_updated is not None and noted.state_updated >= noted.created
    records.note_state(thread_id, False)
    assert records.get(thread_id).status == "idle"
    change(storage, thread_id, status="busy")
    records.note_state(thread_id, True)
    assert records.get(thread_id).status == "busy"


# Expiry


def expire(server: RedisServer, thread_id: str) -> None:
    """Let the thread's time be over, without waiting for it."""
    assert server.client.zadd("{test}:threads:expiry", {thread_id: 1}, xx=True, ch=True) == 1


def nearly_expire(server: RedisServer, thread_id: str) -> None:
    """Leave the thread a minute."""
    soon = server.client.time()[0] * 1000 + 60_000
    server.client.zadd("{test}:threads:expiry", {thread_id: soon}, xx=True)


def test_a_thread_whose_record_redis_dropped_expires_once(records, redis_server):
    thread_id = new(records, {"a": 1}, ttl=60_000)
    expire(redis_server, thread_id)
    redis_server.client.delete(f"{{test}}:thread:{thread_id}")
    assert (ids(records, metadata={"a": 1}), records.sweep()) == ([], ([], [], False))
    assert redis_server.client.zcard("{test}:threads:expiry") == 0


def test_an_expired_thread_goes_whole(records, redis_server):
    expired, other = new(records, {"a": 1}, ttl=60_000), new(records, {"a": 1}, ttl=90_000)
    assert records.sweep()[0] == []
    expire(redis_server, expired)
    (left_over,), _, more = records.sweep()
    assert left_over.thread_id == expired
    assert not more
    records.cleaned(left_over)
    assert ids(records, metadata={"a": 1}) == [other]
    assert not [key for key in stray_keys(redis_server) if expired.encode() in key]


@pytest.mark.parametrize("use", ["get", "patch", "note_state", "run"])
def test_a_use_puts_the_expiry_off(records, storage, redis_server, use):
    thread_id = new(records, ttl=600_000)
    nearly_expire(redis_server, thread_id)
    if use == "get":
        records.get(thread_id)
    elif use == "patch":
        records.patch(thread_id, {})
    elif use == "note_state":
        records.note_state(thread_id, False)
    else:
        change(storage, thread_id, status="busy")
        assert redis_server.client.zscore("{test}:threads:expiry", thread_id) is None
        change(storage, thread_id, status="idle")
    assert records.sweep()[0] == []
    due = redis_server.client.zscore("{test}:threads:expiry", thread_id)
    assert due - redis_server.client.time()[0] * 1000 > 500_000


@pytest.mark.parametrize(
    "ask", ["get", "patch", "hold", "delete", "search", "ids", "count", "find"]
)
def test_an_expired_thread_is_gone_at_once(records, redis_server, ask):
    thread_id = new(records, {"a": 1}, ttl=60_000)
    expire(redis_server, thread_id)
    if ask in ("get", "patch", "hold", "delete"):
        arguments = ({},) if ask == "patch" else ()
        with pytest.raises(ThreadNotFound):
            getattr(records, ask)(thread_id, *arguments)
    elif ask == "count":
        assert records.count(ThreadQuery()) == 0
    else:
        asked: dict[str, Any] = {
            "search": {},
            "ids": {"ids": [thread_id]},
            "find": {"metadata": {"a": 1}, "status": "idle"},
        }[ask]
        page = records.search(ThreadQuery(**asked))
        assert (page.records, page.total) == ([], 0)
    assert [each.thread_id for each in records.sweep()[0]] == [thread_id]


def test_the_id_of_an_expired_thread_may_be_used_again_once_it_is_cleaned(records, redis_server):
    thread_id = new(records, {"a": 1}, ttl=60_000)
    expire(redis_server, thread_id)
    with pytest.raises(RemovalUnfinished) as got:
        records.create(thread_id, {})
    records.cleaned(got.value.left_over)
    assert records.create(thread_id, {}).metadata == {}


class TestKeepingTheLatest:
    @pytest.fixture
    def records(self, storage):
        return ThreadRecords(storage, "test", 600, "keep_latest")

    def test_gives_a_thread_to_be_pruned_once_it_was_not_used(self, records, redis_server):
        thread_id = new(records)
        assert records.get(thread_id).prunes == 600_000
        assert records.sweep() == ([], [], False)
        redis_server.client.zadd("{test}:threads:pruning", {thread_id: 1})
        assert records.sweep() == ([], [thread_id], False)
        records.pruned(thread_id)
        assert records.sweep() == ([], [], False)
        assert records.get(thread_id)

    def test_gives_it_again_where_it_was_not_pruned_and_not_where_it_was_used(
        self, records, redis_server
    ):
        thread_id = new(records)
        redis_server.client.zadd("{test}:threads:pruning", {thread_id: 1})
        assert records.sweep()[1] == records.sweep()[1] == [thread_id]
        records.get(thread_id)
        records.pruned(thread_id)
        due = redis_server.client.zscore("{test}:threads:pruning", thread_id)
        assert due - redis_server.client.time()[0] * 1000 > 500_000

    def test_is_nothing_to_a_thread_that_says_itself_how_long_it_lives(self, records, redis_server):
        thread_id = new(records, ttl=60_000)
        assert records.get(thread_id).prunes is None
        expire(redis_server, thread_id)
        assert len(records.sweep()[0]) == 1
        other = new(records)
        records.patch(other, {}, ttl=60_000)
        assert redis_server.client.zscore("{test}:threads:pruning", other) is None

    def test_leaves_nothing_of_a_thread_that_is_deleted(self, records, redis_server):
        thread_id = new(records)
        records.delete(thread_id)
        assert redis_server.client.zscore("{test}:threads:pruning", thread_id) is None


def test_a_search_is_no_use(records, redis_server):
    thread_id = new(records, ttl=600_000)
    nearly_expire(redis_server, thread_id)
    assert ids(records) == [thread_id]
    due = redis_server.client.zscore("{test}:threads:expiry", thread_id)
    assert due - redis_server.client.time()[0] * 1000 <= 61_000


def test_the_service_may_give_all_threads_a_life_and_a_thread_may_have_its_own(storage):
    records = ThreadRecords(storage, "test", 30.0)
    assert records.get(new(records)).ttl == 30_000
    thread_id = new(records, ttl=50_000)
    assert records.get(thread_id).ttl == 50_000
    assert records.patch(thread_id, {}, ttl=70_000).ttl == 70_000
    assert records.patch(thread_id, {"a": 1}).ttl == 70_000


def test_a_sweep_removes_at_most_a_hundred_and_says_that_there_is_more(records, redis_server):
    for _ in range(120):
        expire(redis_server, new(records, ttl=60_000))
    left_over, _, more = records.sweep()
    assert (len(left_over), more) == (100, True)
    for each in left_over:
        records.cleaned(each)
    left_over, _, more = records.sweep()
    assert (len(left_over), more) == (20, False)


# Temporary threads


def test_a_temporary_thread_is_there_but_not_found(records, storage, redis_server):
    thread_id = str(uuid4())
    storage.call(CREATE_TEMPORARY, [], ["{test}", thread_id])
    change(storage, thread_id, status="busy")
    assert records.get(thread_id).temporary
    assert records.search(ThreadQuery()).records == []
    assert ids(records, ids=[thread_id]) == []
    assert records.count(ThreadQuery()) == 0
    assert records.patch(thread_id, {"a": 1}).metadata == {"a": 1}
    assert ids(records, metadata={"a": 1}) == []
    with pytest.raises(ThreadBusy):
        records.hold(thread_id)
    remove(records, thread_id)
    assert stray_keys(redis_server) == set()


def test_a_removed_temporary_thread_has_its_run_told(records, storage, redis_server):
    thread_id, client = str(uuid4()), redis_server.client
    storage.call(CREATE_TEMPORARY, [], ["{test}", thread_id])
    client.hset("{test}:run:r1", mapping={"owner": "p1", "record": "{}"})
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe("{test}:told:p1")
    listener.get_message(timeout=5)
    records.delete(thread_id)
    assert listener.get_message(timeout=5)["data"] == b"cancel r1 interrupt"


def test_a_thread_that_lives_for_ever_is_read_where_nothing_can_be_written(records, configure):
    thread_id = new(records)
    configure("min-replicas-to-write", 1)
    with pytest.raises(StorageUnavailable):
        records.patch(thread_id, {"a": 1})
    assert records.get(thread_id).metadata == {}
    assert ids(records) == [thread_id]


def test_a_temporary_thread_that_is_kept_after_all_is_found(records, storage, redis_server):
    thread_id = str(uuid4())
    storage.call(CREATE_TEMPORARY, [], ["{test}", thread_id])
    change(storage, thread_id, temporary=False)
    assert ids(records, status="idle") == [thread_id]
    assert redis_server.client.zscore("{test}:threads:expiry", thread_id) is not None


# Search


def test_threads_come_by_their_last_change_newest_first(records, redis_server):
    one, two, three = new(records), new(records), new(records)
    later(redis_server)
    records.patch(two, {"a": 1})
    assert ids(records)[0] == two
    assert ids(records, sort_order="asc")[-1] == two
    assert set(ids(records)) == {one, two, three}


def later(server: RedisServer) -> None:
    """Redis's clock goes on to the next millisecond."""
    seconds, micros = server.client.time()
    while (seconds, micros // 1000) == (
        (now := server.client.time())[0],
        now[1] // 1000,
    ):
        pass


def made_in_order(
    records: ThreadRecords, server: RedisServer, *metadata: dict[str, Any]
) -> list[str]:
    found = []
    for each in metadata:
        found.append(new(records, each))
        later(server)
    return found


def test_a_page_says_how_many_there_are_and_whether_more_come(records, redis_server):
    made = made_in_order(records, redis_server, *({"a": 1, "n": i % 2} for i in range(7)))
    newest = made[::-1]
    for metadata in ({}, {"a": 1}):
        for offset, limit, more in ((0, 3, True), (3, 3, True), (4, 3, False), (6, 9, False)):
            page = records.search(ThreadQuery(metadata=metadata, offset=offset, limit=limit))
            assert [each.thread_id for each in page.records] == newest[offset : offset + limit]
            assert (page.total, page.more) == (7, more)
        page = records.search(ThreadQuery(metadata=metadata, offset=100))
        assert (page.records, page.total, page.more) == ([], 7, False)
    page = records.search(ThreadQuery(metadata={"a": 1, "n": 0}, limit=3))
    assert [each.thread_id for each in page.records] == newest[::2][:3]
    assert (page.total, page.more) == (4, True)
    page = records.search(ThreadQuery(metadata={"a": 1, "n": 0}, offset=9))
    assert (page.records, page.total, page.more) == ([], 4, False)


CONTAINED: list[dict[str, Any]] = [
    {"a": {"b": 1}},
    {"a": {"b": 1.0}},
    {"a": {"b": 1, "c": True}},
    {"a": {}},
    {"list": ["y", "x"]},
    {"list": [{"k": 1}]},
    {"list": []},
    {"null": None},
    {"empty": {}},
    {"text": "1"},
    {"long": "ü" * 500},
    {"large": 10**22},
    {"large": 1e22},
]
NOT_CONTAINED: list[dict[str, Any]] = [
    {"a": {"b": True}},
    {"a": {"c": 1}},
    {"a": 1},
    {"a.b": 1},
    {"a": []},
    {"list": [{"k": 1, "l": 2}]},
    {"list": {}},
    {"list": "x"},
    {"list": ["z"]},
    {"a": None},
    {"other": None},
    {"text": 1},
    {"long": "ü" * 499},
    {"large": 10**22 + 1},
]


def test_metadata_is_found_by_what_it_contains(records):
    thread_id = new(
        records,
        {
            "a": {"b": 1, "c": True},
            "list": ["x", "y", {"k": 1}, {"l": 2}],
            "null": None,
            "empty": {},
            "text": "1",
            "long": "ü" * 500,
            "large": 10**22,
        },
    )
    new(records, {"else": 1})
    for expected, cases in (([thread_id], CONTAINED), ([], NOT_CONTAINED)):
        for wanted in cases:
            assert ids(records, metadata=wanted) == expected, wanted
            assert records.count(ThreadQuery(metadata=wanted)) == len(expected), wanted


def test_ids_are_found_whatever_their_order_with_what_else_is_asked(records, redis_server):
    one, two, three = made_in_order(records, redis_server, {"a": 1}, {"a": 1}, {"a": 2})
    asked = [three, one, two, one, str(uuid4())]
    assert ids(records, ids=asked) == [three, two, one]
    assert ids(records, ids=asked, metadata={"a": 1}) == [two, one]
    assert ids(records, ids=asked, status="busy") == []
    assert ids(records, ids=[]) == []
    assert ids(records, ids=asked, limit=1, offset=1) == [two]
    assert records.count(ThreadQuery(ids=asked, metadata={"a": 1})) == 2


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_threads_come_in_the_order_asked_for(records, storage, redis_server, order):
    one, two, three = made_in_order(records, redis_server, {}, {}, {})
    change(storage, two, status="busy")
    change(storage, three, status="error")
    later(redis_server)
    records.note_state(one, False)

    def found(sort_by: str) -> list[str]:
        given = ids(records, sort_by=sort_by, sort_order=order)
        return given if order == "asc" else given[::-1]

    assert found("created_at") == [one, two, three]
    assert found("updated_at") == [two, three, one] or found("updated_at") == [three, two, one]
    assert found("state_updated_at") == [two, three, one]
    assert found("status") == [two, three, one]
    assert found("thread_id") == sorted([one, two, three])


def test_what_the_caller_keeps_is_asked_until_the_page_is_full(records, redis_server):
    made_in_order(records, redis_server, *({"n": i} for i in range(20)))
    asked: list[int] = []

    def keep(record: Any) -> bool:
        asked.append(record.metadata["n"])
        return record.metadata["n"] % 2 == 0

    page = records.search(ThreadQuery(limit=3), keep)
    assert [each.metadata["n"] for each in page.records] == [18, 16, 14]
    assert (page.total, page.more) == (4, True)
    assert len(asked) == 8
    page = records.search(ThreadQuery(limit=3, offset=9), keep)
    assert [each.metadata["n"] for each in page.records] == [0]
    assert (page.total, page.more) == (10, False)
    assert records.count(ThreadQuery(), keep) == 10


def test_a_thread_is_found_by_its_first_thousand_values(records, redis_server):
    many = {f"k{i}": i for i in range(1200)}
    thread_id = new(records, many)
    assert records.get(thread_id).metadata == many
    assert ids(records, metadata={"k999": 999}) == [thread_id]
    assert ids(records, metadata={f"k{i}": i for i in range(500)}) == [thread_id]
    assert ids(records, metadata={**{f"k{i}": i for i in range(499)}, "k499": 0}) == []
    remove(records, thread_id)
    assert stray_keys(redis_server) == set()


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ThreadRecords, int]]:
    """So many threads that a search of several terms takes each of its ways."""
    folder = tmp_path_factory.mktemp("crowd")
    server = RedisServer(folder)
    server.start()
    # The bounds of the script, made small.
    bounds = "WALK, CALL, SMALL, LARGE, STEP = 2000, 10000, 5000, 100000, 500"
    text = module._SEARCH.text
    assert bounds in text
    small = bounds.split(" = ")[0] + " = 40, 100, 60, 300, 20"
    before, module._SEARCH = module._SEARCH, Script.of(text.replace(bounds, small))
    try:
        records = ThreadRecords(connected(server), "test", None)
        for i in range(1000):
            metadata = {f"m{n}": i % n for n in (2, 3, 5, 7)}
            records.create(str(UUID(int=i)), {"half": i < 500, "most": i != 7, **metadata})
        yield records, 1000
    finally:
        module._SEARCH = before
        server.stop()


@pytest.mark.parametrize(
    "wanted",
    [
        {"m2": 0, "m3": 0},
        {"m2": 1, "most": True},
        {"half": True, "m2": 1, "m3": 2},
        {"half": False, "most": False},
        {"half": True, "most": False},
        {"m5": 1, "m7": 1},
        {"m2": 1, "m3": 1, "m5": 1, "m7": 1},
        {"m2": 5, "m3": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_several_terms_find_what_one_after_the_other_would(crowd, wanted, order):
    records, number = crowd
    matching = []
    for i in range(number):
        metadata: dict[str, Any] = {"half": i < 500, "most": i != 7}
        metadata |= {f"m{n}": i % n for n in (2, 3, 5, 7)}
        if all(metadata[name] == value for name, value in wanted.items()):
            matching.append(str(UUID(int=i)))
    # By creation, and by id where that is in the same ms: the order that they were made in.
    if order == "desc":
        matching.reverse()
    for offset, limit in ((0, 5), (0, 1000), (3, 7), (100, 60), (250, 10), (990, 10)):
        page = records.search(
            ThreadQuery(
                metadata=wanted,
                sort_by="created_at",
                sort_order=order,
                offset=offset,
                limit=limit,
            )
        )
        expected = matching[offset : offset + limit]
        assert [each.thread_id for each in page.records] == expected
        assert page.more == (len(matching) > offset + limit)
        assert offset + len(expected) + page.more <= page.total <= len(matching) or not expected
    assert records.count(ThreadQuery(metadata=wanted)) == len(matching)


# The index against a model

SCALARS = st.sampled_from([0, 1, 1.0, True, False, None, "", "a", "ü" * 80, 2**70])
METADATA = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        SCALARS,
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
        ),
        max_leaves=4,
    ),
    max_size=3,
)
STATUS = st.sampled_from(["idle", "busy", "interrupted", "error"])
OPERATIONS = st.lists(
    st.tuples(st.just("create"), METADATA)
    | st.tuples(st.just("patch"), METADATA)
    | st.tuples(st.just("status"), STATUS)
    | st.tuples(st.just("delete"), st.none())
    | st.tuples(st.just("search"), METADATA),
    max_size=25,
)


@settings(max_examples=60)
@given(operations=OPERATIONS, data=st.data())
def test_whatever_is_done_a_search_finds_what_the_records_say(shared_valkey, operations, data):
    shared_valkey.client.flushall()
    storage = connected(shared_valkey)
    records = ThreadRecords(storage, "test", None)
    model: dict[str, tuple[dict[str, Any], str]] = {}
    for what, value in operations:
        if what == "create":
            thread_id = str(UUID(int=len(model) + 1, version=4))
            if thread_id not in model:
                records.create(thread_id, value)
                model[thread_id] = (value, "idle")
        elif what == "search":
            check_searches(records, model, value)
        elif model:
            thread_id = data.draw(st.sampled_from(sorted(model)))
            metadata, status = model[thread_id]
            if what == "patch":
                records.patch(thread_id, value)
                model[thread_id] = ({**metadata, **value}, status)
            elif what == "status":
                change(storage, thread_id, status=value)
                model[thread_id] = (metadata, value)
            else:
                remove(records, thread_id)
                del model[thread_id]
    check_searches(records, model, {})
    for metadata, _ in model.values():
        check_searches(records, model, metadata)
    for thread_id in model:
        remove(records, thread_id)
    assert stray_keys(shared_valkey) == set()


def check_searches(
    records: ThreadRecords, model: dict[str, tuple[dict[str, Any], str]], wanted: dict[str, Any]
) -> None:
    for status in (None, "idle", "busy"):
        for sort_by in ("updated_at", "created_at", "thread_id"):
            matching = {
                thread_id
                for thread_id, (metadata, its_status) in model.items()
                if contains(metadata, wanted) and status in (None, its_status)
            }
            query = ThreadQuery(metadata=wanted, status=status, sort_by=sort_by, limit=1000)
            page = records.search(query)
            assert {each.thread_id for each in page.records} == matching
            assert page.total == len(matching)
    assert records.count(ThreadQuery(metadata=wanted)) == sum(
        contains(metadata, wanted) for metadata, _ in model.values()
    )


@given(stored=METADATA, wanted=METADATA)
def test_what_contains_has_all_the_terms_of_what_is_contained(stored, wanted):
    if contains(stored, wanted):
        assert set(index_terms(wanted)) <= set(index_terms(stored))


@given(METADATA)
def test_everything_contains_itself(metadata):
    assert contains(metadata, metadata)
    assert contains({**metadata, "more": 1}, metadata)


def test_an_unreachable_redis_is_said_to_be_so(valkey):
    records = ThreadRecords(connected(valkey), "test", None)
    valkey.stop()
    with pytest.raises(StorageUnavailable):
        records.search(ThreadQuery())


def test_metadata_of_any_shape_is_compared_and_indexed_in_no_time():
    # Each of these would take an hour, if it took the square of its size.
    numbers = [(2**61 - 1) * each for each in range(300_000)]
    assert contains({"a": numbers}, {"a": numbers[::-1]})
    assert not contains({"a": numbers}, {"a": ["x"]})
    deep: dict[str, Any] = {str(each): each for each in range(1000)}
    for _ in range(8):
        deep = {"x" * 1_000_000: deep}
    assert len(index_terms(deep)) == len(set(index_terms(deep))) == 1000
