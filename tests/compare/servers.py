"""Both servers, started on a project's graphs and stopped again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx
from cases import NOT_ON_THE_REFERENCE

ROOT = Path(__file__).resolve().parent.parent.parent
REFERENCE = ["langgraph-cli[inmem]", "langgraph-api==0.16.7", f"langgraph=={version('langgraph')}"]

START_SECONDS = 90
STOP_SECONDS = 40


class StartError(Exception):
    """A server that was asked to start is not there; the end of its log."""


@contextmanager
def serving(command: list[str], folder: Path, **environment: str) -> Iterator[str]:
    """Runs a server in a process group of its own until the block ends; gives its address.

    `{port}` in the command becomes the port it must serve, and so does PORT in its environment.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    # Neither is to take settings from whoever runs this.
    inherited = {
        name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [part.format(port=port) for part in command],
            cwd=folder,
            env={**inherited, **environment, "PORT": port},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _is_up(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise StartError(log.read()[-2000:].decode(errors="replace"))
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ok", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def reference_server(venv: Path, project: Path) -> Iterator[str]:
    # With the LangGraph that Runwait has: the one of another day may answer otherwise.
    installed = venv / "compared"
    if not installed.exists() or installed.read_text() != "\n".join(REFERENCE):
        print(f"installing the reference into {venv}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "pip", "install", "--quiet", *REFERENCE], check=True)
        installed.write_text("\n".join(REFERENCE))
    with tempfile.TemporaryDirectory() as folder:
        # It keeps its threads in the folder it runs in, and finds them there the next time.
        copy = Path(folder) / project.name
        shutil.copytree(project, copy, ignore=shutil.ignore_patterns(".langgraph_api"))
        file = copy / "langgraph.json"
        config = json.loads(file.read_text())
        for name in NOT_ON_THE_REFERENCE & config["graphs"].keys():
            del config["graphs"][name]
        file.write_text(json.dumps(config))
        command = [str(venv / "bin" / "langgraph"), "dev", "--port", "{port}"]
        options = [
            "--host",
            "127.0.0.1",
            "--no-browser",
            "--no-reload",
            "--n-jobs-per-worker",
            "10",
        ]
        with serving([*command, *options], copy, LANGGRAPH_CLI_NO_ANALYTICS="1") as url:
            yield url


@contextmanager
def our_server(project: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "runwait.cli", "serve"]
    with (
        tempfile.TemporaryDirectory() as data,
        serving(
            command, ROOT, LANGGRAPH_CONFIG=str(project / "langgraph.json"), DATA_DIR=data
        ) as url,
    ):
        yield url
