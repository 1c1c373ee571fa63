"""What commands print."""

from __future__ import annotations

import sys

import click
import pytest

from runwait.cli import output

COLUMNS = {"ID": "id", "MORE": lambda each: each["id"] * 2, "TEXT": "text"}
THINGS = [{"id": 1, "text": "a\tb\nc"}, {"id": 20, "text": "\x1b[31mred\x07" + "x" * 100}]


def printed(capsys: pytest.CaptureFixture[str], things: list[dict], *, as_json=False) -> str:
    output.listed(things, COLUMNS, as_json=as_json, none="Nothing.")
    return capsys.readouterr().out


def test_a_pipe_gets_tab_separated_lines(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, THINGS)

    assert out.splitlines()[0] == "1\t2\ta b c"
    assert [len(line.split("\t")) for line in out.splitlines()] == [3, 3]


def test_nothing_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, THINGS).splitlines()[1].split("\t")[2].startswith("�[31mred�xxx")
    for json in (False, True):
        out = printed(capsys, [{"id": 1, "text": "\x1b]0;\x9b\u202e"}], as_json=json)
        assert out.isascii() or "�]0;��" in out
        assert out.strip().isprintable() or "\t" in out


def test_json_is_a_line_for_each_with_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, [{"id": 1, "text": "é\n"}], as_json=True) == (
        '{"id": 1, "text": "\\u00e9\\n"}\n'
    )


def test_a_terminal_gets_a_table_as_wide_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")

    lines = printed(capsys, THINGS).splitlines()

    assert click.unstyle(lines[0]).split() == ["ID", "MORE", "TEXT"]
    assert lines[1] == "1   2     a b c"
    assert len(lines[2]) == 40
    assert lines[2].endswith("…")
    assert printed(capsys, []) == "Nothing.\n"


def test_a_narrow_terminal_breaks_lines_rather_than_all_values() -> None:
    lines = [*output.table(["A", "B"], [["x" * 50, "y" * 50]], 20)]

    assert lines[1] == "x" * 50 + "  " + "y" * (output.LEAST_WIDTH - 1) + "…"
