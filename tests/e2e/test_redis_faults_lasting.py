"""Redis fails while runs of every kind are under way, and is well again: none is harmed."""

from __future__ import annotations

import contextlib
import functools
import re
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
import redis

from runwait.storage.connection import IN_TIME_SECONDS
from tests.e2e.calls import (
    Gate,
    due_now,
    fresh_get,
    is_ready,
    lines,
    patient_get,
    patiently,
    pause,
    resume,
)
from tests.faulty import FaultyNetwork
from tests.servers import PATIENCE, PROJECTS, RedisServer, Server, eventually, free_port

ZOO = str(PROJECTS / "zoo" / "langgraph.json")
NEVER = 86_400
UNKNOWN = "/threads/01a20acd-2b83-70b2-a8d5-eb34efcb8229"

Post = Callable[..., Future[httpx.Response]]
Fault = Callable[[], AbstractContextManager[None]]


@contextlib.contextmanager
def stopped(valkey: RedisServer) -> Iterator[None]:
    valkey.stop()
    try:
        yield
    finally:
        valkey.start()


@contextlib.contextmanager
def silent(valkey: RedisServer) -> Iterator[None]:
    assert valkey.process is not None
    pause(valkey.process.pid)
    try:
        yield
    finally:
        resume(valkey.process.pid)


@contextlib.contextmanager
def configured(valkey: RedisServer, name: str, bad: str, good: str) -> Iterator[None]:
    valkey.client.config_set("maxmemory-policy", "noeviction")
    valkey.client.config_set(name, bad)
    try:
        yield
    finally:
        valkey.client.config_set(name, good)


@contextlib.contextmanager
def replica(valkey: RedisServer) -> Iterator[None]:
    valkey.client.replicaof("127.0.0.1", free_port())
    try:
        yield
    finally:
        valkey.client.replicaof("NO", "ONE")


@contextlib.contextmanager
def disk_full(valkey: RedisServer) -> Iterator[None]:
    assert valkey.process is not None

    def limit(size: int) -> None:
        resource.prlimit(valkey.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def refuses() -> bool:
        try:
            return not valkey.client.set("a write", "more")
        except redis.RedisError:
            return True

    limit(1)
    try:
        # It takes what it is given until it has noticed.
        eventually(refuses)
        yield
    finally:
        limit(resource.RLIM_INFINITY)


FAULTS: dict[str, Callable[[RedisServer, FaultyNetwork], AbstractContextManager[None]]] = {
    "restarted": lambda valkey, network: stopped(valkey),
    "full": lambda valkey, network: configured(valkey, "maxmemory", "1mb", "0"),
    "no_replicas": lambda valkey, network: configured(valkey, "min-replicas-to-write", "3", "0"),
    "read_only": lambda valkey, network: replica(valkey),
    "disk_full": lambda valkey, network: disk_full(valkey),
    "silent": lambda valkey, network: silent(valkey),
    "too_slow": lambda valkey, network: network.slow(0.6),
    "refusing": lambda valkey, network: network.refusing(),
}


@pytest.fixture
def network(valkey: RedisServer) -> Iterator[FaultyNetwork]:
    network = FaultyNetwork(valkey.port)
    yield network
    network.close()


@pytest.fixture(params=list(FAULTS))
def fault(request: pytest.FixtureRequest, valkey: RedisServer, network: FaultyNetwork) -> Fault:
    return lambda: FAULTS[request.param](valkey, network)


@pytest.fixture
def start(serve: Callable[..., Server], network: FaultyNetwork) -> Callable[..., Server]:
    def start(lease: float, **others: Any) -> Server:
        return serve(
            REDIS_URL=network.url(), LANGGRAPH_CONFIG=ZOO, RUN_LEASE_SECONDS=lease, **others
        )

    return start


@pytest.fixture
def post() -> Iterator[Post]:
    """Asks for a run beside the test."""
    with ThreadPoolExecutor(16) as pool:
        yield lambda server, path="/runs/wait", headers=None, **body: pool.submit(
            httpx.post, server.url + path, json=body, headers=headers, timeout=PATIENCE
        )


def is_well(server: Server) -> bool:
    """Whether the workers take what needs Redis, as far as some fresh connections tell."""
    return all(
        httpx.post(f"{server.url}/threads", json={}, timeout=PATIENCE).status_code == 200
        for _ in range(8)
    )


def run_ids(valkey: RedisServer) -> set[bytes]:
    """The runs that Redis has a record of."""
    runs = valkey.client.keys("{runwait}:run:*")
    return {key for key in runs if valkey.client.hexists(key, "record")}


def test_what_needs_redis_is_a_503_and_leaves_nothing_while_the_rest_is_served(
    start, fault, valkey
):
    server = start(2, WEBHOOK_ALLOWED_HOSTS="127.0.0.1")
    thread = server.http.post("/threads", json={}).json()["thread_id"]
    before = run_ids(valkey)
    run = {"assistant_id": "echo", "input": {"value": 1}}
    needs = [
        ("/runs/wait", {**run, "on_completion": "keep"}, {}),
        ("/runs/wait", {**run, "after_seconds": NEVER}, {}),
        ("/runs/wait", {**run, "webhook": f"http://127.0.0.1:{free_port()}/"}, {}),
        ("/runs/wait", run, {"Idempotency-Key": "a-key"}),
        (f"/threads/{thread}/runs/wait", run, {}),
        ("/threads", {}, {}),
    ]
    with fault():
        for path, body, headers in needs:
            refused = httpx.post(server.url + path, json=body, headers=headers, timeout=PATIENCE)
            assert refused.status_code == 503, (path, refused.text)
            assert "Retry-After" in refused.headers
            assert list(refused.json()) == ["detail"]
        item = {"namespace": ["a"], "key": "k", "value": {}}
        refused = httpx.put(f"{server.url}/store/items", json=item, timeout=PATIENCE)
        assert refused.status_code == 503, refused.text
        # What writes nothing can still be had of a Redis that only takes no writes.
        unknown = f"{UNKNOWN}/runs/{thread}"
        for path, status in ((f"/threads/{thread}", 200), (unknown, 404), (f"{unknown}/join", 404)):
            assert fresh_get(server, path).status_code in (503, status)
        for _ in range(4):
            answer = httpx.post(f"{server.url}/runs/wait", json=run, timeout=PATIENCE)
            assert answer.json() == {"value": 1}
        assert httpx.get(f"{server.url}/ok", timeout=PATIENCE).json() == {"ok": True}
        unready = httpx.get(f"{server.url}/ready", timeout=PATIENCE)
        assert (unready.status_code, list(unready.json())) == (503, ["detail"])
    eventually(lambda: is_well(server) and is_ready(server))
    for path, body, headers in (*needs[:1], *needs[2:]):
        send = functools.partial(httpx.post, json=body, headers=headers, timeout=PATIENCE)
        answer = patiently(functools.partial(send, server.url + path))
        assert answer.status_code == 200
        assert "Idempotency-Replayed" not in answer.headers
    # What was refused was not run, nor is it waiting; the four that were served are recorded.
    eventually(lambda: len(run_ids(valkey) - before) == 4 + 4)
    assert valkey.client.zcard("{runwait}:ready") == 0


def test_a_short_fault_costs_no_run_a_step_and_nobody_an_answer(
    start, fault, valkey, network, post, tmp_path
):
    server = start(15)
    files = {name: tmp_path / name for name in ("sync", "async", "own", "key", "later")}

    def steps(name: str, graph: str = "steps_sync") -> dict[str, Any]:
        return {
            "assistant_id": graph,
            "input": {"n": 5, "seconds": 0.3, "file": str(files[name])},
        }

    asked: dict[str, dict[str, Any]] = {
        "sync": {**steps("sync"), "on_completion": "keep", "durability": "sync"},
        "async": {
            **steps("async", "steps_async"),
            "on_completion": "keep",
            "durability": "async",
        },
        "own": steps("own"),
        "key": {**steps("key"), "headers": {"Idempotency-Key": "a-key"}},
        "later": {**steps("later"), "after_seconds": NEVER},
    }
    answers = {name: post(server, **each) for name, each in asked.items()}

    def all_are_taken_in() -> bool:
        for name, answer in answers.items():
            # On a busy machine a Redis may seem to be away, and whoever is told so asks again.
            if answer.done() and answer.result().status_code == 503:
                answers[name] = post(server, **asked[name])
        return all(lines(files[each]) for each in answers.keys() - {"later"})

    eventually(lambda: all_are_taken_in() and valkey.client.zcard("{runwait}:ready") == 1)
    kept = {
        valkey.client.hget(key, "thread_id").decode(): key.decode().rsplit(":", 1)[1]
        for key in run_ids(valkey)
    }
    with contextlib.ExitStack() as stack:
        joins = [
            stack.enter_context(
                httpx.stream(
                    "GET", f"{server.url}/threads/{thread}/runs/{run}/join", timeout=PATIENCE
                )
            )
            for thread, run in kept.items()
        ]
        assert [each.status_code for each in joins] == [200] * 5
        with fault():
            eventually(lambda: len(lines(files["own"])) >= 3)
        eventually(lambda: is_well(server))
        due_now(valkey)
        for name, answer in answers.items():
            assert answer.result().json()["steps"] == [1, 2, 3, 4, 5], name
            assert lines(files[name]) == ["1", "2", "3", "4", "5"], name
        for each in joins:
            each.read()
            assert each.json()["steps"] == [1, 2, 3, 4, 5]
    again = patiently(
        lambda: post(server, headers={"Idempotency-Key": "a-key"}, **steps("key")).result()
    )
    assert (again.headers["Idempotency-Replayed"], again.json()["n"]) == ("true", 5)
    for answer in (answers["sync"].result(), answers["async"].result()):
        thread = answer.headers["Location"].split("/")[2]
        state = patient_get(server, f"/threads/{thread}/state").json()
        assert (state["values"]["steps"], state["next"]) == ([1, 2, 3, 4, 5], [])


@pytest.mark.parametrize("fault", ["restarted", "full", "silent", "read_only"], indirect=True)
def test_a_fault_longer_than_a_lease_ends_no_run_and_steals_none(
    start, fault, valkey, post, tmp_path
):
    # Longer than a process gets no time of a busy machine.
    server = start(3)
    file, other = tmp_path / "file", tmp_path / "other"
    with Gate(tmp_path) as gate, Gate(tmp_path) as third_step:
        live = post(server, assistant_id="sleep_sync", input=gate.input, on_completion="keep")
        [held] = eventually(lambda: valkey.client.zrange("{runwait}:leases", 0, -1))
        thread = valkey.client.hget(b"{runwait}:run:" + held, "thread_id").decode()
        # Two checkpoints and what was written on the first: until it is let go it writes no more.
        kept = f"runwait:{{{thread}}}:"
        eventually(lambda: valkey.client.hlen(f"{kept}checkpoints") == 2)
        eventually(lambda: valkey.client.hlen(f"{kept}writes") == 1)
        answers = [
            post(
                server,
                assistant_id=graph,
                input={**third_step.input, "n": 8, "file": str(each)},
                on_completion="keep",
                durability=durability,
            )
            for graph, durability, each in (
                ("steps_sync", "sync", file),
                ("steps_async", "async", other),
            )
        ]
        eventually(lambda: lines(file) == lines(other) == ["1", "2"])
        with fault():
            third_step.open()
            # Both gave up what they could not write down any more.
            eventually(lambda: server.log.read_text().count("goes on elsewhere") == 2)
        for answer in answers:
            assert answer.result().json()["steps"] == [1, 2, 3, 4, 5, 6, 7, 8]

        def its_lease_is_renewed() -> bool:
            seconds, micro = valkey.client.time()
            now = seconds * 1000 + micro // 1000
            quiet = valkey.client.hget("{runwait}:beat", "quiet_until")
            lease = valkey.client.zscore("{runwait}:leases", held)
            assert lease is not None
            return quiet is not None and int(quiet) < now < lease

        eventually(its_lease_is_renewed)
        assert valkey.client.hget(b"{runwait}:run:" + held, "attempts") == b"1"
        gate.open()
        assert live.result().json()["done"] is True
    for answer in answers:
        thread = answer.result().headers["Location"].split("/")[2]
        state = patient_get(server, f"/threads/{thread}/state").json()
        assert (state["values"]["steps"], state["next"]) == ([1, 2, 3, 4, 5, 6, 7, 8], [])
    eventually(lambda: is_well(server))
    assert "fault" not in server.log.read_text()


def test_a_scheduled_run_that_comes_due_while_redis_takes_no_writes_starts_once_it_does(
    start, valkey, post
):
    server = start(1, LOG_LEVEL="DEBUG")
    answer = post(server, assistant_id="echo", input={"value": 1}, after_seconds=NEVER)
    [run] = eventually(lambda: valkey.client.zrange("{runwait}:ready", 0, -1))
    with configured(valkey, "min-replicas-to-write", "0", "0"):
        with valkey.client.pipeline(transaction=True) as at_once:
            at_once.zadd("{runwait}:ready", {run: 1})
            at_once.config_set("min-replicas-to-write", "3")
            at_once.publish("{runwait}:told:all", "ready")
            at_once.execute()
        eventually(lambda: server.logged("no run could be claimed"))
    assert answer.result().json() == {"value": 1}


@pytest.mark.parametrize("keep", ["delete", "keep"])
def test_a_graph_that_uses_the_store_waits_for_redis_and_does_not_fail(
    start, valkey, network, post, keep
):
    server = start(1)
    body = {"assistant_id": "memory", "input": {"user": "me", "fact": "tea"}}
    if keep == "delete":
        with network.refusing():
            eventually(
                lambda: httpx.get(f"{server.url}/ready", timeout=PATIENCE).status_code == 503
            )
            answers = [post(server, **body) for _ in range(4)]
            # Each waited for as long as a lease, then was left for later.
            eventually(lambda: server.log.read_text().count("goes on elsewhere") >= 4)
    else:
        answers = [post(server, **body, on_completion="keep") for _ in range(4)]
        network.break_all()
    for answer in answers:
        response = answer.result()
        if keep == "keep" and response.status_code == 503:
            # It was cut as it was taken in, on a busy machine: there was no run.
            response = patiently(lambda: post(server, **body, on_completion="keep").result())
        assert response.json().get("facts") == ["tea"], response.text
        join = patient_get(server, response.headers["Location"])
        assert join.json() == response.json()


def test_a_redis_that_is_slow_within_the_time_limit_only_takes_longer(start, network, post):
    server = start(15)
    with network.slow(0.1):
        answers = [
            post(server, assistant_id="steps_sync", input={"n": 2}, on_completion="keep"),
            post(server, assistant_id="echo", input={}, headers={"Idempotency-Key": "a"}),
            post(server, assistant_id="echo", input={}, after_seconds=0.1),
            post(server, path="/threads"),
        ]
        assert [each.result().status_code for each in answers] == [200] * 4
    assert not server.logged("Redis is away")


def test_a_run_that_redis_was_not_told_of_yet_is_not_said_to_be_none(
    start, serve, valkey, network, post
):
    first = start(60)
    second = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RUN_LEASE_SECONDS=60)
    with network.refusing():
        with stopped(valkey):
            answer = post(first, assistant_id="echo", input={"value": 1}).result()
            assert answer.status_code == 200
        # The second has found Redis again, before the first has.
        eventually(lambda: is_well(second))
        join = f"{second.url}{answer.headers['Content-Location']}/join"
        early = httpx.get(join)
        assert early.status_code == 503
        assert "was away a moment ago" in early.json()["detail"]
        assert "Retry-After" in early.headers
    eventually(lambda: httpx.get(join).status_code == 200)
    assert httpx.get(join).json() == answer.json()


def test_an_end_that_redis_does_not_take_for_long_is_recorded_all_the_same(
    start, valkey, post, tmp_path
):
    server = start(2, RESULT_TTL_SECONDS=0, LOG_LEVEL="DEBUG")
    file = tmp_path / "file"
    with Gate(tmp_path) as gate:
        body = {"assistant_id": "sleep_async", "input": {**gate.input, "file": str(file)}}
        answer = post(server, headers={"Idempotency-Key": "a-key"}, **body)
        eventually(lambda: lines(file))
        with silent(valkey):
            gate.open()
            assert answer.result().json()["done"] is True
            beats = server.log.read_text().count("no beat")
            eventually(lambda: server.log.read_text().count("no beat") >= beats + 4)
    eventually(lambda: valkey.client.zcard("{runwait}:leases") == 0)
    again = patiently(lambda: post(server, headers={"Idempotency-Key": "a-key"}, **body).result())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == answer.result().json()
    assert lines(file) == ["started", "ended"]


class Change:
    """A request that changes something, and a server of its own that is asked for it."""

    def __init__(self, server: Server, method: str, path: str, body: Any) -> None:
        self.server = server
        self.name = f"{method} {path}"
        self._request = (method, path, body)
        self._names: dict[str, str] = {}

    def _send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return self.server.http.request(method, path.format(**self._names), json=body)

    def _sent(self, *request: Any) -> httpx.Response:
        """What a busy machine says 503 to was not done."""
        return patiently(lambda: self._send(*request))

    def ask(self) -> httpx.Response:
        """The answer to it."""
        return self._send(*self._request)

    def prepare(self) -> None:
        """Make what it is to change."""
        run = {"assistant_id": "echo", "input": {"value": 1}, "on_completion": "keep"}
        ids = self._sent("POST", "/runs/wait", run).headers["Content-Location"].split("/")
        made = self._sent("POST", "/assistants", {"graph_id": "echo"}).json()
        self._names = {"thread": ids[2], "run": ids[4], "assistant": made["assistant_id"]}
        self._sent("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": {"n": 1}})

    def rehearse(self) -> None:
        """Have it done once, so that Redis knows the script, and all made again."""
        self.prepare()
        assert patiently(self.ask).is_success, self.name
        self._sent("DELETE", UNKNOWN)
        self.prepare()

    def everything(self) -> list[Any]:
        """All that it could change."""
        thread = "/threads/{thread}"
        reads = [thread, f"{thread}/history", f"{thread}/runs", UNKNOWN]
        reads += ["/store/items?namespace=a&key=k", "/assistants/{assistant}"]
        answers = [self._sent("GET", each) for each in reads]
        answers += [self._sent("POST", f"/{each}/count", {}) for each in ("threads", "assistants")]
        return [(each.status_code, each.json()) for each in answers]


def test_what_was_refused_while_redis_was_silent_is_not_done_when_it_wakes(serve, valkey):
    # A process that knows that Redis is away asks it for nothing: each is the first that one asks.
    changes = [
        Change(
            serve(
                started=False,
                REDIS_URL=valkey.url,
                REDIS_PREFIX=f"change-{number}",
                LANGGRAPH_CONFIG=ZOO,
                WEB_CONCURRENCY=1,
                RUN_LEASE_SECONDS=2,
            ),
            *asked,
        )
        for number, asked in enumerate(
            [
                ("POST", "/threads", {"thread_id": UNKNOWN.rpartition("/")[2]}),
                ("POST", "/threads/{thread}/copy", None),
                ("POST", "/threads/{thread}/state", {"values": {"value": 2}, "as_node": "same"}),
                ("PATCH", "/threads/{thread}", {"metadata": {"a": 2}}),
                ("DELETE", "/threads/{thread}", None),
                ("DELETE", "/threads/{thread}/runs/{run}", None),
                ("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": {"n": 2}}),
                ("DELETE", "/store/items", {"namespace": ["a"], "key": "k"}),
                ("POST", "/assistants", {"graph_id": "echo"}),
                ("DELETE", "/assistants/{assistant}", None),
            ]
        )
    ]
    with ThreadPoolExecutor(len(changes)) as pool:
        for each in changes:
            eventually(each.server.is_up)
            each.rehearse()
        before = [each.everything() for each in changes]
        with silent(valkey):
            refused = pool.map(Change.ask, changes)
            assert [each.status_code for each in refused] == [503] * len(changes)
            told = time.monotonic()
            eventually(lambda: time.monotonic() > told + IN_TIME_SECONDS)
    for each, was in zip(changes, before, strict=True):
        patiently(lambda each=each: each.server.http.get("/ready"))
        assert each.everything() == was, each.name


def test_what_lies_in_the_socket_of_a_silent_redis_is_not_done_long_after_it_was_refused(
    start, valkey, post
):
    server = start(2, WEB_CONCURRENCY=1, SHUTDOWN_GRACE_SECONDS=0)
    eventually(lambda: valkey.client.exists("{runwait}:beat"))
    # Redis knows the script from now on.
    assert post(server, assistant_id="echo", input={}, on_completion="keep").result().is_success
    before = set(valkey.client.keys("*"))
    with silent(valkey):
        for fields in ({"on_completion": "keep"}, {"after_seconds": 1}):
            refused = post(server, assistant_id="echo", input={}, **fields).result()
            assert refused.status_code == 503
        told = time.monotonic()
        server.stop()
        eventually(lambda: time.monotonic() > told + IN_TIME_SECONDS)
    eventually(lambda: valkey.client.info("clients")["connected_clients"] == 1)
    assert set(valkey.client.keys("*")) == before


def test_a_state_that_takes_longer_than_a_lease_to_send_harms_nobody(
    start, post, network, valkey, tmp_path
):
    server = start(2, WEB_CONCURRENCY=1)
    thread = f"/threads/{server.http.post('/threads', json={}).json()['thread_id']}"
    small = f"/threads/{server.http.post('/threads', json={}).json()['thread_id']}"
    value = "x" * 1_000_000
    network.rate = 400_000
    large = post(server, f"{thread}/runs/wait", assistant_id="echo", input={"value": value})
    # Others are answered while it is on its way.
    passed = network.passed
    while network.passed < passed + 1_500_000:
        answer = patiently(
            lambda: httpx.post(
                f"{server.url}{small}/runs/wait",
                json={"assistant_id": "echo", "input": {"value": 1}},
                timeout=PATIENCE,
            )
        )
        assert answer.json() == {"value": 1}
    assert not large.done()
    assert large.result().json() == {"value": value}
    network.rate = None
    [run] = server.http.get(f"{thread}/runs").json()
    assert valkey.client.hget(f"{{runwait}}:run:{run['run_id']}", "attempts") == b"1"
    assert server.http.get(f"{thread}/state").json()["values"] == {"value": value}


@pytest.mark.parametrize("kept", [True, False])
def test_a_value_over_the_bound_is_an_error_that_names_it(serve, valkey, kept):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, MAX_VALUE_BYTES=100_000)
    run = {"assistant_id": "echo", "on_completion": "keep" if kept else "delete"}
    answer = server.http.post("/runs/wait", json={**run, "input": {"value": "x" * 100_000}})
    error = answer.json()["__error__"]
    assert error["error"] == ("UnstorableValue" if kept else "ValueTooLarge")
    assert ("'__start__'" if kept else "'value'") in error["message"]
    assert re.search("1000[0-9][0-9] ", error["message"])
    answer = server.http.post("/runs/wait", json={**run, "input": {"value": "x" * 90_000}})
    assert answer.json() == {"value": "x" * 90_000}
