"""docs/coming-from-the-agent-server.md says of each variable and key what the code does with it."""

from __future__ import annotations

import re

import pytest

from runwait import aliases
from runwait.graphs import config
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "coming-from-the-agent-server.md").read_text()
ROWS = {
    name: cells[1]
    for line in PAGE.splitlines()
    if line.startswith("| `")
    for cells in [[cell.strip() for cell in line.strip("|").split(" | ")]]
    for name in re.findall(r"`(.+?)`", cells[0])
}


@pytest.mark.parametrize("setting", aliases.ALIASES)
def test_every_alias_is_said_to_be_taken_for_its_setting(setting):
    for name in aliases.ALIASES[setting]:
        assert re.search(rf"taken for `{setting}\b", ROWS[name], re.IGNORECASE), name


def test_what_stops_the_start_and_what_has_no_effect_is_said_to_and_nothing_else():
    known = {*aliases.REFUSED, *aliases.WITHOUT_EFFECT}.union(*aliases.ALIASES.values())
    for name, text in ROWS.items():
        if name.isupper() and name not in known:
            assert text.startswith("The same here"), name
    assert all("top" in ROWS[name] and "start" in ROWS[name] for name in aliases.REFUSED)
    for name in aliases.WITHOUT_EFFECT:
        assert ROWS[name].startswith("No effect"), name


def test_every_key_of_the_sections_that_are_read_is_there():
    leaves = {
        f"{section}.{name}"
        for section, names in config.KNOWN.items()
        for name in names
        if f"{section}.{name}" not in config.KNOWN
    }
    for key in leaves:
        assert any(key.startswith(row) or key.endswith(f".{row}") for row in ROWS), key


def test_keys_of_no_effect_are_said_to_have_none():
    for section in ("checkpointer", "priority"):
        for name in config._UNSUPPORTED[section]:
            assert ROWS[f"{section}.{name}"].startswith("No effect")
