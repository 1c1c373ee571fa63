"""Which access there is, by the settings and langgraph.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runwait.auth.access import KeyAccess
from runwait.auth.custom import CustomAccess
from runwait.graphs.config import GraphLoadError, LanggraphConfig, read
from runwait.options.auth import access_of, notes
from runwait.settings import Settings

FINE = """
from langgraph_sdk import Auth
auth = Auth()
@auth.authenticate
async def authenticate(authorization: str) -> str:
    return authorization
without = Auth()
asks = Auth()
@asks.authenticate
async def other(body: dict) -> str:
    return "ada"
number = 5
"""

Project = Callable[..., LanggraphConfig]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    def write(source: str = FINE, **document: Any) -> LanggraphConfig:
        (tmp_path / "my_auth.py").write_text(source)
        file = tmp_path / "langgraph.json"
        file.write_text(json.dumps({"graphs": {"a": "./a.py:graph"}, **document}))
        return read(file)

    return write


def test_without_keys_and_auth_nobody_is_asked(project):
    assert access_of(Settings(), project()) is None


def test_keys_let_in_and_may_be_isolated(project):
    access = access_of(Settings(api_keys="a"), project())
    assert isinstance(access, KeyAccess)
    assert not access.isolates
    isolated = access_of(Settings(api_keys="a", isolate_keys=True), project())
    assert isolated is not None
    assert isolated.isolates


@pytest.mark.parametrize(
    ("keys", "auth"),
    [
        (None, {"disable_studio_auth": True}),
        (None, {"path": None, "cache": {"cache_keys": ["a"]}}),
        (None, {"module": "./my_auth.py:auth"}),
        # Everybody who has a key would be let in, where handlers were to decide.
        ("a", {"module": "./my_auth.py:auth"}),
    ],
)
def test_an_auth_that_protects_nothing_stops_the_start(project, keys, auth):
    with pytest.raises(GraphLoadError, match=r"langgraph\.json: auth: protects nothing"):
        access_of(Settings(api_keys=keys), project(auth=auth))


def test_where_keys_protect_an_auth_may_say_less(project):
    config = project(auth={"disable_studio_auth": True})
    assert isinstance(access_of(Settings(api_keys="a"), config), KeyAccess)
    assert access_of(Settings(), project(auth={})) is None


@pytest.mark.parametrize("keys", [None, "a"])
def test_the_projects_own_auth_decides_where_there_is_one(project, keys):
    config = project(auth={"path": "./my_auth.py:auth"})
    access = access_of(Settings(api_keys=keys), config)
    assert isinstance(access, CustomAccess)
    assert not access.guards_own_routes
    config = project(
        auth={"path": "./my_auth.py:auth", "cache": {"cache_keys": ["Authorization"]}},
        http={"enable_custom_route_auth": True},
    )
    access = access_of(Settings(), config)
    assert access is not None
    assert access.guards_own_routes


def test_auth_without_authenticate_goes_with_keys(project):
    config = project(auth={"path": "./my_auth.py:without"})
    assert isinstance(access_of(Settings(api_keys="a"), config), CustomAccess)


@pytest.mark.parametrize(
    ("auth", "reason"),
    [
        ({"path": "./none.py:auth"}, r"none\.py: auth\.path: there is no such file"),
        ({"path": "./my_auth.py:missing"}, r"my_auth\.py: auth\.path: AttributeError"),
        ({"path": "./my_auth.py:number"}, r"must be a langgraph_sdk\.Auth, not int"),
        ({"path": "./my_auth.py:without"}, r"no handler for authenticate"),
        ({"path": "./my_auth.py:asks"}, r"authenticate wants 'body'"),
        ({"path": "./auth.ts:auth"}, r"there is no such file"),
        ({"path": "my_auth"}, r"must be like"),
        ({"path": 5}, r"must be like"),
        ({"path": "./my_auth.py:auth", "cache": 5}, r"auth\.cache"),
        ({"path": "./my_auth.py:auth", "cache": {"ttl_seconds": 5}}, r"auth\.cache\.cache_keys"),
        (
            {"path": "./my_auth.py:auth", "cache": {"cache_keys": ["a"], "ttl_seconds": 0}},
            r"auth\.cache\.ttl_seconds",
        ),
    ],
)
def test_what_does_not_load_says_where_and_why(project, auth, reason):
    with pytest.raises(GraphLoadError, match=reason):
        access_of(Settings(), project(auth=auth))


def test_what_raises_when_it_is_imported_says_so(project):
    config = project(source="raise ValueError('no secret')", auth={"path": "./my_auth.py:auth"})
    with pytest.raises(GraphLoadError, match=r"my_auth\.py: auth\.path: ValueError: no secret"):
        access_of(Settings(), config)


def test_isolated_keys_and_auth_exclude_each_other(project):
    with pytest.raises(GraphLoadError, match="ISOLATE_KEYS"):
        access_of(
            Settings(api_keys="a", isolate_keys=True), project(auth={"path": "./my_auth.py:auth"})
        )


@pytest.mark.parametrize(
    ("settings", "document", "told"),
    [
        ({}, {}, []),
        ({"host": "localhost"}, {}, []),
        ({"host": "::1"}, {}, []),
        ({"host": "0.0.0.0"}, {}, ["WHOEVER REACHES 0.0.0.0:8000"]),
        ({"host": "::"}, {}, ["WHOEVER REACHES"]),
        ({"host": "example.com"}, {}, ["WHOEVER REACHES"]),
        ({"host": "0.0.0.0", "api_keys": "a"}, {}, []),
        ({"host": "0.0.0.0"}, {"auth": {"path": "x"}}, []),
        ({"api_keys": "a"}, {"auth": {"path": "x"}}, ["API_KEYS is of no effect"]),
        (
            {"api_keys": "a"},
            {"auth": {"disable_studio_auth": True}},
            ["auth is of no effect without auth.path"],
        ),
        ({}, {"auth": {"path": "x", "disable_studio_auth": False}}, ["disable_studio_auth"]),
        ({}, {"auth": {"path": "x", "disable_studio_auth": True}}, []),
    ],
)
def test_what_whoever_starts_the_service_should_know_is_told(project, settings, document, told):
    found = list(notes(Settings(**settings), project(**document)))
    assert len(found) == len(told)
    assert all(text in each for text, each in zip(told, found, strict=True))
