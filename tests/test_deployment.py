"""The files that a deployment is made from agree with the code and with each other."""

from __future__ import annotations

import configparser
import importlib.metadata
import json
import shlex
from collections.abc import Iterable
from dataclasses import fields
from importlib.metadata import Distribution

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
    """The names of requirements and of all that they need in turn, as installed here."""
    found: set[str] = set()
    waiting = list(wanted)
    for each in waiting:
        if each.marker is not None and not each.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(each.name)
        if name not in found:
            found.add(name)
            waiting += map(Requirement, Distribution.from_name(each.name).requires or [])
    return found


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
