"""The checkpointer could be a package of its own."""

from __future__ import annotations

import subprocess
import sys

from tests.servers import PATIENCE, ROOT

PROGRAM = """
import sys
import runwait.storage.checkpoint
ours = {name for name in sys.modules if name.split('.')[0] == 'runwait'}
print(*sorted(name for name in ours if not name.startswith('runwait.storage.checkpoint')))
print(*sorted({'flask', 'gunicorn', 'marshmallow'} & sys.modules.keys()))
"""


def test_importing_it_imports_no_flask_and_nothing_else_of_the_service() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )

    assert done.stdout.splitlines() == ["runwait runwait.storage", ""]


def test_none_of_its_modules_imports_from_the_service() -> None:
    for file in (ROOT / "app" / "runwait" / "storage" / "checkpoint").glob("*.py"):
        assert "from runwait" not in file.read_text()
        assert "import runwait" not in file.read_text()
