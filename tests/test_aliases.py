"""The Agent Server's environment variables, taken for settings or refused."""

from __future__ import annotations

import os
from dataclasses import fields

import pytest

from runwait import aliases
from runwait.settings import Settings, SettingsError


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {each.name.upper() for each in fields(Settings)} | {*aliases.REFUSED}
    names |= {*aliases.WITHOUT_EFFECT}.union(*aliases.ALIASES.values())
    for name in names:
        # Set first, so that what a test sets is unset after it, by whatever name.
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


def read(monkeypatch: pytest.MonkeyPatch, **variables: str) -> tuple[Settings, list[str]]:
    """The settings, and what is said at the start."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_env()
    assert Settings.from_env() == settings  # as in each worker
    return settings, aliases.notes(os.environ)


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("REDIS_URI", "redis://a/1", "redis_url", "redis://a/1"),
        ("REDIS_URI_CUSTOM", "redis://a/1", "redis_url", "redis://a/1"),
        ("REDIS_KEY_PREFIX", "mine", "redis_prefix", "mine"),
        ("REDIS_KEY_PREFIX", "", "redis_prefix", "runwait"),
        ("N_JOBS_PER_WORKER", "10", "run_concurrency", 10),
        ("BG_JOB_TIMEOUT_SECS", "3600", "run_timeout_seconds", 3600.0),
        ("BG_JOB_MAX_RETRIES", "0", "run_max_attempts", 1),
        ("BG_JOB_MAX_RETRIES", "3", "run_max_attempts", 4),
        ("BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS", "180", "shutdown_grace_seconds", 180.0),
        ("LOG_JSON", "true", "log_format", "json"),
        ("LOG_JSON", "false", "log_format", "auto"),
    ],
)
def test_a_variable_that_means_the_same_as_a_setting_is_taken_for_it(
    monkeypatch, name, text, field, value
):
    settings, notes = read(monkeypatch, **{name: text})
    assert getattr(settings, field) == value
    assert notes == []


def test_every_alias_is_of_a_setting_and_tried_above():
    names = {each.name.upper() for each in fields(Settings)}
    assert aliases.ALIASES.keys() <= names
    (mark,) = (
        each
        for each in test_a_variable_that_means_the_same_as_a_setting_is_taken_for_it.pytestmark
        if each.name == "parametrize"
    )
    assert {row[0] for row in mark.args[1]} == set().union(*aliases.ALIASES.values())


def test_the_setting_itself_counts_and_that_is_said(monkeypatch):
    settings, notes = read(
        monkeypatch, REDIS_URL="redis://ours", REDIS_URI="redis://:secret@theirs"
    )
    assert settings.redis_url == "redis://ours"
    assert notes == ["REDIS_URI is set and does not count: REDIS_URL does"]


def test_of_two_other_names_the_first_counts(monkeypatch):
    settings, notes = read(monkeypatch, REDIS_URI="redis://b", REDIS_URI_CUSTOM="redis://a")
    assert settings.redis_url == "redis://a"
    assert notes == ["REDIS_URI is set and does not count: REDIS_URI_CUSTOM does"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("REDIS_URI", "http://:secret@a"),
        ("REDIS_KEY_PREFIX", "a secret"),
        ("N_JOBS_PER_WORKER", "0"),
        ("BG_JOB_MAX_RETRIES", "secret"),
        ("BG_JOB_MAX_RETRIES", "-1"),
        ("BG_JOB_TIMEOUT_SECS", "0"),
        ("BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS", "7200"),
        ("LOG_JSON", "secret"),
        ("LANGGRAPH_AUTH_TYPE", "langsmith"),
        ("LANGGRAPH_AUTH", '{"path": "./secret.py:auth"}'),
        ("LANGGRAPH_HTTP", '{"disable_store": true}'),
        ("LANGGRAPH_WEBHOOKS", '{"url": {}}'),
        ("LANGGRAPH_ENCRYPTION", '{"path": "./a.py:b"}'),
    ],
)
def test_a_value_that_cannot_be_used_is_named_by_the_name_that_was_given(monkeypatch, name, text):
    with pytest.raises(SettingsError) as got:
        read(monkeypatch, **{name: text, "PORT": "x"})
    assert {each.partition(": ")[0] for each in str(got.value).split("; ")} == {name, "PORT"}
    assert "secret" not in str(got.value)


@pytest.mark.parametrize("name", aliases.REFUSED)
def test_what_says_nothing_stops_no_start(monkeypatch, name):
    for nothing in ("", "{}", "null"):
        assert read(monkeypatch, **{name: nothing})[1] == []
    assert read(monkeypatch, LANGGRAPH_AUTH_TYPE="noop")[1] == []


def test_what_has_no_effect_is_named_in_one_line(monkeypatch):
    _, notes = read(monkeypatch, DATABASE_URI="postgres://x", RESUMABLE_STREAM_TTL_SECONDS="60")
    assert notes == ["of no effect here: DATABASE_URI, RESUMABLE_STREAM_TTL_SECONDS"]
