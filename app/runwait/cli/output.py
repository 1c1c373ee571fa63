"""What commands print: tables on a terminal, lines of tab-separated values or JSON elsewhere."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

# The last column is cut to what the terminal has room for, but not to less than this.
LEAST_WIDTH = 12


class OneLine(click.ClickException):
    """An error that is one line on standard error; the exit code is 1."""

    def show(self, file: Any = None) -> None:
        """Print it."""
        click.echo(f"runwait: {plain(self.message)}", err=True)


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print a line of JSON for each, with all that is known."
)


def plain(value: Any) -> str:
    """A value as one line of text in which nothing steers a terminal."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else " " if each.isspace() else "�" for each in text)


def listed(
    items: Iterable[dict[str, Any]],
    columns: dict[str, str | Callable[[dict[str, Any]], Any]],
    *,
    as_json: bool,
    none: str,
) -> None:
    """Print things, one a line.

    Args:
        items: the things.
        columns: the heading of each, and the name of the field or what makes its value.
        as_json: whether each is printed whole, as JSON.
        none: what to say on a terminal where there are none.
    """
    if as_json:
        for each in items:
            click.echo(json.dumps(each, ensure_ascii=True))
        return
    made = (
        [plain(of(each) if callable(of) else each.get(of)) for of in columns.values()]
        for each in items
    )
    if not sys.stdout.isatty():
        for row in made:
            click.echo("\t".join(row))
        return
    rows = list(made)
    if not rows:
        click.echo(none)
        return
    for line in table([*columns], rows, shutil.get_terminal_size().columns):
        click.echo(line)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterable[str]:
    """The lines of a table, of so many characters at most unless its last column has no room."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    before = sum(widths[:-1]) + 2 * (len(widths) - 1)
    widths[-1] = min(widths[-1], max(LEAST_WIDTH, width - before))
    yield click.style(_line(headings, widths).rstrip(), bold=True)
    for row in rows:
        yield _line(row, widths).rstrip()


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    cut = [
        cell if len(cell) <= width else f"{cell[: width - 1]}…"
        for cell, width in zip(cells, widths, strict=True)
    ]
    return "  ".join(cell.ljust(width) for cell, width in zip(cut, widths, strict=True))


def shown(value: Any, *, as_json: bool = False) -> None:
    """Print one thing as JSON: on a terminal over several lines."""
    indent = 2 if sys.stdout.isatty() and not as_json else None
    click.echo(json.dumps(value, ensure_ascii=True, indent=indent))


def each_of(items: Sequence[Any], label: str) -> Iterable[Any]:
    """The things, with a bar of progress on a terminal."""
    if not sys.stderr.isatty() or len(items) < 2:
        return items

    def shown() -> Iterable[Any]:
        with click.progressbar(items, label=label, file=sys.stderr) as bar:
            yield from bar

    return shown()
