"""Assistants as such."""

from __future__ import annotations

import pytest

from runwait.graphs.assistants import Assistant, is_uuid


def test_a_graphs_own_assistant_has_the_id_that_clients_know() -> None:
    assert Assistant.of_graph("agent").assistant_id == "fe096781-5601-53d2-b2f6-0d3403f7e9ca"


def test_a_graphs_own_assistant_belongs_to_the_system() -> None:
    made = Assistant.of_graph("agent", "Does things", "2026-01-02T03:04:05.000006+00:00")
    assert made.public() == {
        "assistant_id": "fe096781-5601-53d2-b2f6-0d3403f7e9ca",
        "graph_id": "agent",
        "config": {},
        "context": {},
        "metadata": {"created_by": "system"},
        "name": "agent",
        "description": "Does things",
        "version": 1,
        "created_at": "2026-01-02T03:04:05.000006+00:00",
        "updated_at": "2026-01-02T03:04:05.000006+00:00",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fe096781-5601-53d2-b2f6-0d3403f7e9ca", True),
        ("FE096781-5601-53D2-B2F6-0D3403F7E9CA", True),
        ("fe096781560153d2b2f60d3403f7e9ca", False),
        ("{fe096781-5601-53d2-b2f6-0d3403f7e9ca}", False),
        ("agent", False),
        ("", False),
    ],
)
def test_a_uuid_is_known_by_its_usual_form(text: str, expected: bool) -> None:
    assert is_uuid(text) is expected
