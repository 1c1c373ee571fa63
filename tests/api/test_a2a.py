"""Agent cards: whose they are, and where they say that the agent is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from runwait import create_app
from runwait.settings import Settings, SettingsError

GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    name: str


graph = StateGraph(State).add_node("greet", lambda state: state).add_edge(START, "greet").compile()
"""
CARD = "/.well-known/agent-card.json"


def client(folder: Path, http: dict[str, Any] | None = None, **settings: Any) -> FlaskClient:
    """A client of a project with one graph; nothing is started."""
    (folder / "the_only_agent.py").write_text(GRAPH)
    config = {
        "dependencies": ["."],
        "graphs": {"one": "./the_only_agent.py:graph"},
        "http": http or {},
    }
    (folder / "langgraph.json").write_text(json.dumps(config))
    return create_app(
        Settings(langgraph_config=folder / "langgraph.json", **settings)
    ).test_client()


def test_the_only_graph_needs_no_name(tmp_path: Path) -> None:
    asked = client(tmp_path)
    card = asked.get(CARD).get_json()
    assert card["name"] == "one"
    assert asked.get("/a2a/one" + CARD).get_json() == card
    assert card["url"].startswith("http://localhost/a2a/")


def test_the_url_has_the_prefix_and_the_public_name(tmp_path: Path) -> None:
    prefixed = client(tmp_path, mount_prefix="/api")
    assert prefixed.get("/api" + CARD).get_json()["url"].startswith("http://localhost/api/a2a/")
    named = client(tmp_path, mount_prefix="/api", public_url="https://agents.example/")
    card = named.get("/api" + CARD).get_json()
    assert card["url"].startswith("https://agents.example/api/a2a/")
    assert {each["url"] for each in card["supportedInterfaces"]} == {card["url"]}


def test_it_can_be_turned_off_and_is_not_imported_then(tmp_path: Path) -> None:
    off = client(tmp_path, {"disable_a2a": True})
    assert off.get("/a2a/one" + CARD).status_code == 404
    assert off.post("/a2a/one", json={}).status_code == 404
    assert off.get(CARD).status_code == 404
    check = (
        "import sys; from runwait import create_app; from runwait.settings import Settings;"
        "from pathlib import Path;"
        f"create_app(Settings(langgraph_config=Path({str(tmp_path / 'langgraph.json')!r})));"
        "sys.exit('runwait.api.a2a' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize(
    "url", ["agents.example", "ftp://x", "https://", "https://x?y", "https://a@b"]
)
def test_a_public_url_that_is_none_stops_the_start(url: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("PUBLIC_URL", url)
    with pytest.raises(SettingsError, match="PUBLIC_URL"):
        Settings.from_env()
