"""Sends the same requests to Runwait and to the reference server, and compares the answers.

    python tests/compare/compare.py
    python tests/compare/compare.py --ours http://... --reference http://... --project zoo

Without addresses it starts both servers itself, once for each project in `cases.PROJECTS`: the
reference (`langgraph dev`, from a virtual environment that it makes on first use) on a copy of the
project, and Runwait under gunicorn. It stops only what it started.

A case is the same on both sides, known to differ (`cases.py` says why, and what Runwait must answer
instead), or wrong. The exit status is 1 if a case differs unexpectedly (DIFFERENT), if an expected
difference has gone (VANISHED), if Runwait answers otherwise than a known difference promises
(BROKEN), or if docs/differences.md gives other reasons than the cases; 2 if a server did not start.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from uuid import RFC_4122, UUID

import httpx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

from cases import CASES, NOT_ON_THE_REFERENCE, PROJECTS, Case, Request  # noqa: E402 - a script's neighbour

START_SECONDS = 90
STOP_SECONDS = 40
ANSWER_SECONDS = 30
COMPARE_SECONDS = 900
INSTALL_SECONDS = 900
# The reference polls its queue, so a run takes it one to two seconds however short it is.
AT_A_TIME = 8


@dataclass(frozen=True)
class Answer:
    """What one request came back with, cleared of what differs from run to run."""

    status: int
    document: Any
    location: str | None = None

    def text(self) -> str:
        lines = [f"{self.status} {_dump(self.document)}"]
        if self.location:
            lines.append(f"Location: {self.location}")
        return "\n".join(lines)


Outcome = Literal["same", "known", "DIFFERENT", "VANISHED", "BROKEN"]


@dataclass(frozen=True)
class Comparison:
    case: Case
    ours: list[Answer]
    reference: list[Answer]

    @property
    def outcome(self) -> Outcome:
        ours = [answer.text() for answer in self.ours]
        reference = [answer.text() for answer in self.reference]
        known = self.case.difference
        if known is None:
            return "same" if ours == reference else "DIFFERENT"
        if ours == reference:
            return "VANISHED"
        # Only the last answers may differ.
        last = self.ours[-1]
        kept = last.status == known.status and (
            known.document is ... or _dump(last.document) == _dump(known.document)
        )
        return "known" if kept and ours[:-1] == reference[:-1] else "BROKEN"


# Clearing away what differs from run to run


UUID_TEXT = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
TIME_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)")
# Of an interrupt and of a task: hashes over random ids, so that a task's looks like any UUID.
HASHED_ID = re.compile(rf"[0-9a-f]{{32}}|{UUID_TEXT.pattern}")
# Facts about the server and its user, laid into the configurable and the metadata of each run.
SERVER_FACTS = frozenset(
    {
        "langgraph_api_url",
        "langgraph_api_version",
        "langgraph_auth_permissions",
        "langgraph_auth_user",
        "langgraph_auth_user_id",
        "langgraph_host",
        "langgraph_plan",
        "langgraph_version",
        "run_attempt",
        "user_id",
    }
)


def normalised(value: Any, names: dict[str, str], *, server_facts: bool = True) -> Any:
    """A document with its random ids and its times named instead of told.

    `names` maps known ids to the name they get. A UUID of version 5 is derived from something, so
    it must be equal on both sides and stays, as do times that are not about now.
    """

    def clear(value: Any, key: str | None = None) -> Any:
        if isinstance(value, dict):
            return {
                HASHED_ID.sub("<id>", k): clear(v, k)
                for k, v in value.items()
                if server_facts or k not in SERVER_FACTS
            }
        if isinstance(value, list):
            return [clear(v) for v in value]
        if not isinstance(value, str):
            return value
        if key == "id" and HASHED_ID.fullmatch(value):
            return "<id>"
        if key == "langgraph_checkpoint_ns" or key == "checkpoint_ns":
            return re.sub(r":.*", ":<task id>", value)
        return TIME_TEXT.sub(_cleared_time, UUID_TEXT.sub(cleared_uuid, value))

    def cleared_uuid(match: re.Match[str]) -> str:
        uuid = UUID(match[0])
        if match[0] in names:
            return names[match[0]]
        random = uuid.variant == RFC_4122 and uuid.version in (4, 6, 7)
        return "<uuid>" if random else match[0]

    return clear(value)


def _cleared_time(match: re.Match[str]) -> str:
    about_now = abs(datetime.fromisoformat(match[0]) - datetime.now(UTC)) < timedelta(days=1)
    return "<time>" if about_now else match[0]


def _dump(document: Any) -> str:
    """One spelling a document: 5 and 5.0 stay different, the order of names does not count."""
    return json.dumps(document, sort_keys=True, ensure_ascii=False)


# Asking


def answers(client: httpx.Client, case: Case) -> list[Answer]:
    """The answers to a case's requests, one after the other: later ones may name the first's ids.

    A case whose later request needs an id that never came ends where it is.
    """
    told: list[Answer] = []
    names: dict[str, str] = {}
    for request in case.requests:
        path = request.path
        for uuid, name in names.items():
            path = path.replace(name, uuid)
        if "<" in path:
            break
        response, body = _send(client, request, path)
        location = response.headers.get("content-location", "")
        for name, uuid in zip(
            ("<thread_id>", "<run_id>"), UUID_TEXT.findall(location), strict=False
        ):
            names.setdefault(uuid, name)
        told.append(_answer(response, body, names, case))
    return told


def _send(client: httpx.Client, request: Request, path: str) -> tuple[httpx.Response, bytes]:
    body = request.body
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    deadline = time.monotonic() + ANSWER_SECONDS
    told = b""
    with client.stream(
        request.method,
        path,
        content=None if body is None else content,
        headers={"Content-Type": "application/json", **dict(request.headers)},
    ) as response:
        # The newlines that keep a connection open would also keep a read timeout from striking.
        for chunk in response.iter_bytes():
            told += chunk
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout(f"no document within {ANSWER_SECONDS} seconds")
    return response, told


def _answer(response: httpx.Response, body: bytes, names: dict[str, str], case: Case) -> Answer:
    try:
        document = json.loads(body)
    except ValueError:
        document = f"not JSON: {body[:80]!r}" if body else None
    if response.status_code >= 400 and isinstance(document, dict):
        # Each words its own refusals. That there is one text under that one name is the contract.
        document = {k: "<text>" if isinstance(v, str) and v else v for k, v in document.items()}
    location = response.headers.get("location")
    return Answer(
        response.status_code,
        normalised(document, names, server_facts=case.server_facts),
        location and UUID_TEXT.sub(lambda match: names.get(match[0], match[0]), location),
    )


def compare(cases: list[Case], ours: str, reference: str) -> list[Comparison]:
    def ask(url: str) -> list[list[Answer]]:
        limits = httpx.Limits(max_connections=AT_A_TIME)
        with (
            httpx.Client(base_url=url, timeout=ANSWER_SECONDS, limits=limits) as client,
            ThreadPoolExecutor(AT_A_TIME) as pool,
        ):
            return list(pool.map(lambda case: _patient(client, case), cases))

    return [
        Comparison(case, mine, theirs)
        for case, mine, theirs in zip(cases, ask(ours), ask(reference), strict=True)
    ]


def _patient(client: httpx.Client, case: Case) -> list[Answer]:
    """The reference resets connections that stand idle beside one of its 500s: ask once more."""
    for last in (False, True):
        try:
            return answers(client, case)
        except httpx.TransportError as error:
            if last or isinstance(error, httpx.TimeoutException):
                return [Answer(0, f"no answer: {type(error).__name__}")]
    raise AssertionError("unreachable")


# Starting and stopping


class StartError(Exception):
    """A server that was asked to start is not there, with the end of its log."""


@contextmanager
def serving(command: list[str], url: str, ready: str, **popen: Any) -> Iterator[None]:
    """Runs a server in a process group of its own until the block ends."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, **popen
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(url + ready):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    tail = log.read().decode(errors="replace")[-2000:]
                    raise StartError(f"{' '.join(command)}\n{tail}")
                time.sleep(0.2)
            yield
        finally:
            _stop(process)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment(**added: str) -> dict[str, str]:
    """This process's environment without the settings that either server would take from it."""
    foreign = ("LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_", "REDIS_", "DATABASE_", "API_KEYS", "PORT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, **added}


@contextmanager
def reference_server(venv: Path, project: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        # It keeps its threads in the folder it runs in, and finds them there the next time.
        copy = Path(folder) / project.name
        leave_out = shutil.ignore_patterns(".langgraph_api", "__pycache__")
        shutil.copytree(project, copy, ignore=leave_out)
        config = copy / "langgraph.json"
        config.write_text(json.dumps(_loadable_there(json.loads(config.read_text()))))
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        options = ["--no-browser", "--no-reload", "--host", "127.0.0.1", "--port", str(port)]
        command = [str(venv / "bin" / "langgraph"), "dev", *options, "--n-jobs-per-worker", "10"]
        environment = _environment(LANGGRAPH_CLI_NO_ANALYTICS="1", LANGSMITH_TRACING="false")
        with serving(command, url, "/ok", cwd=copy, env=environment):
            yield url


def _loadable_there(config: dict[str, Any]) -> dict[str, Any]:
    """A langgraph.json without the graphs that the reference cannot have, and by module name.

    It loads a file on its own, outside its package, so that relative imports fail.
    """

    def by_module(path: str) -> str:
        return re.sub(r"^\./(\w+)/(\w+)\.py:", r"\1.\2:", path)

    graphs: dict[str, Any] = {}
    for name, graph in config["graphs"].items():
        if name not in NOT_ON_THE_REFERENCE:
            told = graph if isinstance(graph, dict) else {"path": graph}
            graphs[name] = {**told, "path": by_module(told["path"])}
    return {**config, "graphs": graphs}


@contextmanager
def our_server(project: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as data:
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        gunicorn = str(Path(sys.executable).parent / "gunicorn")
        environment = _environment(
            PORT=str(port), LANGGRAPH_CONFIG=str(project / "langgraph.json"), DATA_DIR=data
        )
        command = [gunicorn, "-c", "config/gunicorn.py", "wsgi:app"]
        with serving(command, url, "/ok", cwd=ROOT, env=environment):
            yield url


def reference_venv(folder: Path) -> None:
    """Makes the reference's virtual environment if it is missing, with our LangGraph's version."""
    if not (folder / "bin" / "langgraph").exists():
        print(f"installing the reference into {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        packages = ["langgraph-cli[inmem]", f"langgraph=={version('langgraph')}"]
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]
        subprocess.run(pip, check=True, timeout=INSTALL_SECONDS)


# Telling


def tell(comparisons: list[Comparison], *, every_document: bool) -> None:
    width = max(len(comparison.case.name) for comparison in comparisons)
    for comparison in comparisons:
        known = comparison.case.difference
        why = known.reason if known else ""
        print(f"{comparison.outcome:9}  {comparison.case.name:{width}}  {why}".rstrip())
    for comparison in comparisons:
        outcome, known = comparison.outcome, comparison.case.difference
        if outcome == "same" or (outcome == "known" and not every_document):
            continue
        print(f"\n{outcome}: {comparison.case.name}" + (f" ({known.reason})" if known else ""))
        for side, told in (("ours", comparison.ours), ("reference", comparison.reference)):
            for answer in told:
                print(f"  {side:9}  " + answer.text().replace("\n", "\n" + " " * 13))
        if outcome == "BROKEN" and known:
            print(f"  {'promised':9}  {known.status} {_promised(known.document)}")


def _promised(document: Any) -> str:
    return "(any document)" if document is ... else _dump(document)


def misdocumented(page: Path) -> list[str]:
    """Where the page's table of differences and the cases do not give the same reasons."""
    documented = set(re.findall(r"^\| \*\*(.+?)\*\* \|", page.read_text(), re.MULTILINE))
    used = {case.difference.reason for case in CASES if case.difference}
    missing = [f"not in {page.name}: {reason}" for reason in sorted(used - documented)]
    return missing + [f"in no case: {reason}" for reason in sorted(documented - used)]


def _too_long(*_: object) -> None:
    raise TimeoutError(f"the comparison took longer than {COMPARE_SECONDS} seconds")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ours", help="address of a running Runwait (with --reference)")
    parser.add_argument("--reference", help="address of a running reference server (with --ours)")
    parser.add_argument("--project", choices=PROJECTS, help="only this project's cases")
    parser.add_argument("--only", default="", help="only cases with this text in their name")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-reference")
    parser.add_argument(
        "--all", action="store_true", help="show the documents of known differences"
    )
    options = parser.parse_args()
    if bool(options.ours) != bool(options.reference):
        parser.error("--ours and --reference go together")
    if options.ours and not options.project:
        parser.error("--project says which graphs the running servers have")

    if not options.ours:
        reference_venv(options.venv)
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(COMPARE_SECONDS)
    comparisons: list[Comparison] = []
    for project in [options.project] if options.project else PROJECTS:
        cases = [c for c in CASES if c.project == project and options.only in c.name]
        if not cases:
            continue
        with ExitStack() as servers:
            try:
                ours, reference = options.ours, options.reference
                if not ours:
                    folder = ROOT / PROJECTS[project]
                    reference = servers.enter_context(reference_server(options.venv, folder))
                    ours = servers.enter_context(our_server(folder))
            except StartError as error:
                print(f"did not start: {error}", file=sys.stderr)
                return 2
            comparisons += compare(cases, ours, reference)

    tell(comparisons, every_document=options.all)
    missing = misdocumented(ROOT / "docs" / "differences.md")
    print("\n".join(["", *missing]) if missing else "")
    counts = {
        outcome: sum(c.outcome == outcome for c in comparisons)
        for outcome in ("same", "known", "DIFFERENT", "VANISHED", "BROKEN")
    }
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    wrong = counts["DIFFERENT"] + counts["VANISHED"] + counts["BROKEN"]
    return 1 if wrong or missing else 0


if __name__ == "__main__":
    sys.exit(main())
