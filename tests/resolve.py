"""Show that Runwait can be installed together with what projects use: `make resolve`.

pip is asked, without installing anything, for Runwait and the newest version of one other package
at a time. The version is named, so that pip cannot go back to an older one that would do. A line
each; the exit code is 1 if there is a conflict.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BESIDE = [
    "langchain",
    "deepagents",
    "langchain-openai",
    "langchain-anthropic",
    "langchain-google-genai",
    "langchain-google-vertexai",
    "supabase",
    "langgraph-supervisor",
    "langchain-mcp-adapters",
]
# What LangGraph brings and other packages are particular about.
SHOWN = ["langgraph", "langchain-core", "pydantic", "websockets", "tenacity", "python-dotenv"]


class Conflict(Exception):
    """pip finds no versions that fit together; the text is why."""


def main() -> int:
    """Try each of them."""
    conflicts = 0
    with tempfile.TemporaryDirectory() as folder:
        _pip("wheel", "--no-deps", "--wheel-dir", folder, str(ROOT))
        (wheel,) = map(str, Path(folder).iterdir())
        for name in BESIDE:
            newest = f"{name}=={resolved('--no-deps', name)[name]}"
            try:
                found = resolved(wheel, newest)
            except Conflict as conflict:
                conflicts += 1
                print(f"conflict  {newest}: {conflict}", flush=True)
            else:
                versions = ", ".join(f"{each} {found[each]}" for each in SHOWN if each in found)
                print(f"ok        {newest} ({versions})", flush=True)
    return 1 if conflicts else 0


def resolved(*arguments: str) -> dict[str, str]:
    """The packages that pip would install in an empty environment, and their versions."""
    report = _pip(
        "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-", *arguments
    )
    metadata = [each["metadata"] for each in json.loads(report)["install"]]
    return {each["name"].lower().replace("_", "-"): each["version"] for each in metadata}


def _pip(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Conflict(" ".join(done.stderr.split()))
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
