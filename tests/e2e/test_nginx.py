"""Behind Debian's nginx: as it is configured by default, and with the site in docs/nginx.conf."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from langgraph_sdk import get_sync_client

from tests.e2e.calls import (
    FOREVER,
    UNLIMITED,
    Gate,
    Sdk,
    begun,
    document,
    joined,
    lines,
    only,
    output,
    read_newlines,
    run_of,
)
from tests.e2e.chats import TOKENS, TOLD, gist, said, until, whole
from tests.e2e.programs import require
from tests.servers import (
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
SITES = ["default", "docs"]

# The least that makes nginx a proxy; all the rest is its default.
BARE = "server { listen 80; location / { proxy_pass http://127.0.0.1:8000; } }"

# Where nginx would keep what belongs to the machine's own nginx.
TEMPORARY = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]


def main_configuration(binary: str, folder: Path, site: Path) -> str:
    """The configuration that nginx was installed with, for one site and a folder of its own."""
    about = subprocess.run([binary, "-V"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"--conf-path=(\S+)", about)
    assert found is not None
    installed = Path(found[1])
    text = installed.read_text()
    text = re.sub(r"^user\s.*?;", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*(pid|error_log|access_log)\s.*?;", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*include\s+\S*(conf\.d|sites-enabled)/.*?;", "", text, flags=re.MULTILINE)
    text = re.sub(r"(include\s+)(?!/)", rf"\g<1>{installed.parent}/", text)
    paths = "".join(f"{name}_temp_path {folder / name};\n" for name in TEMPORARY)
    logs = f"access_log {folder / 'access.log'};\nerror_log {folder / 'error.log'};\n"
    text = re.sub(
        r"^http\s*{", f"http {{\n{paths}{logs}include {site};\n", text, flags=re.MULTILINE
    )
    user = f"user {pwd.getpwuid(os.getuid()).pw_name};\n" if os.getuid() == 0 else ""
    return f"{user}pid {folder / 'pid'};\nerror_log {folder / 'error.log'};\ndaemon off;\n{text}"


@contextlib.contextmanager
def running(kind: str, upstream: int, folder: Path) -> Iterator[str]:
    """The URL of an nginx with this kind of site, before the server on the port `upstream`."""
    binary, port = require("nginx"), free_port()
    text = BARE if kind == "default" else (ROOT / "docs" / "nginx.conf").read_text()
    site = text.replace("127.0.0.1:8000", f"127.0.0.1:{upstream}")
    site = site.replace("listen 80;", f"listen 127.0.0.1:{port};")
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(main_configuration(binary, folder, folder / "site.conf"))
    output = (folder / "output").open("wb")
    process = subprocess.Popen(
        [binary, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")],
        stdout=output,
        stderr=output,
    )
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        assert process.poll() is None, (folder / "output").read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/ok", timeout=PATIENCE).status_code == 200
        return False

    try:
        eventually(is_up)
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE)
        output.close()


@pytest.fixture(scope="module", params=SITES)
def nginx(
    request: pytest.FixtureRequest, zoo: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of an nginx before the zoo."""
    with running(request.param, zoo.port, tmp_path_factory.mktemp("nginx")) as url:
        yield url


class TestAnswers:
    def test_pass_newlines_on_while_the_run_works_and_then_the_document(
        self, zoo: Server, nginx: str, tmp_path: Path
    ) -> None:
        with (
            Gate(tmp_path) as gate,
            begun(zoo, "sleep_sync", nginx, input=gate.input) as response,
        ):
            assert "X-Accel-Buffering" not in response.headers
            assert response.headers["Content-Type"] == "application/json"
            assert response.headers["Content-Location"] in response.headers["Location"]
            chunks = response.iter_raw()
            read_newlines(chunks, 3)
            gate.open()
            expected = b'{"seconds":0,"gate":"%s","done":true}' % str(gate.path).encode()
            assert b"".join(chunks).strip() == expected

    def test_are_whole_however_large(self, zoo: Server, nginx: str) -> None:
        # Well over the buffers that nginx has for a request's and an answer's bodies.
        value = ["ü" * 1000] * 300
        answer = httpx.post(
            f"{nginx}/runs/wait",
            json={"assistant_id": "echo", "input": {"value": value}},
            timeout=PATIENCE,
        )
        assert answer.json() == {"value": value}
        again = httpx.get(f"{nginx}{answer.headers['Location']}", timeout=PATIENCE)
        assert again.json() == {"value": value}

    def test_are_whole_however_large_if_they_had_to_be_waited_for_too(
        self, zoo: Server, nginx: str
    ) -> None:
        given = {"n": 150_001, "seconds": 0.5, "steps": [0] * 150_000}
        with begun(zoo, "steps_sync", nginx, input=given) as response:
            assert document(response)["steps"] == [*given["steps"], 150_001]

    def test_that_refuse_are_those_of_the_service(self, nginx: str) -> None:
        answer = httpx.post(
            f"{nginx}/runs/wait", json={"assistant_id": "nonsense"}, timeout=PATIENCE
        )
        assert answer.status_code == 422
        assert "two_interrupts" in answer.json()["detail"]

    def test_to_many_requests_one_after_another_are_all_right(self, nginx: str) -> None:
        with httpx.Client(base_url=nginx, timeout=PATIENCE) as client:
            for number in range(50):
                body = {"assistant_id": "echo", "input": {"value": number}}
                assert client.post("/runs/wait", json=body).json() == {"value": number}


@pytest.mark.parametrize("resumable", [True, False])
def test_a_stream_has_each_token_as_soon_as_it_is_there(
    nginx: str, tmp_path: Path, resumable: bool
) -> None:
    with Gate(tmp_path) as gate:
        parts = Sdk(nginx, "sync").stream(
            "runs.stream",
            None,
            "chat",
            input=said(TOLD, gate),
            stream_mode="messages-tuple",
            stream_resumable=resumable,
        )
        begun = until("messages", parts)
        gate.open()
        assert [gist(part) for part in whole([*begun, *parts])] == [*TOKENS, ""]


class TestDisconnects:
    @pytest.mark.parametrize("graph", ["steps_sync", "steps_async"])
    def test_stop_the_run_if_they_are_to_cancel_it(
        self, zoo: Server, nginx: str, graph: str, tmp_path: Path
    ) -> None:
        notes = tmp_path / "notes"
        given = {**FOREVER, "file": str(notes)}
        fields = {"input": given, "on_disconnect": "cancel", "config": UNLIMITED}
        with begun(zoo, graph, nginx, **fields) as response:
            eventually(notes.exists)
        eventually(lambda: run_of(zoo, response)["status"] == "interrupted")
        ended = len(notes.read_text().splitlines())
        # A step that could not be stopped may end; a run of ten steps' length shows that no
        # other begins.
        output(zoo, "sleep_async", input={"seconds": 10 * FOREVER["seconds"]})
        assert len(notes.read_text().splitlines()) <= ended + 1

    def test_of_a_join_stop_the_run_if_they_are_to_cancel_it(
        self, zoo: Server, nginx: str, tmp_path: Path
    ) -> None:
        notes = tmp_path / "notes"
        given = {**FOREVER, "file": str(notes)}
        with begun(zoo, "steps_sync", input=given, config=UNLIMITED) as response:
            # The second step begins once the process knows what the first made.
            eventually(lambda: len(lines(notes)) > 1)
            with joined(zoo, response, nginx, cancel_on_disconnect="true"):
                pass
            assert document(response)["n"] == FOREVER["n"]
        assert run_of(zoo, response)["status"] == "interrupted"

    def test_let_the_run_finish_if_it_is_to_continue(
        self, zoo: Server, nginx: str, tmp_path: Path
    ) -> None:
        with Gate(tmp_path) as gate:
            fields = {"input": gate.input, "on_disconnect": "continue"}
            with begun(zoo, "sleep_sync", nginx, **fields) as response:
                pass
            for worker in zoo.workers():
                with only(zoo, worker):
                    assert run_of(zoo, response)["status"] == "running"
            gate.open()
            with joined(zoo, response, nginx) as again:
                assert document(again) == {**gate.input, "done": True}
        assert run_of(zoo, response)["status"] == "success"


@pytest.mark.parametrize("kind", SITES)
@pytest.mark.parametrize("heartbeat", [0.2, 3600])
def test_a_worker_that_is_killed_leaves_no_answer_that_looks_whole(
    serve: ServerFactory, valkey: RedisServer, kind: str, heartbeat: float, tmp_path: Path
) -> None:
    server = serve(
        REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1, HEARTBEAT_SECONDS=heartbeat
    )
    notes = tmp_path / "notes"
    given = {"seconds": 600, "file": str(notes)}
    with (
        running(kind, server.port, tmp_path) as url,
        begun(server, "sleep_sync", url, input=given) as response,
    ):
        chunks = response.iter_raw()
        if heartbeat < 1:
            read_newlines(chunks, 1)
        eventually(notes.exists)
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError):
            b"".join(chunks)


@pytest.mark.parametrize("kind", SITES)
def test_the_python_sdk_has_its_answer_although_the_worker_was_killed(
    serve: ServerFactory, valkey: RedisServer, kind: str, tmp_path: Path
) -> None:
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RUN_LEASE_SECONDS=1)
    gate, has_headers = Gate(tmp_path), threading.Event()
    given = {
        "input": {**gate.input, "n": 4},
        "on_run_created": lambda _: has_headers.set(),
    }
    killed, _ = server.workers()
    with (
        ThreadPoolExecutor() as pool,
        pytest.warns(UserWarning, match="attempting reconnect"),
        contextlib.ExitStack() as stack,
    ):
        with only(server, killed):
            # Begun here, so that the connections that nginx keeps are that worker's.
            url = stack.enter_context(running(kind, server.port, tmp_path))
            client = get_sync_client(url=url)
            answer = pool.submit(client.runs.wait, None, "steps_sync", **given)
            assert has_headers.wait(PATIENCE)
            os.kill(killed, signal.SIGKILL)
        gate.open()
        assert answer.result(PATIENCE)["steps"] == [1, 2, 3, 4]


@pytest.mark.long
def test_a_run_of_90_seconds_passes_a_proxy_that_waits_for_30(
    serve: ServerFactory, valkey: RedisServer, tmp_path: Path
) -> None:
    assert "proxy_read_timeout 30s;" in (ROOT / "docs" / "nginx.conf").read_text()
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1)

    def ask(path: str) -> tuple[bytes, float]:
        """What a client is given, and its longest time without a byte."""
        body = {"assistant_id": "sleep_async", "input": {"seconds": 90}}
        received, longest, last = b"", 0.0, time.monotonic()
        with httpx.stream("POST", f"{url}{path}", json=body, timeout=PATIENCE) as response:
            for piece in response.iter_raw():
                received, now = received + piece, time.monotonic()
                longest, last = max(longest, now - last), now
        return received, longest

    with running("docs", server.port, tmp_path) as url, ThreadPoolExecutor() as pool:
        waits, streams = pool.map(ask, ["/runs/wait", "/runs/stream"])
    assert json.loads(waits[0])["done"] is True
    assert streams[0].count(b"event: end") == 1
    for received, longest in (waits, streams):
        # A byte every HEARTBEAT_SECONDS, of which the proxy would miss six.
        assert longest < 30
        assert received.count(b"\n") > 90 / 5 / 2


def test_the_proxy_alone_says_who_the_client_is(
    serve: ServerFactory, valkey: RedisServer, tmp_path: Path
) -> None:
    server = serve(
        REDIS_URL=valkey.url,
        LANGGRAPH_CONFIG=PROJECTS / "edge" / "langgraph.json",
        WEB_CONCURRENCY=1,
        FORWARDED_HOPS=1,
    )
    forged = {
        f"X-Forwarded-{name}": value
        for name, value in {
            "For": "6.6.6.6",
            "Proto": "https",
            "Host": "evil.example",
            "Prefix": "/evil",
        }.items()
    }
    with running("docs", server.port, tmp_path) as url:
        where = httpx.get(f"{url}/v1.0/agents/own/where", headers=forged, timeout=PATIENCE).json()
    assert where["client"] == "127.0.0.1"
    assert where["url"] == "http://127.0.0.1/v1.0/agents/own/where"
