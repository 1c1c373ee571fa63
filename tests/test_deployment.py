"""The files that a deployment is made from agree with the code and with each other."""

from __future__ import annotations

import configparser
import http.server
import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import fields
from importlib.metadata import Distribution
from typing import ClassVar

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from runwait.server.worker import REQUEST_THREADS
from runwait.settings import Settings
from tests.servers import ROOT

# What a basic dyno gives, and what a process needs beside request threads and run threads.
DYNO_THREADS = 256
OTHER_THREADS = 48


def declared(section: str, option: str) -> list[Requirement]:
    """The requirements in an option of setup.cfg, as far as they are this Python's."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    found = [Requirement(line) for line in parser[section][option].strip().splitlines()]
    return [each for each in found if each.marker is None or each.marker.evaluate()]


def pinned(file: str) -> dict[str, str]:
    """The versions in a requirements file, of what this Python needs."""
    lines = (ROOT / file).read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line[0] not in "#-"]
    versions = {}
    for each in wanted:
        (version,) = each.specifier
        assert version.operator == "=="
        if each.marker is None or each.marker.evaluate():
            versions[canonicalize_name(each.name)] = version.version
    return versions


def closure(wanted: Iterable[Requirement]) -> set[str]:
    """The names of requirements and of all that they need in turn, as installed here.

    pip is not among them: each virtual environment brings its own.
    """
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(each, "") for each in wanted]
    for each, extra in waiting:
        if each.marker is not None and not each.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(each.name)
        found.add(name)
        for extra_of_it in {"", *each.extras} - {extra for had, extra in seen if had == name}:
            seen.add((name, extra_of_it))
            needs = Distribution.from_name(each.name).requires or []
            waiting += [(Requirement(need), extra_of_it) for need in needs]
    return found - {"pip"}


RUNTIME = declared("options", "install_requires")
TEST = declared("options.extras_require", "test")


def test_the_requirements_pin_all_that_the_service_needs_and_nothing_else() -> None:
    assert pinned("requirements.txt").keys() == closure(RUNTIME)


def test_the_test_requirements_pin_all_that_the_tests_need_besides() -> None:
    both = pinned("requirements.txt") | pinned("requirements-test.txt")

    assert both.keys() == closure([*RUNTIME, *TEST])


@pytest.mark.parametrize("requirement", RUNTIME, ids=str)
def test_the_oldest_version_that_is_declared_to_do_is_one_that_tests_run_with(
    requirement: Requirement,
) -> None:
    (least,) = [each.version for each in requirement.specifier if each.operator == ">="]

    oldest = pinned("requirements-oldest.txt")[canonicalize_name(requirement.name)]

    assert Version(least) == Version(oldest)


@pytest.mark.parametrize("requirement", [*RUNTIME, *TEST], ids=str)
def test_each_pinned_version_is_one_that_is_declared_to_do(requirement: Requirement) -> None:
    both = pinned("requirements.txt") | pinned("requirements-test.txt")

    assert both[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_manifest_sets_only_what_there_is_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = json.loads((ROOT / "app.json").read_text())["env"]
    assert manifest.keys() <= {field.name.upper() for field in fields(Settings)}
    for name, entry in manifest.items():
        monkeypatch.setenv(name, entry["value"])

    settings = Settings.from_env()

    threads = REQUEST_THREADS + settings.run_concurrency + OTHER_THREADS
    assert settings.web_concurrency * threads <= DYNO_THREADS
    assert (ROOT / settings.langgraph_config).exists()


def test_the_procfile_and_make_serve_start_the_same_command() -> None:
    name, _, command = (ROOT / "Procfile").read_text().splitlines()[0].partition(": ")

    assert name == "web"
    assert shlex.split(command)[0] in {
        script.name for script in importlib.metadata.entry_points(group="console_scripts")
    }
    assert f"$(BIN)/{command}" in (ROOT / "Makefile").read_text()


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, each with what follows it, on one line."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line.strip()]


class TestTheImage:
    def test_begins_with_a_version_of_python_that_runwait_is_for(self) -> None:
        bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
        assert {*bases} == {"python:3.13-slim"}

    def test_has_what_is_in_the_repository_and_let_into_it(self) -> None:
        copied = [
            file
            for name, rest in instructions()
            if name == "COPY" and "--from" not in rest
            for file in rest.split()[:-1]
        ]
        let_in = (ROOT / ".dockerignore").read_text().splitlines()
        assert all((ROOT / each).exists() and f"!{each}" in let_in for each in copied)

    def test_serves_as_no_root_and_hears_signals_itself(self) -> None:
        last = instructions()[-1]
        assert last == ("CMD", '["runwait", "serve"]')
        users = [rest for name, rest in instructions() if name == "USER"]
        assert users == ["runwait"]

    def test_is_healthy_while_it_answers(self) -> None:
        (check,) = [rest for name, rest in instructions() if name == "HEALTHCHECK"]
        command = json.loads(check.partition("CMD ")[2])
        assert command[0] == "python"
        with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            for status in (200, 503):
                Answers.status = status
                done = subprocess.run(
                    [sys.executable, *command[1:]],
                    env={"PORT": str(server.server_port)},
                    stderr=subprocess.DEVNULL,
                )
                assert (done.returncode == 0) == (status == 200)
            server.shutdown()
        assert Answers.asked == ["/ok", "/ok"]


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers with a status, and notes what it is asked for."""

    status = 200
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Called with each request."""
        self.asked.append(self.path)
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""
