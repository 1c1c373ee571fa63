"""What ends runs from outside: shutdowns, time limits, clients that go away."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests import warm
from tests.e2e.calls import FOREVER, UNLIMITED, Gate, begun, document, joined, lapse, lines
from tests.e2e.wire import Wire, run
from tests.servers import PATIENCE, PROJECTS, ROOT, RedisServer, Server, ServerFactory, eventually

ZOO = PROJECTS / "zoo" / "langgraph.json"


def wait_for(server: Server, graph: str, **fields: Any) -> Any:
    return server.http.post("/runs/wait", json={"assistant_id": graph, **fields}).json()


def ask(server: Server, graph: str, body: dict[str, Any]) -> socket.socket:
    """A connection on which a run was asked for, and its headers have come."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    content = json.dumps({"assistant_id": graph, **body}).encode()
    connection.sendall(
        b"POST /runs/wait HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
        % (len(content), content)
    )
    return connection


def ended(server: Server, status: str) -> list[dict[str, Any]]:
    """The log's lines of runs that ended with this status."""
    # What clients sent may hold what other methods take for ends of lines.
    logged = server.log.read_text().split("\n")[:-1]
    entries = [json.loads(line) for line in logged if line[:1] == "{"]
    return [e for e in entries if e["message"] == "run ended" and e["status"] == status]


# Clients that go away


@pytest.mark.parametrize("graph", ["steps_sync", "steps_async"])
def test_a_client_that_goes_away_stops_its_run_at_the_next_superstep(zoo, tmp_path, graph):
    file = tmp_path / "steps"
    body = {"input": {**FOREVER, "file": str(file)}, "config": UNLIMITED}
    connection = ask(zoo, graph, {**body, "on_disconnect": "cancel"})
    eventually(lambda: len(lines(file)) >= 2)
    before = len(ended(zoo, "interrupted"))
    connection.close()
    eventually(lambda: len(ended(zoo, "interrupted")) > before)
    reached = len(lines(file))
    # Whatever went on would have done many steps more in the time of this run.
    assert wait_for(zoo, "sleep_sync", input={"seconds": 1}) == {"seconds": 1, "done": True}
    assert len(lines(file)) <= reached + 1


def test_a_run_that_awaits_is_stopped_at_once(zoo, tmp_path):
    file = tmp_path / "sleep"
    body = {"input": {"seconds": 600, "file": str(file)}, "on_disconnect": "cancel"}
    connection = ask(zoo, "sleep_async", body)
    eventually(lambda: lines(file) == ["started"])
    before = len(ended(zoo, "interrupted"))
    connection.close()
    eventually(lambda: len(ended(zoo, "interrupted")) > before)


def test_a_client_that_goes_away_is_noticed_while_a_node_cannot_be_stopped(zoo, tmp_path):
    file = tmp_path / "hang"
    connection = ask(zoo, "hang", {"input": {"file": str(file)}, "on_disconnect": "cancel"})
    eventually(lambda: lines(file) == ["started"])
    before = len(ended(zoo, "interrupted"))
    connection.close()
    eventually(lambda: len(ended(zoo, "interrupted")) > before)


@pytest.mark.parametrize("graph", ["steps_sync", "steps_async"])
def test_a_run_goes_on_without_its_client_where_it_is_to_continue(zoo, tmp_path, graph):
    file = tmp_path / "steps"
    connection = ask(zoo, graph, {"input": {"n": 5, "seconds": 0.1, "file": str(file)}})
    eventually(lambda: lines(file))
    connection.close()
    eventually(lambda: len(lines(file)) == 5)


def test_the_answer_of_a_cut_off_client_is_had_by_join(zoo, tmp_path):
    with zoo.http.stream(
        "POST", "/runs/wait", json={"assistant_id": "sleep_sync", "input": {"seconds": 0.5}}
    ) as response:
        location = response.headers["location"]
    for _ in range(4):
        assert httpx.get(zoo.url + location, timeout=PATIENCE).json()["done"] is True


@pytest.mark.parametrize("graph", ["steps_sync", "steps_async"])
def test_a_cancelled_run_answers_those_who_joined_it_with_its_values_so_far(zoo, tmp_path, graph):
    file = tmp_path / "steps"
    body = {"input": {**FOREVER, "file": str(file)}, "config": UNLIMITED}
    connection = ask(zoo, graph, {**body, "on_disconnect": "cancel"})
    head = connection.recv(4096).decode()
    location = head.partition("Location: ")[2].partition("\r\n")[0]
    with ThreadPoolExecutor() as pool:
        # Over several connections, so that both processes are asked.
        joined = [pool.submit(httpx.get, zoo.url + location, timeout=PATIENCE) for _ in range(6)]
        eventually(lambda: len(lines(file)) >= 3)
        connection.close()
        documents = [each.result().json() for each in joined]
    steps = documents[0]["steps"]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 2
    assert all(document == documents[0] for document in documents)


def test_a_join_that_cancels_on_disconnect_reaches_the_run_in_any_process(zoo, tmp_path):
    for number in range(4):
        file = tmp_path / f"steps{number}"
        body = {"input": {**FOREVER, "file": str(file)}, "config": UNLIMITED}
        creator = ask(zoo, "steps_sync", body)
        head = creator.recv(4096).decode()
        location = head.partition("Location: ")[2].partition("\r\n")[0]
        joined = socket.create_connection(("127.0.0.1", zoo.port), timeout=PATIENCE)
        joined.sendall(
            f"GET {location}?cancel_on_disconnect=true HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        )
        assert joined.recv(4096).startswith(b"HTTP/1.1 200")
        joined.close()
        # The one who asked for it is still there, and gets the values so far.
        answer = b""
        while not answer.endswith(b"0\r\n\r\n"):
            answer += creator.recv(65536)
        assert b'"steps":[' in answer
        creator.close()


# Time limits


def test_a_run_over_its_time_limit_ends_as_a_timeout_at_once(serve, valkey):
    server = serve(
        REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1, RUN_TIMEOUT_SECONDS=0.5
    )
    for graph in ("sleep_sync", "sleep_async", "hang", "steps_sync"):
        body = {"assistant_id": graph, "input": {"seconds": 30, "n": 9}}
        response = server.http.post("/runs/wait", json=body)
        assert response.status_code == 200, graph
        assert response.json()["__error__"]["error"] == "TimeoutError", graph
        run = server.http.get(response.headers["content-location"]).json()
        assert run["status"] == "timeout", graph


def test_a_run_within_its_time_limit_is_not_touched(serve, valkey):
    server = serve(
        REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1, RUN_TIMEOUT_SECONDS=30
    )
    assert wait_for(server, "echo", input={"value": 1}) == {"value": 1}


# Shutdowns


def descendants(server: Server) -> list[psutil.Process]:
    assert server.process is not None
    return psutil.Process(server.process.pid).children(recursive=True)


def test_a_shutdown_lets_runs_end_with_and_without_a_client(serve, valkey, tmp_path):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    alone, watched = tmp_path / "alone", tmp_path / "watched"
    body = {"input": {"n": 10, "seconds": 0.1, "file": str(alone)}}
    ask(server, "steps_sync", body).close()
    body = {"assistant_id": "steps_async", "input": {"n": 10, "seconds": 0.1, "file": str(watched)}}
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(server.http.post, "/runs/wait", json=body)
        eventually(lambda: lines(alone) and lines(watched))
        assert server.stop() == 0
        assert answer.result().json()["steps"] == list(range(1, 11))
    assert len(lines(alone)) == 10


def test_what_cannot_end_within_the_grace_period_is_handed_back_and_leaves_no_process(
    serve, valkey, tmp_path
):
    # By its lease it would not go on for an hour.
    server = serve(
        REDIS_URL=valkey.url,
        LANGGRAPH_CONFIG=ZOO,
        SHUTDOWN_GRACE_SECONDS=1,
        RUN_LEASE_SECONDS=3600,
    )
    files = {graph: tmp_path / graph for graph in ("hang", "sleep_sync", "sleep_async")}
    connections, locations = {}, {}
    for graph, file in files.items():
        given = {"seconds": 600, "file": str(file)}
        connections[graph] = ask(server, graph, {"input": given})
        eventually(lambda file=file: lines(file))
        head = connections[graph].recv(4096).decode()
        locations[graph] = head.partition("Content-Location: ")[2].partition("\r")[0]
    processes = descendants(server)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 6  # gunicorn's graceful_timeout for a grace of 1 s
    assert not any(each.is_running() for each in processes)
    for graph, connection in connections.items():
        # Nothing that could be taken for an answer: the client joins, wherever that leads.
        with pytest.raises(ConnectionResetError):
            while connection.recv(4096):
                print("from", graph)
    other = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    for graph, location in locations.items():
        eventually(lambda graph=graph: len(lines(files[graph])) == 2)
        assert other.http.get(location).json()["status"] == "running", graph
        assert other.http.post(f"{location}/cancel").status_code == 202, graph
        assert other.http.get(f"{location}/join").status_code == 200, graph


def test_a_run_that_hangs_without_a_client_does_not_keep_the_process(serve, valkey, tmp_path):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, SHUTDOWN_GRACE_SECONDS=1)
    file = tmp_path / "file"
    connection = ask(server, "hang", {"input": {"file": str(file)}})
    eventually(lambda: lines(file))
    connection.close()
    processes = descendants(server)
    assert server.stop() == 0
    assert not any(each.is_running() for each in processes)


def test_a_run_is_not_answered_where_there_is_no_redis_to_hand_it_back_to(serve, valkey, tmp_path):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, SHUTDOWN_GRACE_SECONDS=1)
    valkey.stop()
    file = tmp_path / "file"
    body = {"assistant_id": "sleep_async", "input": {"seconds": 600, "file": str(file)}}
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(server.http.post, "/runs/wait", json=body)
        eventually(lambda: lines(file))
        server.stop()
        with pytest.raises(httpx.NetworkError):
            answer.result()


def test_an_interrupt_from_the_keyboard_ends_it_without_waiting_for_runs(serve, valkey, tmp_path):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    file = tmp_path / "file"
    connection = ask(server, "hang", {"input": {"file": str(file)}})
    eventually(lambda: lines(file))
    for each in [*descendants(server)]:  # the terminal sends it to all of them
        os.kill(each.pid, signal.SIGINT)
    assert server.stop(signal.SIGINT) == 0
    connection.close()


def test_at_a_terminal_the_next_start_says_what_goes_on_and_how_to_end_it(serve, valkey, tmp_path):
    # With another worker, which is told to stop a moment later, that one may take the run first.
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1)
    file = tmp_path / "file"
    connection = ask(server, "hang", {"input": {"file": str(file)}})
    location = connection.recv(4096).decode().partition("Content-Location: ")[2].partition("\r")[0]
    eventually(lambda: lines(file))
    assert server.stop(signal.SIGINT) == 0
    connection.close()
    terminal, theirs = os.openpty()
    with os.fdopen(theirs, "wb") as output:
        again = warm.start(["serve"], cwd=ROOT, env=server.environment, output=output)
    try:
        said = b""
        while b"go on" not in said or not said.endswith(b"\n"):
            said += os.read(terminal, 4096)
        told = re.search(r"go on: (\d+);.*curl (\S+) -d '(.*)'", said.decode().replace("\\", ""))
        assert told
        number, url, body = told.groups()
        assert number == "1"
        eventually(lambda: len(lines(file)) == 2)
        assert httpx.post(url, content=body, timeout=PATIENCE).status_code == 204
        eventually(lambda: server.http.get(location).json()["status"] == "interrupted")
    finally:
        again.terminate()
        again.wait(PATIENCE)
        os.close(terminal)


def test_a_stopping_server_takes_no_more_runs(serve, valkey, tmp_path):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1)
    file = tmp_path / "file"
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as kept:
        assert kept.get("/ok").json() == {"ok": True}
        answers: list[Any] = []
        body = {"assistant_id": "sleep_sync", "input": {"seconds": 1.5, "file": str(file)}}
        waiting = threading.Thread(
            target=lambda: answers.append(server.http.post("/runs/wait", json=body).json())
        )
        waiting.start()
        eventually(lambda: lines(file))
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: server.logged("Handling signal: term"))

        def refused() -> bool:
            # On a connection from before; a new one is not even accepted.
            try:
                response = kept.post("/runs/wait", json={"assistant_id": "echo", "input": {}})
            except httpx.HTTPError:
                return True
            return response.status_code == 503 and "Retry-After" in response.headers

        eventually(refused)
        waiting.join(PATIENCE)
        assert answers[0]["done"] is True


def test_a_reload_serves_on_and_lets_runs_end(serve, valkey, tmp_path):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    file = tmp_path / "file"
    before = set(server.workers())
    with ThreadPoolExecutor() as pool:
        body = {"assistant_id": "sleep_sync", "input": {"seconds": 1, "file": str(file)}}
        answer = pool.submit(httpx.post, f"{server.url}/runs/wait", json=body, timeout=PATIENCE)
        eventually(lambda: lines(file))
        server.process.send_signal(signal.SIGHUP)
        assert answer.result().json()["done"] is True
    eventually(lambda: len(server.workers()) == 2 and not before & set(server.workers()))
    assert wait_for(server, "echo", input={"value": 2}) == {"value": 2}


def test_a_reload_refuses_nobody_who_keeps_a_connection(serve, valkey, tmp_path):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1)
    file = tmp_path / "file"
    with (
        ThreadPoolExecutor() as pool,
        httpx.Client(base_url=server.url, timeout=PATIENCE) as kept,
        Gate(tmp_path) as gate,
    ):

        def echo(value: int) -> None:
            asked = {"assistant_id": "echo", "input": {"value": value}}
            response = kept.post("/runs/wait", json=asked)
            assert (response.status_code, response.json()) == (200, {"value": value})

        body = {"assistant_id": "sleep_async", "input": {**gate.input, "file": str(file)}}
        answer = pool.submit(httpx.post, f"{server.url}/runs/wait", json=body, timeout=PATIENCE)
        eventually(lambda: lines(file))
        echo(-1)
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.log.read_text().count("worker serves") == 2)
        # The process that has the connection stops, and still has a run.
        for value in range(20):
            echo(value)
        gate.open()
        assert answer.result().json()["done"] is True


def test_a_second_master_takes_over(serve, valkey):
    # The real command: gunicorn starts the second master as this one was started.
    command = [str(Path(sys.executable).with_name("runwait")), "serve"]
    server = serve(REDIS_URL=valkey.url, WEB_CONCURRENCY=1, command=command)
    assert server.process is not None
    workers = set(server.workers())
    server.process.send_signal(signal.SIGUSR2)
    eventually(lambda: server.log.read_text().count("worker serves") == 2)
    (second,) = (psutil.Process(pid) for pid in set(server.workers()) - workers)
    family = [second, *second.children()]
    try:
        assert server.stop() == 0
        assert httpx.get(f"{server.url}/ok", timeout=PATIENCE).json() == {"ok": True}
    finally:
        second.terminate()
        _, alive = psutil.wait_procs(family, PATIENCE)
        for each in alive:
            each.kill()


# Processes that die


def test_a_killed_worker_resets_its_clients_and_its_run_is_done_by_another(serve, valkey, tmp_path):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RUN_LEASE_SECONDS=1)
    file, gate = tmp_path / "file", Gate(tmp_path)
    connection = ask(server, "sleep_sync", {"input": {**gate.input, "file": str(file)}})
    eventually(lambda: lines(file))
    location = connection.recv(4096).decode().partition("Content-Location: ")[2].partition("\r")[0]
    assert server.http.get(location).json()["status"] == "running"
    workers = server.workers()
    assert len(workers) == 2
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(ConnectionResetError):
        connection.recv(4096)
    gate.open()
    eventually(lambda: server.log.read_text().count("worker serves") == 4)
    assert server.http.get(f"{location}/join").json()["done"] is True
    assert server.http.get(location).json()["status"] == "success"


def test_what_a_node_starts_with_multiprocessing_takes_nothing_from_the_worker(serve, valkey):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1)
    [worker] = server.workers()
    left = []
    with Wire(server) as wire:
        for graph in ("processes", "processes_async"):
            value = json.loads(wire.send(run(graph, input={})).answer().body)["value"]
            assert value["exitcode"] == -signal.SIGTERM
            left.append(psutil.Process(value["pid"]))
        assert server.workers() == [worker]
        os.kill(worker, signal.SIGKILL)
        assert wire.closed()
    assert all(child.is_running() for child in left)
    eventually(lambda: server.log.read_text().count("worker serves") == 2)
    # A worker that is not killed ends them.
    ended = psutil.Process(wait_for(server, "processes", input={})["value"]["pid"])
    assert server.stop() == 0
    ended.wait(PATIENCE)
    # Nor is the port taken by those that are left.
    server.launch()
    eventually(lambda: server.log.read_text().count("worker serves") == 3)
    for child in left:
        child.kill()


@pytest.mark.parametrize("graph", ["comes_back", "comes_back_async"])
def test_a_process_that_comes_back_from_a_node_is_ended_and_answers_nobody(zoo, graph):
    pid = wait_for(zoo, graph, input={})["value"]["pid"]
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    eventually(lambda: zoo.logged("a process that a node forked came back"))


def test_a_run_that_kills_its_process_is_given_up_after_some_attempts(serve, valkey, tmp_path):
    server = serve(
        REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RUN_LEASE_SECONDS=6, RUN_MAX_ATTEMPTS=2
    )
    file = tmp_path / "file"
    connection = ask(server, "sleep_sync", {"input": {"seconds": 600, "file": str(file)}})
    location = connection.recv(4096).decode().partition("Content-Location: ")[2].partition("\r")[0]
    for attempt in (1, 2):
        eventually(lambda attempt=attempt: len(lines(file)) == attempt)
        killed = server.workers()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda killed=killed: not set(killed) & set(server.workers()))
        lapse(valkey, location.rpartition("/")[2])
    error = server.http.get(f"{location}/join").json()["__error__"]
    assert error["error"] == "RunLost"
    assert "2 attempts" in error["message"]
    assert server.http.get(location).json()["status"] == "error"
    connection.close()


def test_a_run_is_not_handed_from_one_stopping_process_to_the_next_without_end(
    serve, valkey, tmp_path
):
    # Of two workers, the one that is stopped a moment later may have the run from the first.
    settings = {"SHUTDOWN_GRACE_SECONDS": 0, "RUN_MAX_ATTEMPTS": 1, "WEB_CONCURRENCY": 1}
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, **settings)
    file = tmp_path / "file"
    connection = ask(server, "sleep_async", {"input": {"seconds": 600, "file": str(file)}})
    location = connection.recv(4096).decode().partition("Content-Location: ")[2].partition("\r")[0]
    eventually(lambda: lines(file))
    assert server.stop() == 0
    connection.close()
    run = f"{{runwait}}:run:{location.rpartition('/')[2]}"
    assert valkey.client.hget(run, "stopped") == b"1"
    # As after so many more.
    valkey.client.hset(run, mapping={"attempts": 10, "handed_back": 10, "stopped": 10})
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, **settings)
    error = server.http.get(f"{location}/join").json()["__error__"]
    assert (error["error"], "10 attempts" in error["message"]) == ("RunLost", True)
    assert len(lines(file)) == 1


def test_a_client_of_http_1_0_can_tell_that_the_worker_was_killed(serve, valkey, tmp_path):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    file = tmp_path / "file"
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    body = {"assistant_id": "sleep_sync", "input": {"seconds": 600, "file": str(file)}}
    content = json.dumps(body).encode()
    connection.sendall(
        b"POST /runs/wait HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)
    )
    assert connection.recv(4096).startswith(b"HTTP/1.0 200")
    eventually(lambda: lines(file))
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(ConnectionResetError):
        while connection.recv(4096):
            pass


def test_a_worker_whose_master_is_killed_leaves(serve, valkey: RedisServer):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    workers = descendants(server)
    server.process.kill()
    server.process.wait()
    eventually(lambda: not any(each.is_running() for each in workers))


def test_two_servers_of_one_redis_answer_for_each_others_runs(
    serve: ServerFactory, valkey, tmp_path
):
    one = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    two = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    with Gate(tmp_path) as gate, begun(one, "sleep_async", input=gate.input) as response:
        location = response.headers["content-location"]
        assert two.http.get(location).json()["status"] == "running"
        with joined(two, response) as join:
            gate.open()
            assert document(join) == document(response) == {**gate.input, "done": True}
    assert two.http.get(location).json()["status"] == "success"
