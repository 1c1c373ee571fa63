"""Settings from the environment."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from runwait.settings import EXAMPLES, Settings, SettingsError


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for each in fields(Settings):
        monkeypatch.delenv(each.name.upper(), raising=False)
    monkeypatch.delenv("API_KEYS", raising=False)


def test_nothing_has_to_be_set(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Settings.from_env() == Settings(langgraph_config=EXAMPLES, data_dir=tmp_path / "data")


def test_what_is_set_to_nothing_is_not_set(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for each in fields(Settings):
        monkeypatch.setenv(each.name.upper(), "")
    monkeypatch.setenv("API_KEYS", "")
    assert Settings.from_env() == Settings(langgraph_config=EXAMPLES, data_dir=tmp_path / "data")


def test_a_langgraph_json_in_the_folder_comes_before_the_examples(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("langgraph.json").touch()
    assert Settings.from_env().langgraph_config == tmp_path / "langgraph.json"
    monkeypatch.setenv("LANGGRAPH_CONFIG", "other.json")
    assert Settings.from_env().langgraph_config == tmp_path / "other.json"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PORT", "80", 80),
        ("REDIS_URL", "rediss://u:p@host:1/2", "rediss://u:p@host:1/2"),
        ("REDIS_PREFIX", "my:app", "my:app"),
        ("DATA_DIR", "/somewhere", Path("/somewhere")),
        ("RUN_TIMEOUT_SECONDS", "0.5", 0.5),
        ("RESULT_TTL_SECONDS", "0", 0.0),
        ("SHUTDOWN_GRACE_SECONDS", "0", 0.0),
        ("WEBHOOK_REQUIRE_HTTPS", "true", True),
        ("LOG_FORMAT", "text", "text"),
        ("STATE_MODULES", "one, two.three", ["one", "two.three"]),
    ],
)
def test_a_setting_is_read_from_the_variable_of_its_name(monkeypatch, name, text, value):
    monkeypatch.setenv(name, text)
    assert getattr(Settings.from_env(), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CORS_ALLOW_ORIGINS", "https://a.example/"),
        ("MCP_ALLOWED_ORIGINS", "a.example"),
        ("PORT", "abc"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("WEB_CONCURRENCY", "0"),
        ("WEB_CONCURRENCY", "1.5"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "redis://:secret@host:port/0"),
        ("REDIS_URL", "redis://:secret@host:65536/0"),
        ("REDIS_URL", "redis://:secret@host/name"),
        ("REDIS_URL", "redis://:secret@host/-1"),
        ("REDIS_URL", "redis://:secret@host/0?db=secret"),
        ("REDIS_URL", "redis://:secret@host/0?secret=1"),
        ("REDIS_URL", "redis://host/0?protocol=9"),
        ("REDIS_URL", "rediss://host/0?ssl_cert_reqs=secret"),
        ("REDIS_URL", "redis://:secret#1@host:6379/0"),
        ("REDIS_URL", "redis://:1#secret@host:6379/0"),
        ("REDIS_URL", "redis://:1?secret@host:6379/0"),
        ("REDIS_URL", "redis://:1/secret@host:6379/0"),
        ("REDIS_URL", "redis://:secret[@host:6379/0"),
        ("REDIS_URL", "redis://[::1/0"),
        ("REDIS_URL", "unix://"),
        ("REDIS_URL", "redis+cluster://:secret@host/1"),
        ("REDIS_URL", "redis+cluster://host,,other"),
        ("REDIS_URL", "redis+sentinel://:secret@host:1,other:2"),
        ("REDIS_URL", "redis+sentinel://host:port/name"),
        ("REDIS_URL", "redis+sentinel://:secret@host/name/secret"),
        ("REDIS_URL", "redis+sentinel://:1/secret@host/name"),
        ("REDIS_URL", "unix+sentinel:///socket"),
        ("REDIS_CLUSTER", "true"),
        ("REDIS_CLUSTER", "perhaps"),
        ("REDIS_WAIT_REPLICAS", "1"),
        ("REDIS_WAIT_REPLICAS", "-1"),
        ("REDIS_TLS_VERIFY", "perhaps"),
        ("REDIS_TLS_VERIFY", "required"),
        ("REDIS_TLS_CA_FILE", __file__),
        ("REDIS_PREFIX", "a b"),
        ("REDIS_PREFIX", "{a}"),
        ("REDIS_MAX_CONNECTIONS", "1"),
        ("HEARTBEAT_SECONDS", "0"),
        ("HEARTBEAT_SECONDS", "nan"),
        ("HEARTBEAT_SECONDS", "inf"),
        ("RUN_CONCURRENCY", "0"),
        ("WAITERS_MAX", "-1"),
        ("RUN_TIMEOUT_SECONDS", "0"),
        ("RUN_LEASE_SECONDS", "0.5"),
        ("SHUTDOWN_GRACE_SECONDS", "-1"),
        ("RESULT_TTL_SECONDS", "x"),
        ("MAX_REQUEST_BYTES", "1k"),
        ("REQUEST_TIMEOUT_SECONDS", "0"),
        ("WEBHOOK_REQUIRE_HTTPS", "maybe"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("API_KEYS", "a,"),
        ("API_KEYS", "secret with spaces"),
        ("API_KEYS", "ada=sha256:secret"),
        ("ISOLATE_KEYS", "true"),
        ("RATE_LIMIT", "many"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_in_one_line(monkeypatch, name, text):
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError) as raised:
        Settings.from_env()
    assert str(raised.value).startswith(f"{name}: ")
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://host",
        "redis://:p@ss@host:1/2",
        "redis://user:p%23ss@[::1]:6379/",
        "rediss://host/0?ssl_cert_reqs=none",
        "redis+sentinel://:p%23ss@[::1]:26380,other/name/2?sentinel_password=secret",
        "rediss+sentinel://user:p@ss@host/name",
        "redis+cluster://user:pass@host:1,[::1]:2",
        "rediss+cluster://host?ssl_cert_reqs=none",
        "redis://host?db=3&socket_timeout=5&decode_responses=true",
        "unix:///run/redis@1.sock?db=1",
    ],
)
def test_a_redis_url_that_can_be_used_is_taken(monkeypatch, url):
    monkeypatch.setenv("REDIS_URL", url)
    assert Settings.from_env().redis_url == url


@pytest.mark.parametrize(
    "url", ["redis://:secret@host/1", "unix:///socket", "redis+sentinel://host/name"]
)
def test_what_cannot_be_a_node_of_a_cluster_is_refused(monkeypatch, url):
    monkeypatch.setenv("REDIS_URL", url)
    monkeypatch.setenv("REDIS_CLUSTER", "true")
    with pytest.raises(SettingsError, match=r"^REDIS_CLUSTER: (?!.*secret)"):
        Settings.from_env()


def test_a_cluster_keeps_the_user_and_the_options_of_its_url(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "rediss://me:secret@host:7000?ssl_check_hostname=false")
    monkeypatch.setenv("REDIS_CLUSTER", "true")
    monkeypatch.setenv("REDIS_TLS_VERIFY", "none")
    url = Settings.from_env().storage_url
    assert url.startswith("rediss+cluster://me:secret@host:7000?ssl_cert_reqs=none&")
    assert "ssl_check_hostname=false" in url


@pytest.mark.parametrize("file", ["absent.pem", __file__])
def test_a_file_of_certificates_has_to_hold_some(monkeypatch, file):
    monkeypatch.setenv("REDIS_URL", "rediss://host")
    monkeypatch.setenv("REDIS_TLS_CA_FILE", file)
    with pytest.raises(SettingsError, match=f"REDIS_TLS_CA_FILE: .*{Path(file).name}: "):
        Settings.from_env()


def test_all_values_that_cannot_be_used_are_named_at_once(monkeypatch):
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("LOG_FORMAT", "y")
    with pytest.raises(SettingsError, match=r"PORT: .*; LOG_FORMAT: "):
        Settings.from_env()


def test_without_a_redis_url_the_embedded_server_of_the_data_folder_is_used(tmp_path):
    settings = Settings(data_dir=tmp_path)
    assert settings.embedded
    assert settings.storage_url.startswith("unix://")
    assert settings.storage_url != Settings(data_dir=tmp_path / "other").storage_url
    given = Settings(redis_url="redis://host")
    assert not given.embedded
    assert given.storage_url == "redis://host"


@pytest.mark.parametrize(
    ("environment", "host"),
    [
        ({}, "127.0.0.1"),
        ({"PORT": "5000"}, "0.0.0.0"),
        ({"PORT": "5000", "HOST": "10.0.0.1"}, "10.0.0.1"),
        ({"HOST": "::1"}, "::1"),
    ],
)
def test_it_is_reached_from_elsewhere_where_a_port_is_given(monkeypatch, environment, host):
    for name in ("PORT", "HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_env().host == host
