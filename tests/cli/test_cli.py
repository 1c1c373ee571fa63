"""The command `runwait`, as a person calls it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from runwait import cli, create_app
from runwait.settings import Settings
from tests.cli.page import page
from tests.servers import ROOT


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
    for command in cli.main.commands:
        assert re.search(rf"^  {command} +\w", done.output, re.MULTILINE), command


def test_help_and_errors_of_use_import_nothing_that_takes_long() -> None:
    program = (
        "import sys; from click.testing import CliRunner; from runwait import cli;"
        "assert CliRunner().invoke(cli.main, ['threads', '--help']).exit_code == 0;"
        "print([each for each in ('flask', 'langgraph', 'redis', 'urllib.request')"
        " if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout.strip() == "[]", done.stderr


def test_the_page_has_the_help_of_every_command() -> None:
    written = (ROOT / "docs" / "cli.md").read_text()

    assert written == page(), "make it anew: .venv/bin/python -m tests.cli.page >docs/cli.md"


@pytest.mark.parametrize(("number", "read"), [("two", []), ("", [None]), ("3", ["3"])])
def test_the_number_of_workers_is_judged_before_gunicorn_reads_it(
    monkeypatch: pytest.MonkeyPatch, number: str, read: list[str | None]
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", number)
    found: list[str | None] = []
    monkeypatch.setattr(os, "execv", lambda *_: found.append(os.environ.get("WEB_CONCURRENCY")))
    printed = CliRunner().invoke(cli.main, ["serve"])
    assert found == read
    wrong = "runwait: WEB_CONCURRENCY: Not a valid integer.\n"
    assert printed.stderr == ("" if read else wrong)


class TestOpenapi:
    def test_prints_what_a_server_says_of_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LANGGRAPH_CONFIG", str(ROOT / "examples" / "langgraph.json"))
        served = create_app(Settings.from_env()).test_client().get("/openapi.json")

        printed = CliRunner().invoke(cli.main, ["openapi"])

        assert (printed.exit_code, json.loads(printed.output)) == (0, served.json)

    def test_says_in_a_line_why_it_cannot(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LANGGRAPH_CONFIG", "/nowhere/langgraph.json")

        printed = CliRunner().invoke(cli.main, ["openapi"])

        assert printed.exit_code == 1
        assert printed.stderr.startswith("runwait: /nowhere/langgraph.json: there is no such file")
        assert printed.stderr.count("\n") == 1
