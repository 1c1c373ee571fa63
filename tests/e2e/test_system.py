"""What operators do and ask: starting, stopping, /ok, /ready, /info."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import httpx
import psutil
import pytest

from runwait.version import __version__
from tests.e2e.calls import fresh_get, only, output
from tests.servers import (
    COMMAND,
    PATIENCE,
    PROJECTS,
    ROOT,
    RedisServer,
    Server,
    ServerFactory,
    eventually,
    free_port,
)

ZOO = str(PROJECTS / "zoo" / "langgraph.json")


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """A process and all that came of it."""
    master = psutil.Process(process.pid)
    return [master, *master.children(recursive=True)]


def works(process: psutil.Process) -> bool:
    """Whether a process has not ended; what init has yet to clear away has."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class TestOk:
    def test_is_answered_by_every_worker(self, zoo: Server) -> None:
        for worker in zoo.workers():
            with only(zoo, worker):
                answer = fresh_get(zoo, "/ok")
            assert (answer.status_code, answer.json()) == (200, {"ok": True})

    def test_is_answered_without_redis(self, serve: ServerFactory, valkey: RedisServer) -> None:
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1)
        assert server.http.get("/ok?check_db=1").json() == {"ok": True}
        valkey.stop()
        assert server.http.get("/ok").json() == {"ok": True}
        assert eventually(lambda: server.http.get("/ok?check_db=1").status_code == 503)


class TestReady:
    def test_is_200_where_all_is_there(self, zoo: Server) -> None:
        for worker in zoo.workers():
            with only(zoo, worker):
                assert fresh_get(zoo, "/ready").status_code == 200

    def test_is_503_with_the_reason_while_redis_is_away(
        self, serve: ServerFactory, valkey: RedisServer
    ) -> None:
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1)
        assert server.http.get("/ready").status_code == 200
        for _ in range(2):
            valkey.stop()
            answer = server.http.get("/ready")
            assert answer.status_code == 503
            assert "Redis" in answer.json()["detail"]
            assert output(server, "echo", input={"value": 1}) == {"value": 1}
            valkey.start()
            eventually(lambda: server.http.get("/ready").status_code == 200)


class TestInfo:
    def test_tells_versions_and_flags(self, zoo: Server) -> None:
        answer = zoo.http.get("/info").json()
        assert answer["version"] == __version__
        assert answer["langgraph_py_version"] == version("langgraph")
        assert isinstance(answer["flags"], dict)


class TestUnknownPaths:
    @pytest.mark.parametrize("path", ["/nowhere", "/ok/", "/thread", "/static/x"])
    def test_are_not_found(self, zoo: Server, path: str) -> None:
        answer = zoo.http.get(path)
        assert answer.status_code == 404
        assert list(answer.json()) == ["detail"]

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "NONSENSE"])
    def test_and_wrong_methods_are_told_apart(self, zoo: Server, method: str) -> None:
        answer = zoo.http.request(method, "/ok")
        assert answer.status_code == 405
        assert "GET" in answer.headers["Allow"]
        assert list(answer.json()) == ["detail"]


class TestProcfile:
    def test_serves_under_honcho(self, valkey: RedisServer, tmp_path: Path) -> None:
        port = free_port()
        environment = {
            **os.environ,
            # gunicorn is found as in an activated virtual environment.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "REDIS_URL": valkey.url,
            "LANGGRAPH_CONFIG": ZOO,
            "DATA_DIR": str(tmp_path / "data"),
        }
        command = [sys.executable, "-m", "honcho", "start", "--port", str(port)]
        with (tmp_path / "log").open("wb") as log:
            honcho = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"

        def is_up() -> bool:
            assert honcho.poll() is None, (tmp_path / "log").read_text()
            try:
                return httpx.get(f"{url}/ready", timeout=PATIENCE).status_code == 200
            except httpx.TransportError:
                return False

        try:
            eventually(is_up)
            started = family(honcho)
            body = {"assistant_id": "echo", "input": {"value": 1}}
            answer = httpx.post(f"{url}/runs/wait", json=body, timeout=PATIENCE)
            assert answer.json() == {"value": 1}
            # The given Redis is used, and no other was started.
            run_id = answer.headers["Content-Location"].rpartition("/")[2]
            assert [key for key in valkey.client.scan_iter() if run_id.encode() in key]
            assert not (tmp_path / "data").exists()
        finally:
            honcho.terminate()
            honcho.wait(PATIENCE)
        # honcho, the master and two workers, and the process that only executes runs.
        assert len(started) >= 5
        eventually(lambda: not list(filter(works, started)))


class TestWithoutARedis:
    """As `make serve` starts it: with a server of its own."""

    def start(self, folder: Path, command: Sequence[str] | None) -> Server:
        # A session of its own, so that all of it can be sent what a terminal sends.
        settings = {"DATA_DIR": str(folder / "some data")}
        server = Server(folder, settings, command, new_session=True)
        server.environment.pop("REDIS_URL", None)
        server.environment.pop("LANGGRAPH_CONFIG", None)
        server.start()
        return server

    def test_serves_the_examples_leaves_no_process_and_remembers(self, tmp_path: Path) -> None:
        started: list[psutil.Process] = []
        earlier: list[httpx.Response] = []
        try:
            for command, how, kill in (
                (COMMAND, signal.SIGTERM, os.kill),
                (None, signal.SIGINT, os.killpg),
            ):
                server = self.start(tmp_path, command)
                assert server.process is not None
                started = family(server.process)
                # The master, two workers and the Valkey.
                assert len(started) == 4
                assert server.http.get("/ready").status_code == 200
                body = {"assistant_id": "mapreduce", "input": {"documents": ["a b a", "b"]}}
                answer = server.http.post("/runs/wait", json=body)
                assert answer.json() == {"words": {"a": 2, "b": 2}}
                for known in [*earlier, answer]:
                    for worker in server.workers():
                        with only(server, worker):
                            again = fresh_get(server, known.headers["Location"])
                        assert again.json() == answer.json()
                earlier.append(answer)
                kill(server.process.pid, how)
                assert server.process.wait(PATIENCE) == 0
                assert not list(filter(works, started))
        finally:
            for process in started:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


class TestLog:
    def test_has_a_line_for_each_request_and_each_run(self, zoo: Server) -> None:
        mine = "log-test-1"
        response = zoo.http.post(
            "/runs/wait",
            json={"assistant_id": "echo", "input": {}},
            headers={"X-Request-ID": mine},
        )
        run_id = response.headers["Content-Location"].rpartition("/")[2]

        def lines() -> list[str]:
            return [line for line in zoo.log.read_text().splitlines() if run_id in line]

        found = eventually(lambda: got if len(got := lines()) >= 2 else None)
        assert all(re.match(r"\{.*\}$", line) for line in found)
        assert all(mine in line for line in found)
