"""What a tool's call is answered with; how it is asked is tested in tests/e2e/test_mcp.py."""

from __future__ import annotations

import json

import pytest

from runwait.api import mcp


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize(
    "output",
    [
        {"__error__": 1},
        {"__error__": {"error": "x"}},
        {"__interrupt__": 1},
        {"__interrupt__": []},
        {"__interrupt__": [1]},
        {"__interrupt__": [{"id": 5, "value": 1, "response_schema": None}]},
        ["__error__", "__interrupt__"],
    ],
    ids=str,
)
def test_a_graph_may_give_anything_under_the_names_of_errors_and_interrupts(
    monkeypatch, output, asks
):
    monkeypatch.setattr(mcp.current, "service", lambda: None)
    answer = json.loads(mcp._Running(1, True, asks).answer(json.dumps(output).encode()))
    result = answer["result"]
    assert (result["isError"], result["resultType"]) == (False, "complete")
    expected = output if isinstance(output, dict) else {"output": output}
    assert result["structuredContent"] == expected
