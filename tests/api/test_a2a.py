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
from tests.e2e.programs import client as official
from tests.servers import PATIENCE

GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    name: str


graph = StateGraph(State).add_node("greet", lambda state: state).add_edge(START, "greet").compile()
"""
CARD = "/.well-known/agent-card.json"


def client(
    folder: Path,
    http: dict[str, Any] | None = None,
    auth: dict[str, Any] | None = None,
    **settings: Any,
) -> FlaskClient:
    """A client of a project with one graph; nothing is started."""
    (folder / "the_only_agent.py").write_text(GRAPH)
    config = {
        "dependencies": ["."],
        "graphs": {"one": "./the_only_agent.py:graph"},
        "http": http or {},
        "auth": auth or {},
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


AUTH = """
from langgraph_sdk import Auth
auth = Auth()
@auth.authenticate
def authenticate(authorization: str) -> str:
    return "ada"
"""
FLOW = {"tokenUrl": "https://id.example/token", "scopes": {"read": "Reads."}}
OIDC = {"type": "openIdConnect", "openIdConnectUrl": "https://id.example/oidc"}
SAID = {
    "securitySchemes": {
        "oidc": OIDC,
        "oauth": {"type": "oauth2", "flows": {"clientCredentials": FLOW, "password": FLOW}},
        "odd": {"type": "odd"},
    },
    "security": [{"oidc": ["read"]}, {"odd": []}],
}
READ = """
import json, sys
from a2a.client.card_resolver import parse_agent_card
from a2a.compat.v0_3.types import AgentCard
from google.protobuf.json_format import MessageToDict
text = sys.stdin.read()
old = AgentCard.model_validate_json(text).model_dump(mode="json", by_alias=True, exclude_none=True)
print(json.dumps([MessageToDict(parse_agent_card(json.loads(text))), old]))
"""


def read_by_clients(card: bytes) -> list[dict[str, Any]]:
    """A card as the official clients of 1.0 and 0.3 read it."""
    command = [official("a2a")[0], "-c", READ]
    done = subprocess.run(command, input=card, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr.decode()
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_card_says_how_callers_are_known_where_they_are_asked(tmp_path: Path) -> None:
    assert "securitySchemes" not in client(tmp_path).get(CARD).get_json()
    asked = client(tmp_path, api_keys="secret").get(CARD, headers={"x-api-key": "secret"})
    assert b"secret" not in asked.data
    new, old = read_by_clients(asked.data)
    assert new["securityRequirements"] == [
        {"schemes": {"key": {}}},
        {"schemes": {"bearer": {}}},
    ]
    key = new["securitySchemes"]["key"]["apiKeySecurityScheme"]
    assert (key["location"], key["name"]) == ("header", "x-api-key")
    assert new["securitySchemes"]["bearer"]["httpAuthSecurityScheme"]["scheme"] == "bearer"
    assert old["security"] == [{"key": []}, {"bearer": []}]
    assert old["securitySchemes"]["key"]["type"] == "apiKey"
    assert old["securitySchemes"]["key"]["in"] == "header"


def test_a_card_says_what_the_project_says_of_its_own_auth(tmp_path: Path) -> None:
    (tmp_path / "the_auth_of_agents.py").write_text(AUTH)
    path = {"path": "./the_auth_of_agents.py:auth"}
    given = {"Authorization": "Bearer x"}
    asked = client(tmp_path, auth={**path, "openapi": SAID}).get(CARD, headers=given)
    new, old = read_by_clients(asked.data)
    assert new["securityRequirements"] == [{"schemes": {"oidc": {"list": ["read"]}}}]
    oidc = new["securitySchemes"]["oidc"]["openIdConnectSecurityScheme"]
    assert oidc == {"openIdConnectUrl": OIDC["openIdConnectUrl"]}
    flows = new["securitySchemes"]["oauth"]["oauth2SecurityScheme"]["flows"]
    assert flows["clientCredentials"]["tokenUrl"] == FLOW["tokenUrl"]
    assert "odd" not in new["securitySchemes"]
    assert old["security"] == [{"oidc": ["read"]}]
    assert old["securitySchemes"]["oidc"] == OIDC
    # Nobody else knows what the project's code asks for.
    assert "securitySchemes" not in client(tmp_path, auth=path).get(CARD, headers=given).get_json()


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
