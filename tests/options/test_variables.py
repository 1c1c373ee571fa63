"""What the start says of environment variables that do nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runwait.graphs.config import GraphLoadError, LanggraphConfig
from runwait.options.variables import notes

FILE = Path("/p/langgraph.json")


def told(env: dict[str, str] | None = None) -> list[str]:
    return [*notes(LanggraphConfig(path=FILE, graphs={}, dependencies=(), env=env or {}))]


@pytest.fixture(autouse=True)
def nothing_else_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WEB_CONCURENCY", "WEB_CONCURRENCY"),
        ("LANGRAPH_CONFIG", "LANGGRAPH_CONFIG"),
        ("API_KEY", "API_KEYS"),
        ("CORS_ALLOWED_ORIGINS", "CORS_ALLOW_ORIGINS"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("RUN_TIMEOUT", "RUN_TIMEOUT_SECONDS"),
        ("RUN_TIMEOUT_SECS", "RUN_TIMEOUT_SECONDS"),
    ],
)
def test_a_name_that_is_almost_a_settings_is_asked_about(monkeypatch, name, meant):
    monkeypatch.setenv(name, "1")
    assert told() == [f"{name} is set and is no setting: is {meant} meant?"]


@pytest.mark.parametrize(
    "name",
    [
        *("HOSTNAME", "DB_HOST", "REDIS_HOST", "REDIS_TLS_URL", "DATABASE_URL", "XDG_DATA_DIRS"),
        *("OPENAI_API_KEY", "RUNWAIT_API_KEY", "NEXT_PUBLIC_URL", "WEBHOOK_URL", "WEB_MEMORY"),
        *("LANGGRAPH_API_URL", "PORTS", "FORWARDED_ALLOW_IPS", "BG_JOB_TIMEOUT_SECS", "REDIS_URL"),
    ],
)
def test_what_others_may_have_set_is_passed_over(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert told() == []


def test_settings_of_the_env_file_are_said_to_reach_the_graphs_alone(monkeypatch):
    env = {"REDIS_URL": "redis://a", "LOG_LEVEL": "DEBUG", "REDIS_URI": "x", "SHOP": "a"}
    monkeypatch.setenv("LOG_LEVEL", "INFO")  # which counts for both
    assert told(env) == [
        f"{FILE}: env: REDIS_URL, REDIS_URI: for the graphs alone; "
        "the service has its settings from the environment"
    ]


@pytest.mark.parametrize("name", ["API_KEYS", "ISOLATE_KEYS", "LANGGRAPH_AES_KEY", "RATE_LIMIT"])
def test_a_protection_that_is_only_in_the_env_file_stops_the_start(monkeypatch, name):
    env = {name: "x", "REDIS_URL": "redis://a"}
    with pytest.raises(GraphLoadError, match=f"{FILE}: env: {name}: protects nothing there: "):
        told(env)
    monkeypatch.setenv(name, "x")
    assert len(told(env)) == 1
