"""docs/faults.md keeps its word: every row names a test, and every such test is there."""

from __future__ import annotations

import ast
import re

from tests.servers import ROOT

TABLE = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs" / "faults.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| what fails")
]


def test_every_row_names_a_test_that_is_there():
    assert len(TABLE) > 10
    for _, happens, named in TABLE:
        found = re.fullmatch(r"`(\S+\.py)::(\w+)`", named)
        assert happens
        assert found, named
        file, name = found.groups()
        functions = ast.walk(ast.parse((ROOT / "tests" / file).read_text()))
        assert name in {each.name for each in functions if isinstance(each, ast.FunctionDef)}


def test_every_test_of_a_fault_that_lasts_cuts_loses_or_misreads_is_in_the_table():
    named = {row[2].strip("`").partition("::")[2] for row in TABLE}
    for kind in ("lasting", "cut", "lost", "versions"):
        file = ROOT / "tests" / "e2e" / f"test_redis_faults_{kind}.py"
        for each in ast.parse(file.read_text()).body:
            if isinstance(each, ast.FunctionDef) and each.name.startswith("test_"):
                assert each.name in named, each.name
