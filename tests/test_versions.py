"""The start checks the packages around Runwait before it imports them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from runwait.version import unmet
from tests.servers import PATIENCE, ROOT

STARTS = {
    "serve": ["-m", "runwait.cli", "serve"],
    "work": ["-m", "runwait.cli", "work"],
    "check": ["-m", "runwait.cli", "check"],
    "gunicorn": ["-m", "gunicorn", "-c", "config/gunicorn.py", "wsgi:app"],
    "gunicorn beside a project": ["-m", "gunicorn", "-c", "python:runwait.server.gunicorn", "x:y"],
}


def pretend(folder: Path, name: str, version: str, *requires: str) -> None:
    """Put the metadata of a package into a folder, as pip leaves it there."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]))


@pytest.mark.parametrize("package", [("langgraph", "0.6.11"), ("marshmallow", "3.26.1")])
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_package_that_is_too_old_stops_the_start_with_one_line(
    start: list[str], package: tuple[str, str], tmp_path: Path
) -> None:
    pretend(tmp_path, *package)

    done = subprocess.run(
        [sys.executable, *start],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"runwait: {package[0]}")
    assert line.endswith(f" is needed, and {' '.join(package)} is installed")


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, future = "old-package>=2", "future_package<28,>=27"
    elsewhere = 'old-package>=9; python_version < "3"'
    pretend(tmp_path, "needy", "1", old, future, "missing-package", elsewhere)
    pretend(tmp_path, "old_package", "1.9")
    pretend(tmp_path, "future_package", "28.0rc1")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert unmet("needy") == [
        "old-package>=2 is needed, and old-package 1.9 is installed",
        "future_package<28,>=27 is needed, and future_package 28.0rc1 is installed",
        "missing-package is needed, and not installed",
    ]


def test_what_is_installed_here_will_do() -> None:
    assert metadata.requires("runwait")
    assert unmet() == []


def test_a_folder_that_nobody_installed_is_not_judged() -> None:
    assert unmet("a-name-that-no-package-has") == []


def test_runwait_brings_no_numpy() -> None:
    """None of the packages that come with it is large and of no use to it."""
    found: set[str] = set()
    waiting = ["runwait"]
    for name in waiting:
        for requirement in map(Requirement, metadata.requires(name) or []):
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and requirement.name.lower() not in found:
                found.add(requirement.name.lower())
                waiting.append(requirement.name)

    assert found >= {"flask", "langgraph", "langchain-core", "pydantic"}
    assert not found & {"numpy", "pandas", "scipy", "torch"}
