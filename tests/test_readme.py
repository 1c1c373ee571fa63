"""The README keeps its word: its tables, links and blocks are taken from it and tried."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from runwait.api.schemas import RunBody
from runwait.auth.custom import CustomAccess
from runwait.auth.request import URL, Headers, QueryParams, Request
from runwait.runs.event_log import MOST_BYTES
from runwait.runs.events import BACKLOG_BYTES, SHARED_BACKLOG_BYTES
from runwait.settings import Settings
from runwait.storage.events import _QUIET_MS
from runwait.storage.records import DELIVERED_SECONDS
from runwait.version import __version__
from tests.e2e.programs import client, javascript_sdk, require
from tests.servers import COMMAND, PATIENCE, ROOT, Server, running

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: str) -> list[tuple[str, str]]:
    """Every fenced block: its language and its text."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


BLOCKS = blocks(README)
CURLS = [
    (text, BLOCKS[i + 1][1])
    for i, (language, text) in enumerate(BLOCKS)
    if language == "sh" and "curl" in text
]
STREAMING = (ROOT / "docs" / "streaming.md").read_text()


def rows(heading: str) -> dict[str, list[str]]:
    """The table under a heading: the other cells of a row, by each `name` in its first cell."""
    section = re.split(r"^#+ ", README.partition(f"# {heading}\n")[2], flags=re.MULTILINE)[0]
    found: dict[str, list[str]] = {}
    for line in re.findall(r"^\| `.*\|$", section, re.MULTILINE):
        first, *others = (cell.strip() for cell in line.strip("|").split(" | "))
        found.update(dict.fromkeys(re.findall(r"`(.+?)`", first), others))
    return found


def block(language: str, text: str) -> str:
    """The only block in this language that has this text."""
    (found,) = [each for kind, each in BLOCKS if kind == language and text in each]
    return found


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """What `make serve` starts: no setting but the port and the folder for data."""
    with running(Server(tmp_path_factory.mktemp("examples"), {}, COMMAND)) as server:
        yield server


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the project that the README shows."""
    folder = tmp_path_factory.mktemp("hello")
    (folder / "langgraph.json").write_text(block("json", '"graphs"'))
    (folder / "hello.py").write_text(block("python", "StateGraph"))
    with running(Server(folder, {"LANGGRAPH_CONFIG": str(folder / "langgraph.json")})) as server:
        yield server


def printed_by(command: list[str], cwd: Path = ROOT) -> str:
    """What a program prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n") + "\n"


@pytest.mark.parametrize(("command", "answer"), CURLS, ids=[answer[:40] for _, answer in CURLS])
def test_each_curl_prints_the_answer_below_it(
    command: str, answer: str, request: pytest.FixtureRequest
) -> None:
    require("curl")
    server: Server = request.getfixturevalue("hello" if '"hello"' in command else "examples")

    assert printed_by(["sh", "-c", command.replace("http://localhost:8000", server.url)]) == answer


def test_the_python_client_prints_what_is_said(examples: Server) -> None:
    program = block("python", 'context={"name"').replace("http://localhost:8000", examples.url)

    assert printed_by([sys.executable, "-c", program]) == block("text", "Hello Ada")


def test_the_stream_and_the_background_run_print_what_is_said(examples: Server) -> None:
    program = block("python", "runs.stream").replace("http://localhost:8000", examples.url)

    assert printed_by([sys.executable, "-c", program]) == block("text", "updates model")


def test_the_thread_that_lasts_prints_what_is_said(examples: Server) -> None:
    program = block("python", '"approval"').replace("http://localhost:8000", examples.url)

    assert printed_by([sys.executable, "-c", program]) == block("text", "Send this?")


def test_the_session_with_keys_prints_what_is_said(tmp_path: Path) -> None:
    require("curl")
    session = blocks((ROOT / "docs" / "auth.md").read_text())
    (keys,) = re.findall(r"API_KEYS=(\S+)", session[0][1])
    server = Server(tmp_path, {"API_KEYS": keys, "WEB_CONCURRENCY": "1"})
    server.start()
    try:
        curls = [each for each in session if each[0] in ("sh", "json")][1:]
        assert [kind for kind, _ in curls] == ["sh", "json"] * 2
        for (_, command), (_, printed) in zip(curls[::2], curls[1::2], strict=True):
            command = command.replace("http://localhost:8000", server.url)
            assert printed_by(["sh", "-c", command]) == printed
            by_hash = command.replace("adas-secret", "testpassword")
            assert printed_by(["sh", "-c", by_hash]) == printed
        assert '"user":"ada"' in server.log.read_text()
    finally:
        server.kill()


def test_the_auth_that_is_shown_says_who_owns_what() -> None:
    program = blocks((ROOT / "docs" / "auth.md").read_text())[5][1]
    found: dict[str, Any] = {}
    exec(program, found)
    access = CustomAccess(found["auth"])
    url, none = URL("http", "localhost", "/", "", ""), QueryParams([])
    headers = Headers([("Authorization", "Bearer bobs-token")])
    bob = access.caller(
        Request(
            method="GET", url=url, headers=headers, query_params=none, path_params={}, client=None
        )
    )
    asked: dict[str, Any] = {}
    assert access.authorize(bob, "threads", "create", asked) == {"owner": "bob"}
    assert asked == {"metadata": {"owner": "bob"}}
    asked = {"namespace": ("a",)}
    access.authorize(bob, "store", "get", asked)
    assert asked == {"namespace": ("bob", "a")}


def test_the_calls_of_the_page_on_mcp_print_what_is_said(examples: Server) -> None:
    found = blocks((ROOT / "docs" / "mcp.md").read_text())
    texts = [text.replace("http://localhost:8000", examples.url) for _, text in found]
    (kind, _), (_, _), (shell, _), _ = found
    require("curl")

    assert (kind, shell) == ("python", "sh")
    python, _ = client("adapters")
    assert printed_by([python, "-c", texts[0]]) == texts[1]
    assert printed_by(["sh", "-c", texts[2]]) == texts[3]


def test_the_calls_of_the_page_on_a2a_are_answered_as_it_says(examples: Server) -> None:
    require("curl")
    card, asks, answers = [
        text.replace("http://localhost:8000", examples.url)
        for _, text in blocks((ROOT / "docs" / "a2a.md").read_text())
    ]

    assert json.loads(printed_by(["sh", "-c", card]))["name"] == "chat"
    task = json.loads(printed_by(["sh", "-c", asks]))["result"]["task"]
    assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    assert "Send this?" in json.dumps(task["status"]["message"])
    answers = answers.replace("THE TASK", task["id"])
    done = json.loads(printed_by(["sh", "-c", answers]))["result"]["task"]
    assert (done["id"], done["status"]["state"]) == (task["id"], "TASK_STATE_COMPLETED")


def test_the_javascript_client_prints_what_is_said(examples: Server) -> None:
    folder = javascript_sdk()
    program = block("js", "langgraph-sdk").replace("http://localhost:8000", examples.url)

    printed = printed_by([require("node"), "--input-type=module", "--eval", program], cwd=folder)

    assert printed == block("text", "Hello Ada")


@pytest.mark.parametrize("language", ["sh", "js", "python"])
def test_the_programs_that_stream_print_what_is_said(language: str, examples: Server) -> None:
    found = blocks(STREAMING)
    [place] = [i for i, (kind, _) in enumerate(found) if kind == language]
    program = found[place][1].replace("http://localhost:8000", examples.url)
    folder = ROOT
    if language == "sh":
        require("curl")
        command = ["sh", "-c", program]
    elif language == "python":
        command = [sys.executable, "-c", program]
    else:
        folder = javascript_sdk()
        command = [require("node"), "--input-type=module", "--eval", program]

    printed = printed_by(command, cwd=folder)

    # What is an id is left out, and a heartbeat comes where it takes long.
    pattern = re.escape(found[place + 1][1].strip()).replace("…", "[0-9a-f-]{36}")
    assert re.fullmatch(pattern, printed.replace(": heartbeat\n\n", "").strip()), printed


def test_the_cron_prints_what_is_said(examples: Server) -> None:
    (_, program), (_, printed), *_ = blocks((ROOT / "docs" / "crons.md").read_text())
    program = program.replace("http://localhost:8000", examples.url)

    assert printed_by([sys.executable, "-c", program]) == printed


def test_what_is_said_to_be_kept_of_streams_is(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = STREAMING.partition("## What is kept where")[2]
    defaults = dict(re.findall(r"`([A-Z_]+)` \((\d+)\)", kept))
    for name in defaults:
        monkeypatch.delenv(name, raising=False)
    unset = Settings.from_env()

    assert defaults.keys() == {
        *("STREAM_EVENTS_MAX", "RESULT_TTL_SECONDS", "IDEMPOTENCY_TTL_SECONDS")
    }
    for name, value in defaults.items():
        assert getattr(unset, name.lower()) == int(value)
    mib = 1024 * 1024
    shared = SHARED_BACKLOG_BYTES // mib
    assert f"{BACKLOG_BYTES // mib} MiB, and {shared} MiB more that all clients share |" in kept
    assert f"{MOST_BYTES // mib} MiB at most in all" in kept
    assert f"{_QUIET_MS // 24 // 3600 // 1000} days after the last one" in kept
    assert f"{DELIVERED_SECONDS:g} seconds, once a client has had it" in kept


def test_make_serve_and_make_test_come_first_and_exist() -> None:
    commands = [text.strip() for language, text in BLOCKS if language == "sh"]
    make = [shlex.split(each)[-2:] for each in commands if "make" in each]

    assert make[:2] == [["make", "serve"], ["make", "test"]]
    for command in make:
        subprocess.run([*command, "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_the_settings_table_names_exactly_the_settings() -> None:
    assert rows("Settings").keys() == {field.name.upper() for field in fields(Settings)}


def test_each_default_in_the_settings_table_is_what_counts_where_nothing_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = rows("Settings")
    monkeypatch.chdir(ROOT)
    for name in settings:
        monkeypatch.delenv(name, raising=False)
    unset = Settings.from_env()

    for name, (default, _) in settings.items():
        if default == "none":
            assert getattr(unset, name.lower(), None) is None
        else:
            monkeypatch.setenv(name, default.strip("`"))
    given = Settings.from_env()

    for field in fields(Settings):
        expected, found = getattr(unset, field.name), getattr(given, field.name)
        if isinstance(expected, Path):
            expected, found = expected.resolve(), found.resolve()
        assert found == expected, field.name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "no number"),
        ("LANGGRAPH_CONFIG", "no-such-file.json"),
        ("DATA_DIR", "/dev/null"),
        ("WEBHOOK_BASE_URL", "no URL"),
        ("WEBHOOK_ALLOWED_HOSTS", "no host"),
        ("API_KEYS", "a key"),
    ],
)
def test_a_setting_that_cannot_be_used_stops_the_start_with_one_line(
    name: str, value: str, tmp_path: Path
) -> None:
    server = Server(tmp_path, {name: value})
    server.launch()
    assert server.process is not None

    assert server.process.wait(PATIENCE) != 0
    (line,) = re.findall("^runwait: .*$", server.log.read_text(), re.MULTILINE)
    assert name in line or value in line
    assert "Traceback" not in server.log.read_text()


def test_the_table_of_the_request_names_exactly_the_fields_of_a_body() -> None:
    assert rows("The request").keys() == RunBody().fields.keys()


def test_the_dependencies_table_names_exactly_what_is_required() -> None:
    declared = configparser.ConfigParser()
    declared.read(ROOT / "setup.cfg")
    required = re.findall(r"^[\w.-]+", declared["options"]["install_requires"], re.MULTILINE)

    assert list(rows("Dependencies")) == required


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_each_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings have."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}


def test_each_decision_record_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    linked = re.findall(r"\]\(([\w-]+\.md)\)", (folder / "README.md").read_text())

    assert sorted([*linked, "README.md"]) == sorted(file.name for file in folder.iterdir())


def test_the_newest_version_in_the_changelog_is_this_one() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert versions[0] == __version__
