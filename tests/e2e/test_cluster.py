"""A Redis Cluster: six nodes, of which keys move and primaries die."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from redis.crc import key_slot

from runwait.storage import connection
from runwait.storage.cluster import storage_of
from runwait.storage.connection import Script, Storage, StorageUnavailable, StorageUnsuitable
from tests.e2e.calls import Gate, fresh_get, is_ready, lines, patient_get, patiently, pause, resume
from tests.servers import PATIENCE, PROJECTS, ROOT, Server, eventually, running
from tests.several import Cluster, ClusterNode

ZOO = PROJECTS / "zoo" / "langgraph.json"
RUNS = "{runwait}:run:"
# Requests at once; and how many runs are taken in before, and after, a primary dies.
CLIENTS, EACH = 4, 15

BOTH = Script.of("redis.call('SET', KEYS[1], ARGV[1]) redis.call('SET', ARGV[2], ARGV[1]) return 1")
GET = Script.of("return redis.call('GET', KEYS[1])")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Six nodes, whole at the begin of each test that takes care to leave them so."""
    with running(Cluster(tmp_path_factory.mktemp("cluster"))) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers that wait for a replica of each node."""
    environment = {"REDIS_URL": cluster.url, "REDIS_CLUSTER": "true", "REDIS_WAIT_REPLICAS": "1"}
    environment |= {"LANGGRAPH_CONFIG": str(ZOO), "RUN_LEASE_SECONDS": "3"}
    with running(Server(tmp_path_factory.mktemp("server"), environment)) as server:
        yield server


@pytest.fixture
def storage(cluster: Cluster, patient: None) -> Iterator[Storage]:
    """Connections to all nodes."""
    storage = opened(cluster.url)
    yield storage
    storage.stop()


def opened(url: str, prefix: str = "test", **options: Any) -> Storage:
    storage = storage_of(url.replace("://", "+cluster://").removesuffix("/0"), 3, prefix, **options)
    storage.start()
    return storage


def post(server: Server, path: str, **body: Any) -> httpx.Response:
    """On a connection of its own, so that any worker may take it; again while it is a 503."""
    key = {"Idempotency-Key": body.pop("key")} if "key" in body else None
    body = {"assistant_id": "steps_sync", **body}
    url = server.url + path
    return patiently(lambda: httpx.post(url, json=body, headers=key, timeout=PATIENCE))


def test_scripts_find_the_keys_of_their_slot_on_whichever_node_has_it(storage, cluster):
    threads = [f"test:{{{number}}}:" for number in range(30)]
    for thread in threads:
        storage.call(BOTH, [f"{thread}a"], [thread, f"{thread}b"])
        assert cluster.primary_of(thread).client.get(f"{thread}b") == thread.encode()
    assert len({cluster.primary_of(each).port for each in threads}) == 3
    storage.write()
    assert storage.problem is None


def test_a_slot_that_is_being_moved_takes_no_script_and_is_followed(storage, cluster, monkeypatch):
    source, slot = cluster.primary_of("{test}"), key_slot(b"test")
    target = next(each for each in cluster.servers if each != source and cluster.is_primary(each))
    storage.call(BOTH, ["{test}:a"], ["old", "{test}:b"])
    ids = [each.client.cluster("MYID").decode() for each in (source, target)]
    target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
    source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
    # One of the two keys is there, the other here: no script may see that.
    source.client.migrate("127.0.0.1", str(target.port), "{test}:b", 0, 5000)
    with (
        pytest.raises(StorageUnavailable, match="the cluster moves") as raised,
        monkeypatch.context() as m,
    ):
        m.setattr(connection, "WAIT_SECONDS", 0.1)
        storage.call(BOTH, ["{test}:a"], ["new", "{test}:b"])
    assert not raised.value.doubtful
    assert source.client.get("{test}:a") == b"old"
    for key in source.client.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
        source.client.migrate("127.0.0.1", str(target.port), key, 0, 5000)
    for node in (target, source):
        node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[1])
    storage.call(BOTH, ["{test}:a"], ["new", "{test}:b"])
    assert target.client.mget("{test}:a", "{test}:b") == [b"new", b"new"]
    eventually(cluster.is_whole)


def test_with_the_rights_that_the_docs_name_nothing_is_lacking(cluster, patient):
    (rules,) = [
        line.partition("runwait ")[2]
        for line in (ROOT / "docs" / "deploying.md").read_text().splitlines()
        if line.startswith("ACL SETUSER runwait")
    ]
    for user, more in (("runwait", ""), ("narrow", " -cluster")):
        for each in cluster.servers:
            each.client.execute_command("ACL", "SETUSER", user, *(rules + more).split())
    url = cluster.url.replace("//", "//{}:secret@")
    storage = opened(url.format("runwait"), "runwait", replicas=1)
    assert storage.problem is None
    storage.write()
    storage.stop()
    narrow = opened(url.format("narrow"), "runwait")
    assert "lacks the rights +cluster" in (narrow.problem or "")
    narrow.stop()


def test_a_redis_that_is_no_cluster_and_a_cluster_that_lacks_slots_are_refused(tmp_path, valkey):
    with pytest.raises(StorageUnsuitable, match="no Redis cluster"):
        opened(valkey.url)
    (tmp_path / "node").mkdir()
    alone = ClusterNode(tmp_path / "node")
    alone.start()
    try:
        alone.client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 99)
        with pytest.raises(StorageUnsuitable, match="only 100 of 16384 slots"):
            eventually(lambda: opened(alone.url))
    finally:
        alone.kill()


def test_runs_threads_items_and_streams_are_those_of_one_redis(server, tmp_path):
    gate = Gate(tmp_path)
    thread = post(server, "/threads").json()["thread_id"]
    path = f"/threads/{thread}/runs"
    run = post(server, path, input={"n": 4, **gate.input}, stream_resumable=True).json()
    with gate:
        # A join by either worker: one of them has to be told of the end by the other.
        joins = [
            httpx.stream("GET", f"{server.url}{path}/{run['run_id']}/join", timeout=PATIENCE)
            for _ in range(6)
        ]
        answers = [each.__enter__() for each in joins]
    for join, answer in zip(joins, answers, strict=True):
        answer.read()
        assert answer.json()["steps"] == [1, 2, 3, 4]
        join.__exit__(None, None, None)
    events = fresh_get(server, f"{path}/{run['run_id']}/stream")
    assert b"event: end" in events.content or b"event: values" in events.content
    assert len(fresh_get(server, f"/threads/{thread}/history").json()) == 6
    found = post(server, "/threads/search", status="idle", ids=[thread]).json()
    assert [each["thread_id"] for each in found] == [thread]
    item = {"namespace": ["a"], "key": "k", "value": {"x": 1}}
    assert server.http.put("/store/items", json=item).status_code < 300
    assert post(server, "/store/items/search", namespace_prefix=["a"]).json()["items"]
    assert httpx.delete(f"{server.url}/threads/{thread}", timeout=PATIENCE).status_code < 300


def refusal(refused: httpx.Response) -> str:
    assert refused.status_code == 503
    detail: str = refused.json()["detail"]
    return detail


def test_what_no_replica_has_is_a_503_that_says_so_and_is_found_again(server, cluster, tmp_path):
    eventually(lambda: is_ready(server))
    primary = cluster.primary_of(RUNS)
    replica = cluster.replica_of(primary)
    file, key = tmp_path / "file", uuid4().hex
    body = {"assistant_id": "steps_sync", "input": {"n": 1, "file": str(file)}}

    def send() -> httpx.Response:
        headers = {"Idempotency-Key": key}
        return httpx.post(f"{server.url}/runs/wait", json=body, headers=headers, timeout=PATIENCE)

    pause(replica.process.pid)
    try:
        # On a slow machine Redis may not say so in time, which is a 503 too.
        for ask in (send, lambda: fresh_get(server, "/ready")):
            eventually(lambda ask=ask: "0 of 1 replicas" in refusal(ask()))
    finally:
        resume(replica.process.pid)
    answer = patiently(send)
    assert answer.json()["steps"] == [1]
    assert lines(file) == ["1"]
    eventually(cluster.is_whole)


def test_a_failover_under_load_loses_nothing_that_was_acknowledged(server, cluster, in_thread):
    eventually(lambda: is_ready(server))
    taken: list[dict[str, Any]] = []
    killed = threading.Event()

    def load(number: int) -> None:
        after = 0
        while after < EACH:
            fields = {"input": {"n": 3}, "if_not_exists": "create", "key": uuid4().hex}
            run = post(server, f"/threads/{uuid4()}/runs", **fields).json()
            taken.append(run)
            after += killed.is_set()

    loads: list[threading.Thread] = [in_thread(load, number) for number in range(CLIENTS)]
    eventually(lambda: len(taken) >= CLIENTS * EACH)
    primary = cluster.primary_of(RUNS)
    replica = cluster.replica_of(primary)
    primary.kill()
    killed.set()
    # Its replica takes its place, and says yes to nothing before it has one of its own.
    eventually(lambda: cluster.is_primary(replica))
    primary.start()
    for each in loads:
        each.join(PATIENCE)
    assert Counter(each["run_id"] for each in taken).most_common(1)[0][1] == 1
    for run in taken:
        path = f"/threads/{run['thread_id']}"
        answer = patient_get(server, f"{path}/runs/{run['run_id']}/join").json()
        assert answer.get("steps") == [1, 2, 3], (run, answer)
        assert patient_get(server, f"{path}/state").json()["values"]["steps"] == [1, 2, 3]
    eventually(cluster.is_whole)
