"""Programs that tests need from the machine."""

from __future__ import annotations

import os
import shutil

import pytest


def require(name: str) -> str:
    """The path of a program; a test is skipped by its name where the machine lacks it."""
    # Debian keeps servers in /usr/sbin, which is on the path of root alone.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is missing")
    return found
