"""TLS to Redis, with a certificate that signed itself, as Heroku's."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runwait.settings import Settings
from runwait.storage.connection import Script, Storage, StorageUnavailable
from runwait.storage.subscriber import Subscriber
from tests.e2e.programs import require
from tests.ports import free_port
from tests.servers import RedisServer, eventually

GET = Script.of("return redis.call('GET', KEYS[1])")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that signed itself; its key is beside it."""
    folder = tmp_path_factory.mktemp("certificate")
    made = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=redis -keyout key.pem -out cert.pem"
    made += " -addext subjectAltName=IP:127.0.0.1"
    openssl = [require("openssl"), *made.split()]
    subprocess.run(openssl, cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, certificate: Path
) -> Iterator[tuple[RedisServer, int]]:
    """A Redis, and its port with TLS. Valkey's wheel has none."""
    port = free_port()
    tls = {"port": port, "cert-file": certificate, "key-file": certificate.with_name("key.pem")}
    tls |= {"ca-cert-file": certificate, "auth-clients": "no"}
    arguments = [text for name, value in tls.items() for text in (f"--tls-{name}", str(value))]
    server = RedisServer(tmp_path_factory.mktemp("redis"), "redis-server", arguments)
    server.start()
    server.client.config_set("appendonly", "no")
    yield server, port
    server.stop()


def storage_of(monkeypatch: pytest.MonkeyPatch, url: str, **settings: object) -> Storage:
    monkeypatch.setenv("REDIS_URL", url)
    for name, value in settings.items():
        monkeypatch.setenv(f"REDIS_TLS_{name.upper()}", str(value))
    storage = Storage(Settings.from_env().storage_url, 3, "test")
    storage.start()
    return storage


def test_a_certificate_that_nobody_knows_is_refused_and_the_setting_named(server, monkeypatch):
    storage = storage_of(monkeypatch, f"rediss://127.0.0.1:{server[1]}")
    problem = storage.problem or ""
    assert "certificate verify failed" in problem
    assert "REDIS_TLS_VERIFY=none" in problem
    assert "\n" not in problem


def test_a_server_without_tls_is_told_from_one_that_is_away(server, monkeypatch):
    storage = storage_of(monkeypatch, f"rediss://127.0.0.1:{server[0].port}", verify="none")
    assert "redis://" in (storage.problem or "")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_it_is_taken_as_it_is_with_the_setting(patient, server, monkeypatch, host):
    storage = storage_of(monkeypatch, f"rediss://{host}:{server[1]}", verify="none")
    storage.write()


def test_it_is_trusted_as_its_own_authority_for_its_own_name(
    patient, server, certificate, monkeypatch
):
    storage = storage_of(monkeypatch, f"rediss://127.0.0.1:{server[1]}", ca_file=certificate)
    storage.write()
    storage = storage_of(monkeypatch, f"rediss://localhost:{server[1]}", ca_file=certificate)
    assert "certificate verify failed" in (storage.problem or "")


def test_the_subscriber_listens_by_tls_too(server, monkeypatch):
    heard: list[str] = []
    subscribed: list[bool] = []
    monkeypatch.setenv("REDIS_URL", f"rediss://127.0.0.1:{server[1]}")
    monkeypatch.setenv("REDIS_TLS_VERIFY", "none")
    url = Settings.from_env().storage_url
    Subscriber(url, ["told"], heard.append, lambda: subscribed.append(True)).start()
    eventually(lambda: subscribed)
    server[0].client.publish("told", "something")
    eventually(lambda: heard == ["something"])


def test_a_large_value_travels_whole_by_tls_both_ways(patient, server, monkeypatch):
    storage = storage_of(monkeypatch, f"rediss://127.0.0.1:{server[1]}", verify="none")
    value = b"x" * 4_000_000
    storage.call(Script.of("redis.call('SET', KEYS[1], ARGV[1]) return 1"), ["large"], [value])
    assert storage.call(Script.of(GET.text, large=True), ["large"], []) == value


def test_a_user_and_a_database_are_those_of_the_url(patient, server, monkeypatch):
    redis, port = server
    rules = "on >pa#ss ~{test}:* ~test:* resetchannels &{test}:* +@all -@dangerous +info"
    redis.client.execute_command("ACL", "SETUSER", "app", *rules.split())
    storage = storage_of(monkeypatch, f"rediss://app:pa%23ss@127.0.0.1:{port}/3", verify="none")
    storage.call(Script.of("redis.call('SET', KEYS[1], 'here')"), ["{test}:key"], [])
    redis.client.execute_command("SELECT", 3)
    assert redis.client.get("{test}:key") == b"here"
    redis.client.execute_command("SELECT", 0)
    with pytest.raises(StorageUnavailable, match=re.compile("permission|key", re.I)):
        storage.call(GET, ["another"], [])
