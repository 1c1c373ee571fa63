"""Room for runs and waits, and what happens past it."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e import wire
from tests.e2e.calls import FOREVER, UNLIMITED, Gate, begun, document, lines
from tests.servers import COMMAND, PATIENCE, PROJECTS, Server, eventually

ZOO = PROJECTS / "zoo" / "langgraph.json"


@pytest.fixture
def one_worker(serve, valkey):
    def start(**settings: int) -> Server:
        return serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1, **settings)

    return start


def refused(server: Server) -> httpx.Response:
    response = httpx.post(
        f"{server.url}/runs/wait",
        json={"assistant_id": "echo", "input": {"value": 1}},
        timeout=PATIENCE,
    )
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    return response


def occupy(server: Server, pool: ThreadPoolExecutor, graph: str, count: int, gate: Gate) -> list:
    """So many runs under way, each waited for, until the gate is opened."""
    files = [gate.path.with_name(str(number)) for number in range(count)]
    waits = [
        pool.submit(
            httpx.post,
            f"{server.url}/runs/wait",
            json={"assistant_id": graph, "input": {**gate.input, "file": str(file)}},
            timeout=PATIENCE,
        )
        for file in files
    ]

    def all_begun() -> bool:
        ended = [wait.result() for wait in waits if wait.done()]
        assert not ended, f"{ended[0].status_code} {ended[0].text}"
        return all(lines(file) for file in files)

    eventually(all_begun)
    return waits


@pytest.mark.parametrize("graph", ["sleep_sync", "sleep_async"])
def test_past_the_runs_that_may_execute_a_run_waits_for_a_place(one_worker, gate, graph):
    server = one_worker(RUN_CONCURRENCY=2)
    with ThreadPoolExecutor() as pool:
        waits = occupy(server, pool, graph, 2, gate)
        body = {"assistant_id": "echo", "input": {"value": 1}}
        url = f"{server.url}/runs/wait"
        with httpx.stream("POST", url, json=body, timeout=PATIENCE) as response:
            assert not any(wait.done() for wait in waits)
            run = httpx.get(
                server.url + response.headers["Content-Location"], timeout=PATIENCE
            ).json()
            assert run["status"] == "pending"
            gate.open()
            response.read()
        assert response.json() == {"value": 1}
        assert all(wait.result().json()["done"] for wait in waits)


@pytest.mark.parametrize("graph", ["sleep_sync", "sleep_async"])
def test_without_redis_a_run_that_finds_no_place_is_refused_at_once(serve, valkey, gate, graph):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1, RUN_CONCURRENCY=2)
    valkey.stop()
    with ThreadPoolExecutor() as pool:
        waits = occupy(server, pool, graph, 2, gate)
        assert "places to execute" in refused(server).json()["detail"]
        assert httpx.get(f"{server.url}/ok", timeout=PATIENCE).json() == {"ok": True}
        gate.open()
        assert all(wait.result().json()["done"] for wait in waits)
    answer = httpx.post(
        f"{server.url}/runs/wait", json={"assistant_id": "echo", "input": {}}, timeout=PATIENCE
    )
    assert answer.status_code == 200


def test_past_the_waits_that_may_be_open_a_run_and_a_join_are_refused_at_once(one_worker, gate):
    server = one_worker(WAITERS_MAX=2)
    with ThreadPoolExecutor() as pool:
        waits = occupy(server, pool, "sleep_sync", 2, gate)
        assert "places to wait" in refused(server).json()["detail"]
        # As many clients at once as there could be threads: each is told, none hangs.
        answers = list(pool.map(lambda _: refused(server), range(60)))
        assert len(answers) == 60
        assert httpx.get(f"{server.url}/ok", timeout=PATIENCE).json() == {"ok": True}
        gate.open()
        locations = [wait.result().headers["location"] for wait in waits]
    assert httpx.get(server.url + locations[0], timeout=PATIENCE).json()["done"] is True


def test_a_refused_run_leaves_no_trace(one_worker, valkey, gate):
    server = one_worker(WAITERS_MAX=1)
    with ThreadPoolExecutor() as pool:
        waits = occupy(server, pool, "sleep_async", 1, gate)
        eventually(lambda: valkey.client.keys("*:run:*"))
        for _ in range(5):
            refused(server)
        assert len(valkey.client.keys("*:run:*")) == 1
        gate.open()
        waits[0].result()


def test_a_run_that_hangs_keeps_its_place_until_it_returns_and_no_other(one_worker, tmp_path, gate):
    server = one_worker(RUN_CONCURRENCY=2)
    file = tmp_path / "hang"
    with begun(server, "hang", input={"file": str(file)}) as answer:
        eventually(lambda: lines(file))
        cancel = f"{answer.headers['Content-Location']}/cancel"
        assert server.http.post(cancel).status_code == 202
        document(answer)
    for _ in range(3):
        body = {"assistant_id": "echo", "input": {"value": 1}}
        assert server.http.post("/runs/wait", json=body).json() == {"value": 1}
    with ThreadPoolExecutor() as pool:
        [wait] = occupy(server, pool, "sleep_sync", 1, gate)
        body = {"assistant_id": "echo", "input": {"value": 1}}
        url = f"{server.url}/runs/wait"
        with httpx.stream("POST", url, json=body, timeout=PATIENCE) as response:
            run = httpx.get(
                server.url + response.headers["Content-Location"], timeout=PATIENCE
            ).json()
            assert (run["status"], wait.done()) == ("pending", False)
            gate.open()
            response.read()
        assert response.json() == {"value": 1}
        assert wait.result().json()["done"] is True


def test_a_node_that_keeps_the_event_loop_is_named_in_the_log(one_worker, gate):
    server = one_worker()
    with ThreadPoolExecutor() as pool:
        [blocking] = occupy(server, pool, "block_loop", 1, gate)
        eventually(lambda: server.logged("keeps all asynchronous runs waiting"))
        gate.open()
        assert blocking.result().json()["done"] is True
    logged = [json.loads(each) for each in server.log.read_text().splitlines()]
    [line] = [each for each in logged if "keeps all" in each["message"]]
    assert "node 'block' of graph 'block_loop'" in line["message"]
    assert "return _sleep(state)" in line["message"]
    assert (line["level"], line["blocks"]) == ("WARNING", 1)


@pytest.mark.parametrize("graph", ["sleep_async", "factory_async"])
def test_runs_that_are_cancelled_before_the_event_loop_has_time_for_them_keep_no_place(
    one_worker, gate, tmp_path, graph
):
    server = one_worker(RUN_CONCURRENCY=3)
    with ThreadPoolExecutor() as pool:
        [blocking] = occupy(server, pool, "block_loop", 1, gate)
        for _ in range(2):
            with begun(server, graph) as answer:
                run = answer.headers["Content-Location"]
                assert server.http.post(f"{run}/cancel").status_code == 202
                assert document(answer) == {}
        gate.open()
        assert blocking.result().json()["done"] is True
        # All three places are there for others.
        with Gate(tmp_path) as other:
            for each in occupy(server, pool, "sleep_sync", 3, other):
                other.open()
                assert each.result().json()["done"] is True


def test_a_client_that_goes_away_gives_its_place_to_wait_to_another(one_worker, tmp_path):
    server = one_worker(WAITERS_MAX=1, SHUTDOWN_GRACE_SECONDS=0)
    file = tmp_path / "steps"
    endless = {"input": {**FOREVER, "file": str(file)}, "config": UNLIMITED}
    content = json.dumps({"assistant_id": "steps_sync", **endless}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            b"POST /runs/wait HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
            % (len(content), content)
        )
        eventually(lambda: lines(file))
        refused(server)

    def accepted() -> bool:
        body = {"assistant_id": "echo", "input": {"value": 1}}
        return httpx.post(f"{server.url}/runs/wait", json=body, timeout=PATIENCE).status_code == 200

    eventually(accepted)
    # The run goes on, and needs no place to wait.
    before = len(lines(file))
    eventually(lambda: len(lines(file)) > before)


@pytest.mark.parametrize("graph", ["sleep_sync", "sleep_async"])
def test_500_clients_that_wait_a_second_are_all_answered_right(serve, valkey, graph, capsys):
    limits = {"RUN_CONCURRENCY": 500, "WAITERS_MAX": 500}
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, **limits)
    memory: list[int] = []
    threads: list[int] = []
    done = threading.Event()

    def watch() -> None:
        master = psutil.Process(server.process.pid)
        while not done.wait(0.1):
            processes = [master, *master.children(recursive=True)]
            memory.append(sum(each.memory_info().rss for each in processes))
            threads.append(sum(each.num_threads() for each in processes))

    # No client library: five hundred of its clients are more work than the service has of them.
    async def ask(number: int) -> wire.Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        given = {"seconds": 1, "n": number}
        headers = (f"X-Request-ID: {number}", "Connection: close")
        writer.write(wire.run(graph, *headers, input=given))
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
        return wire.read(io.BytesIO(answer))

    async def ask_all() -> list[wire.Answer]:
        return await asyncio.gather(*map(ask, range(500)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answers = asyncio.run(ask_all())
    finally:
        done.set()
        watcher.join()
    assert [answer.status for answer in answers] == [200] * 500
    assert all(json.loads(answer.body) == {"seconds": 1, "done": True} for answer in answers)
    assert len({answer.headers["location"] for answer in answers}) == 500
    if graph == "sleep_async":
        # Those that answer requests, and those that a process has anyway: none for a client.
        assert max(threads) < 150
    with capsys.disabled():
        most = f"{max(memory) / 1e6:.0f} MB and {max(threads)} threads in all processes at most"
        print(f"\n500 waits on {graph}: {most}")


def test_a_machine_that_gives_few_threads_starts_and_has_runs_take_turns(serve, valkey, gate):
    server = serve(
        # Threads need room for their stacks; the limits that platforms set cannot be set here.
        command=["prlimit", f"--as={1 << 30}", *COMMAND],
        REDIS_URL=valkey.url,
        LANGGRAPH_CONFIG=ZOO,
        WEB_CONCURRENCY=1,
    )
    with ThreadPoolExecutor(150) as pool:
        body = {"assistant_id": "sleep_sync", "input": gate.input}
        url = f"{server.url}/runs/wait"
        waits = [pool.submit(httpx.post, url, json=body, timeout=PATIENCE) for _ in range(150)]
        # None ends before all are there, and want a thread.
        eventually(lambda: len(valkey.client.keys("{runwait}:run:*")) == 150)
        gate.open()
        answers = [each.result().json() for each in waits]
    assert answers == [{**gate.input, "done": True}] * 150
    assert not server.logged("Traceback")


UNDER_WAY = [[{"status": "pending"}], [{"status": "running"}]]


def test_what_results_of_some_megabytes_took_is_given_back(serve, valkey):
    server = serve(
        REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1, RESULT_TTL_SECONDS=1
    )
    [worker] = map(psutil.Process, server.workers())
    body = json.dumps(
        {"assistant_id": "echo", "input": {"value": [{"a": "x" * 100}] * 20_000}}
    ).encode()

    def ask(client: str = "stays") -> None:
        url = f"{server.url}/runs/wait"
        with httpx.stream("POST", url, content=body, timeout=PATIENCE) as answer:
            assert answer.status_code == 200
            if client == "stays":
                answer.read()
        # Also who leaves waits for the run's end: four are under way at once. Its input is left
        # out; what ended a second ago is not known any more.
        runs = server.url + answer.headers["location"].rpartition("/runs/")[0] + "/runs"
        look = {"select": "status"}
        eventually(lambda: httpx.get(runs, params=look).json() not in UNDER_WAY)

    ask()
    before = worker.memory_info().rss
    with ThreadPoolExecutor(4) as pool:
        for asked in [pool.submit(ask, each) for each in 30 * ["stays", "leaves"]]:
            asked.result()
    # In and out, as JSON and as Python's objects, the documents came to 0.9 GB. Of what is free by
    # then Python keeps 50 to 200 MB, in pieces, and no more after more of them.
    eventually(lambda: worker.memory_info().rss - before < 350_000_000)


CENSUS = """
import asyncio
import gc

from langgraph.graph import START, StateGraph


def told(state):
    # With nothing collected, whatever is left in a cycle is still there.
    gc.disable()
    runs = [each for each in gc.get_objects() if type(each).__name__ == "Run"]
    return {"value": len(runs)}


def echo(state):
    return state


async def aecho(state):
    return state


async def work_for_all():
    while True:
        value, answered = await work.get()
        try:
            answered.set_result({"value": 10 // value})
        except Exception as error:
            answered.set_exception(error)


async def share(state):
    global work, worker
    if worker is None:
        work, worker = asyncio.Queue(), asyncio.create_task(work_for_all())
    answered = asyncio.get_running_loop().create_future()
    work.put_nowait((state["value"], answered))
    return await answered


worker = None
census, sync, coroutine, shared = (
    StateGraph(dict).add_node("node", node).add_edge(START, "node").compile()
    for node in (told, echo, aecho, share)
)
"""


@pytest.fixture
def census(serve, valkey, tmp_path):
    graphs = {name: f"./graphs.py:{name}" for name in ("census", "sync", "coroutine", "shared")}
    (tmp_path / "graphs.py").write_text(CENSUS)
    config = tmp_path / "langgraph.json"
    config.write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    return serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=config, WEB_CONCURRENCY=1)


def test_what_a_run_had_goes_with_it_and_waits_for_no_collector(census):
    server = census

    def ask(path: str, graph: str) -> httpx.Response:
        return server.http.post(path, json={"assistant_id": graph, "input": {"value": "given"}})

    def alive() -> int:
        return ask("/runs/wait", "census").json()["value"]

    assert alive() >= 1  # its own
    thread = f"/threads/{server.http.post('/threads', json={}).json()['thread_id']}/runs"
    for graph in ("sync", "coroutine"):
        for path in ("/runs/wait", "/runs/stream", f"{thread}/wait", f"{thread}/stream"):
            assert ask(path, graph).status_code == 200
        with httpx.stream(
            "POST", f"{server.url}/runs/wait", json={"assistant_id": graph, "input": {"value": ""}}
        ):
            pass  # leaves
    eventually(lambda: alive() == 1)


def test_a_run_that_fails_harms_nothing_that_other_runs_share_with_it(census):
    def ask(value: int) -> Any:
        body = {"assistant_id": "shared", "input": {"value": value}}
        return census.http.post("/runs/wait", json=body).json()

    # One coroutine works for all of them, and hands on what it catches.
    assert ask(2) == {"value": 5}
    assert ask(0)["__error__"]["error"] == "ZeroDivisionError"
    assert ask(5) == {"value": 2}
