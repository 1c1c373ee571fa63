"""A primary that Sentinels name, and its replica: failovers, and what the replica has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis

from runwait.storage import connection
from runwait.storage.connection import Script, Storage, StorageUnavailable
from runwait.storage.subscriber import Subscriber
from tests.e2e.calls import Gate, document, is_ready, patiently, pause, resume
from tests.servers import PATIENCE, PROJECTS, RedisServer, Server, eventually, running
from tests.several import Watched, is_up_to_date

ZOO = PROJECTS / "zoo" / "langgraph.json"

SET = Script.of("redis.call('SET', KEYS[1], ARGV[1]) return 1")
GET = Script.of("return redis.call('GET', KEYS[1])")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Two servers and three Sentinels."""
    with running(Watched(tmp_path_factory.mktemp("watched"))) as watched:
        yield watched


@pytest.fixture(scope="module")
def server(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers, which know the Sentinels alone."""
    environment = {"REDIS_URL": watched.url, "LANGGRAPH_CONFIG": str(ZOO), "RUN_LEASE_SECONDS": "3"}
    with running(Server(tmp_path_factory.mktemp("server"), environment)) as server:
        yield server


@pytest.fixture
def pair(watched: Watched) -> tuple[RedisServer, RedisServer]:
    """The primary and its replica, which has all that it has."""
    primary = watched.primary()
    [replica] = [each for each in watched.servers if each is not primary]
    eventually(lambda: is_up_to_date(replica))
    eventually(lambda: watched.knows(replica))
    return primary, replica


def begin(server: Server, **input: Any) -> dict[str, Any]:
    """A kept run in the background, taken in by whichever worker, once one can."""
    body = {"assistant_id": "steps_sync", "input": input, "if_not_exists": "create"}
    key = {"Idempotency-Key": uuid4().hex}
    url = f"{server.url}/threads/{uuid4()}/runs"
    run: dict[str, Any] = patiently(
        lambda: httpx.post(url, json=body, headers=key, timeout=PATIENCE)
    ).json()
    return run


@contextlib.contextmanager
def joins(server: Server, run: dict[str, Any], number: int) -> Iterator[list[httpx.Response]]:
    """So many joins, of either worker."""
    url = f"{server.url}/threads/{run['thread_id']}/runs/{run['run_id']}/join"
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(httpx.stream("GET", url, timeout=PATIENCE)) for _ in range(number)
        ]


@pytest.mark.parametrize("fault", ["dead", "silent"])
def test_runs_go_on_at_the_new_primary_and_everybody_hears_of_them(
    server, watched, pair, tmp_path, fault
):
    primary, replica = pair
    eventually(lambda: is_ready(server))
    with Gate(tmp_path) as gate:
        run = begin(server, n=4, **gate.input)
        with joins(server, run, 6) as before, ThreadPoolExecutor(8) as pool:
            primary.client.set("mark", 1)
            # All before is the replica's: nothing of it depends on luck.
            assert primary.client.wait(1, int(PATIENCE * 1000)) == 1
            primary.kill() if fault == "dead" else pause(primary.process.pid)
            # Clients try all through the failover; those are waited for below.
            others = [pool.submit(begin, server, n=2) for _ in range(8)]
            assert watched.primary() is replica
            eventually(lambda: is_ready(server))
            # A run that another worker takes in, and joins that are told by a message.
            with joins(server, run, 6) as after:
                gate.open()
                for answer in (*before, *after):
                    assert document(answer)["steps"] == [1, 2, 3, 4]
            for other in others:
                with joins(server, other.result(), 2) as answers:
                    assert [document(each)["steps"] for each in answers] == [[1, 2]] * 2
    # The old one comes back believing in itself; nobody asks it.
    primary.start() if fault == "dead" else resume(primary.process.pid)
    assert is_ready(server)
    # What the Sentinels do some seconds later.
    watched.demote(primary)


def test_what_a_replica_is_waited_for_is_never_written_to_a_demoted_primary(watched, pair, patient):
    storage = Storage(watched.url, 3, "test", replicas=1)
    storage.start()
    storage.call(SET, ["{test}:key"], ["before"])
    redis.Redis(port=watched.ports[0]).sentinel_failover("main")

    eventually(lambda: watched.primary() is pair[1])

    # It has connections to the old one, which took writes a moment ago, and may do so still.
    def is_written() -> bool:
        with contextlib.suppress(StorageUnavailable):
            return bool(storage.call(SET, ["{test}:key"], ["after"]))
        return False

    written = is_written()
    # What the Sentinels do some seconds later.
    watched.demote(pair[0])
    assert written or eventually(is_written)
    assert pair[1].client.get("{test}:key") == b"after"


def test_a_subscriber_that_is_renewed_listens_at_the_new_primary(watched, pair):
    heard: list[str] = []
    subscribed: list[bool] = []
    subscriber = Subscriber(watched.url, ["told"], heard.append, lambda: subscribed.append(True))
    subscriber.start()
    eventually(lambda: subscribed)
    subscriber.renew()
    eventually(lambda: len(subscribed) == 2)
    pair[0].client.publish("told", "again")
    eventually(lambda: heard == ["again"])


@pytest.mark.parametrize("size", [10, 300_000])
def test_what_is_answered_is_on_the_replica_too(pair, patient, size):
    primary, replica = pair
    storage = Storage(primary.url, 3, "test", replicas=1)
    storage.start()
    for number in range(20):
        value = bytes([number]) * size
        storage.call(SET, ["{test}:key"], [value])
        assert replica.client.get("{test}:key") == value


def test_nothing_is_read_that_no_replica_has(pair, monkeypatch):
    monkeypatch.setattr(connection, "WAIT_SECONDS", 2.0)
    primary, replica = pair
    storage = Storage(primary.url, 3, "test", replicas=1)
    storage.start()
    pause(replica.process.pid)
    try:
        primary.client.set("{test}:key", "of another process")
        with pytest.raises(StorageUnavailable, match="0 of 1 replicas") as raised:
            storage.call(GET, ["{test}:key"], [])
        assert raised.value.doubtful
        assert "0 of 1 replicas" in (storage.problem or "")
    finally:
        resume(replica.process.pid)
    eventually(lambda: storage.problem is None)
    assert storage.call(GET, ["{test}:key"], []) == b"of another process"


def test_more_replicas_than_there_are_is_a_problem_that_is_named(pair):
    storage = Storage(pair[0].url, 3, "test", replicas=2)
    storage.start()
    assert "1 of 2 replicas" in (storage.problem or "")


def test_the_right_to_wait_is_tried_too(pair, patient):
    rules = "on >secret ~* &* +@all -wait"
    pair[0].client.execute_command("ACL", "SETUSER", "app", *rules.split())
    storage = Storage(pair[0].url.replace("//", "//app:secret@"), 3, "test", replicas=1)
    storage.start()
    assert "lacks the rights +wait" in (storage.problem or "")


def test_sentinels_that_do_not_know_the_name_are_asked_again_and_the_log_says_so(watched, pair):
    storage = Storage(watched.url.replace("/main/", "/other/"), 3, "test")
    storage.start()
    assert "No master found for 'other'" in (storage.problem or "")
