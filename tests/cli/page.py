"""Makes docs/cli.md of page.md and of the commands' own help.

.venv/bin/python -m tests.cli.page >docs/cli.md
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from runwait.cli import main

WIDTH = 92
BEFORE = (Path(__file__).parent / "page.md").read_text()


def page() -> str:
    """The page."""
    return BEFORE + "".join(_sections(main, "runwait", None))


def _sections(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    own = name.rpartition(" ")[2]
    context = command.make_context(
        own, [], parent, resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH
    )
    level = "##" if name.count(" ") < 2 else "###"
    yield f"\n{level} {name}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from _sections(each, f"{name} {each.name}", context)


if __name__ == "__main__":
    print(page(), end="")
