"""Servers that tests fork are what the command starts, and none outlives the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil

from tests.e2e.calls import output
from tests.servers import COMMAND, FEW, ROOT, eventually

GRAPH = """
import os, resource, signal, sys, tempfile, threading
from typing import Any, TypedDict
from langgraph.graph import START, StateGraph

# What each server has of its own.
OWN = {"PORT", "DATA_DIR", "PROMETHEUS_MULTIPROC_DIR"}

class State(TypedDict, total=False):
    seen: Any

def look(state):
    main = sys.modules["__main__"]
    return {"seen": {
        "argv": sys.argv,
        "main": getattr(main.__spec__, "name", None),
        "path": sys.path,
        "safe_path": sys.flags.safe_path,
        "environment": {k: v for k, v in os.environ.items() if k not in OWN},
        "own": sorted(OWN & os.environ.keys()),
        "folder": os.getcwd(),
        "temporary": tempfile.gettempdir(),
        "umask": os.popen("umask").read(),
        "signals": {
            int(each): str(signal.getsignal(each)).partition(" at ")[0]
            for each in signal.valid_signals()
        },
        "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "threads": sorted({each.name.partition("_")[0] for each in threading.enumerate()}),
        "gunicorn": sorted(each for each in sys.modules if each.startswith("gunicorn")),
        "input": os.readlink("/proc/self/fd/0"),
    }}

graph = StateGraph(State).add_node(look).add_edge(START, "look").compile()
"""


def test_a_forked_server_finds_the_process_as_the_command_leaves_it(serve, valkey, tmp_path):
    (tmp_path / "look.py").write_text(GRAPH)
    (tmp_path / "langgraph.json").write_text('{"graphs": {"look": "./look.py:graph"}}')
    config = str(tmp_path / "langgraph.json")
    settings = {"REDIS_URL": valkey.url, "LANGGRAPH_CONFIG": config, "WEB_CONCURRENCY": 1, **FEW}
    seen = []
    for command in (None, COMMAND):
        server = serve(command=command, **settings)
        seen.append(output(server, "look")["seen"])
        server.kill()
    forked, real = seen
    assert forked == real


SCRIPT = """
import sys
from pathlib import Path
from tests.servers import PROJECTS, Server

server = Server(Path(sys.argv[1]), {"LANGGRAPH_CONFIG": str(PROJECTS / "zoo" / "langgraph.json")})
server.start()
print(server.process.pid, flush=True)
sys.stdin.read()
"""


def test_what_was_forked_ends_with_the_process_that_wanted_it(tmp_path):
    asking = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, tmp_path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    master = psutil.Process(int(asking.stdout.readline()))
    family = [master.parent(), master, *master.children(recursive=True)]
    # The parent, the master, its embedded Valkey and two workers.
    assert len(family) == 5
    os.kill(asking.pid, signal.SIGKILL)
    asking.wait()
    for each in family:
        eventually(lambda each=each: not each.is_running())
