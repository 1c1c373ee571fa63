"""The command `runwait`, as a person calls it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from runwait import cli
from runwait.storage.connection import Storage
from runwait.storage.outbox import Outbox
from tests.ports import free_port
from tests.servers import PATIENCE, ROOT, RedisServer

URL = "http://a.example/hook"


def command(redis_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runwait.cli", "webhooks", *arguments],
        cwd=ROOT,
        env={**os.environ, "REDIS_URL": redis_url, "REDIS_PREFIX": "test"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture
def outbox(shared_valkey: RedisServer) -> Outbox:
    storage = Storage(shared_valkey.url, 1)
    storage.start()
    return Outbox(storage, "test")


def kill(outbox: Outbox, run_id: str) -> None:
    outbox.add(run_id, URL, b'{"n":1}')
    webhook, _ = asyncio.run(outbox.claim(60))
    assert webhook is not None
    asyncio.run(outbox.failed(webhook, None, "the answer was 500"))


def test_lists_one_line_each(outbox: Outbox, shared_valkey: RedisServer) -> None:
    assert command(shared_valkey.url, "list").stdout == ""
    kill(outbox, "r1")
    [letter] = outbox.dead(1)
    died = letter.died.isoformat(timespec="seconds")
    done = command(shared_valkey.url, "list")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"r1  {died}  1 attempts  {URL}  the answer was 500\n"


def test_retries_one(outbox: Outbox, shared_valkey: RedisServer) -> None:
    kill(outbox, "r1")
    kill(outbox, "r2")
    assert command(shared_valkey.url, "retry", "r1").returncode == 0
    assert [each.run_id for each in outbox.dead(10)] == ["r2"]
    webhook, _ = asyncio.run(outbox.claim(60))
    assert webhook is not None
    assert webhook.run_id == "r1"


def test_says_so_where_there_is_none(shared_valkey: RedisServer) -> None:
    done = command(shared_valkey.url, "retry", "r1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "r1" in done.stderr


def test_retries_all_over_pages(
    outbox: Outbox,
    shared_valkey: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(5):
        kill(outbox, f"r{number}")
    monkeypatch.setattr(cli, "PAGE", 2)
    run = partial(
        CliRunner().invoke, cli.main, env={"REDIS_URL": shared_valkey.url, "REDIS_PREFIX": "test"}
    )
    assert len(run(["webhooks", "list"]).output.splitlines()) == 5
    assert run(["webhooks", "retry", "--all"]).output == "5 to be tried again\n"
    assert outbox.dead(10) == []


@pytest.mark.parametrize("arguments", [["retry"], ["retry", "r1", "--all"], ["bury"]])
def test_explains_itself_where_it_is_called_wrongly(
    shared_valkey: RedisServer, arguments: list[str]
) -> None:
    done = command(shared_valkey.url, *arguments)
    assert done.returncode == 2
    assert "Usage: " in done.stderr


def test_says_in_one_line_that_redis_is_away() -> None:
    done = command(f"redis://127.0.0.1:{free_port()}", "list")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "Redis is away" in done.stderr


def test_says_in_one_line_that_a_setting_is_wrong() -> None:
    done = command("http://x", "list")
    assert done.returncode == 1
    assert done.stderr.startswith("runwait: REDIS_URL: Must be")
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def check(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], tuple[int, str, str]]:
    """Has `runwait check` look at a langgraph.json: its exit code, and what it printed."""
    # The command sets it, and it is not to last.
    monkeypatch.setenv("LANGGRAPH_CONFIG", "")
    monkeypatch.chdir(Path.cwd())

    def called(config: Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(["check", "-c", str(config)], prog_name="runwait")
        code = left.value.code
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    return called


Check = Callable[[Path], tuple[int, str, str]]


class TestCheck:
    def test_prints_a_line_for_each_graph_and_for_each_fault(
        self, check: Check, tmp_path: Path
    ) -> None:
        shutil.copy(ROOT / "examples" / "mapreduce.py", tmp_path / "good.py")
        files = {
            "raises": "raise RuntimeError('not\\ntoday')",
            "leaves": "raise SystemExit(7)",
            "syntax": "def f(:",
            "module": "import a_module_that_nobody_has",
            "name": "other = 1",
            "kind": "graph = 5",
        }
        for name, text in files.items():
            (tmp_path / f"{name}_.py").write_text(text)
        graphs = {
            "good": "./good.py:graph",
            **{name: f"./{name}_.py:graph" for name in files},
            "gone": "./no.py:graph",
            "dotted": "a_package_that_nobody_has.flow:graph",
        }
        (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": graphs}))

        code, out, err = check(tmp_path / "langgraph.json")

        assert code == 1
        assert out == "ok     good: ./good.py:graph (sync)\n"
        *faults, last = (line for line in err.splitlines() if not line.startswith("  "))
        assert f"  {tmp_path}/raises_.py:1: {files['raises']}\n" in err
        assert last == "runwait: 8 of 9 graphs do not load"
        reasons = {
            "raises_.py: graph 'raises'": "RuntimeError: not today",
            "leaves_.py: graph 'leaves'": "SystemExit: 7",
            "syntax_.py: graph 'syntax'": "SyntaxError: invalid syntax (syntax_.py, line 1)",
            "module_.py: graph 'module'": "No module named 'a_module_that_nobody_has'; install",
            "name_.py: graph 'name'": "module 'name_' has no attribute 'graph'",
            "kind_.py: graph 'kind'": "an int is neither a graph nor a function that makes one",
            "no.py: graph 'gone'": "there is no such file",
            "langgraph.json: graph 'dotted'": "No module named 'a_package_that_nobody_has'",
        }
        for fault, (where, reason) in zip(faults, reasons.items(), strict=True):
            assert fault.startswith("fault  ")
            assert f"/{where}: " in fault
            assert reason in fault

    def test_is_content_where_all_load(self, check: Check) -> None:
        code, out, err = check(ROOT / "examples" / "langgraph.json")

        assert (code, err) == (0, "")
        assert len(out.splitlines()) == 5

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (None, "there is no such file (LANGGRAPH_CONFIG says which one is served)"),
            ("{", "not valid JSON"),
            ('{"graphs": {"a": "./a.py"}}', "must be like ./folder/file.py:name, not './a.py'"),
            ('{"graphs": {}}', "must name at least one graph"),
        ],
        ids=["missing", "broken", "without_name", "empty"],
    )
    def test_says_in_one_line_what_is_wrong_with_a_langgraph_json(
        self, check: Check, tmp_path: Path, text: str | None, reason: str
    ) -> None:
        config = tmp_path / "langgraph.json"
        if text is not None:
            config.write_text(text)

        code, out, err = check(config)

        assert (code, out) == (1, "")
        (line,) = err.splitlines()
        assert line.startswith(f"runwait: {config}: ")
        assert reason in line


def test_help_says_how_to_begin() -> None:
    done = CliRunner().invoke(cli.main, ["--help"])

    for each in ("runwait check", "runwait serve", "curl http://localhost:8000/runs/wait"):
        assert each in done.output
    for command in ("serve", "work", "check", "webhooks"):
        assert re.search(rf"^  {command} +\w", done.output, re.MULTILINE)
