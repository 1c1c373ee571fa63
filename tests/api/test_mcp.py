"""What a tool's call is answered with; how it is asked is tested in tests/e2e/test_mcp.py."""

from __future__ import annotations

import json

import pytest

from runwait.api import current
from runwait.api.jsonrpc import Call
from runwait.api.mcp.calls import Results
from runwait.api.mcp.eras import Era
from runwait.api.mcp.questions import Waiting


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
    monkeypatch.setattr(current, "service", lambda: None)
    results = Results(Call("tools/call", {}, 1), Era(stateless=True, asks=asks))
    results.waiting = Waiting("a thread", "its proof") if asks else None
    result = json.loads(results.of(json.dumps(output).encode()))["result"]
    assert (result["isError"], result["resultType"]) == (False, "complete")
    expected = output if isinstance(output, dict) else {"output": output}
    assert result["structuredContent"] == expected
