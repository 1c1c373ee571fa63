"""Requests made of the API's description, right ones and wrong ones, thousands of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

from tests.servers import PROJECTS, ROOT, Server

FOLDER = Path(__file__).parent
# These have no end, where there is such a thread.
ENDLESS = r"^/threads/\{thread_id\}/stream(/events)?$"


def server(folder: Path, valkey_url: str) -> Server:
    """A server whose graphs answer at once; it is not started."""
    project = PROJECTS / "zoo" / "langgraph.json"
    return Server(folder, {"LANGGRAPH_CONFIG": str(project), "REDIS_URL": valkey_url})


def fuzz(url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Have Schemathesis test a server by its description; its report is the output.

    Each answer has a status, a type, headers and a body that are described, and is no 5xx but a
    503; what the description has nothing against is taken, and what it forbids refused. It asks
    with one thread, which is no slower: Hypothesis parses Python, and Python 3.11 can't do that in
    two threads at once (gh-106905 of CPython).
    """
    schemathesis = [
        Path(sys.executable).parent / "st",
        "--config-file",
        FOLDER / "schemathesis.toml",
    ]
    return subprocess.run(
        [
            *(*schemathesis, "run", f"{url}/openapi.json", "--no-color", "--continue-on-failure"),
            *("--exclude-path-regex", ENDLESS, "--request-timeout", "60", *options),
        ],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def busy(metrics: str) -> dict[tuple[str, str], float]:
    """The share of 503s among the answers to each method and route that had some, by /metrics."""
    answers: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for labels, count in _REQUESTS.findall(metrics):
        said = dict(_LABEL.findall(labels))
        answers[said["method"], said["route"]][said["status"]] += float(count)
    return {
        call: statuses["503"] / statuses.total()
        for call, statuses in answers.items()
        if statuses["503"]
    }


_REQUESTS = re.compile(r"^runwait_http_requests_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
