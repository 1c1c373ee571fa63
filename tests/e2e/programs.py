"""Programs that tests need from the machine, and what they need from npm and PyPI.

`python -m tests.e2e.programs` installs all of the latter, however long that takes. A test that
comes upon something that is not there installs it too, but has only so much time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

CLIENTS = Path(__file__).resolve().parent / "clients"
JAVASCRIPT = Path(__file__).resolve().parent / "javascript"
# Of an installation in a test, over whatever network there is.
INSTALL_SECONDS = 110


def require(name: str) -> str:
    """The path of a program; a test is skipped by its name where the machine lacks it."""
    # Debian keeps servers in /usr/sbin, which is on the path of root alone.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is missing")
    return found


def javascript_sdk(seconds: float | None = INSTALL_SECONDS) -> Path:
    """A folder from which Node finds LangGraph's SDK, which is installed if it is not there."""
    require("node")
    npm = require("npm")
    locked = JAVASCRIPT / "package-lock.json"
    installed = JAVASCRIPT / "node_modules" / ".package-lock.json"
    # The file is as good a lock as any: tests of another process may install the same.
    with locked.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < locked.stat().st_mtime:
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=JAVASCRIPT, check=True, timeout=seconds)
    return JAVASCRIPT


def client(name: str, seconds: float | None = INSTALL_SECONDS) -> list[str]:
    """The command of a client's script in tests/e2e/clients, with what it needs installed in a
    virtual environment of its own if that is not there."""
    needed = CLIENTS / f"{name}.txt"
    environment = CLIENTS / f".venv-{name}"
    installed = environment / "installed"
    with needed.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < needed.stat().st_mtime:
            make = [sys.executable, "-m", "venv", "--clear", str(environment)]
            install = [str(environment / "bin" / "pip"), "install", "--quiet", "-r", str(needed)]
            for command in (make, install):
                subprocess.run(command, check=True, timeout=seconds)
            installed.touch()
    return [str(environment / "bin" / "python"), str(CLIENTS / f"{name}_client.py")]


def _install_all() -> None:
    def sdk() -> None:
        with contextlib.suppress(pytest.skip.Exception):
            javascript_sdk(None)

    names = [each.stem for each in CLIENTS.glob("*.txt")]
    with ThreadPoolExecutor() as pool:
        done = [pool.submit(sdk), *[pool.submit(client, each, None) for each in names]]
    for each in done:
        each.result()


if __name__ == "__main__":
    _install_all()
