"""`runwait doctor`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runwait.cli import doctor, main
from tests.ports import free_port
from tests.servers import ROOT, RedisServer

Diagnosis = Callable[..., dict[str, list[tuple[str, str]]]]


@pytest.fixture
def diagnose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Diagnosis:
    """Calls it with settings: what it found, by what it is about."""
    monkeypatch.chdir(tmp_path)
    for name in ("PORT", "HOST", "REDIS_URL", "LANGGRAPH_CONFIG", "API_KEYS"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(ROOT / "examples" / "mapreduce.py", tmp_path / "good.py")
    (tmp_path / "langgraph.json").write_text('{"graphs": {"good": "./good.py:graph"}}')

    def called(code: int | None = None, **environment: Any) -> dict[str, list[tuple[str, str]]]:
        given = {"LANGGRAPH_CONFIG": str(tmp_path / "langgraph.json"), **environment}
        texts = {name: str(value) for name, value in given.items()}
        done = CliRunner().invoke(main, ["doctor", "--json"], env=texts)
        assert done.exit_code in (0, 1), done.output
        found: dict[str, list[tuple[str, str]]] = {}
        for line in done.stdout.splitlines():
            each = json.loads(line)
            found.setdefault(each["about"], []).append((each["level"], each["text"]))
        is_ill = any(level == "mend" for each in found.values() for level, _ in each)
        assert done.exit_code == (1 if is_ill else 0)
        return found

    return called


def levels(found: list[tuple[str, str]]) -> list[str]:
    return [level for level, _ in found]


def test_a_machine_that_is_well_is_said_to_be(
    diagnose: Diagnosis, shared_valkey: RedisServer, tmp_path: Path
) -> None:
    shared_valkey.client.config_set("appendonly", "yes")
    try:
        found = diagnose(REDIS_URL=shared_valkey.url, WAITERS_MAX=50, RUN_CONCURRENCY=5)
    finally:
        shared_valkey.client.config_set("appendonly", "no")

    assert found["graph"] == [("ok", "good: ./good.py:graph (sync)")]
    assert {level for each in found.values() for level, _ in each} == {"ok"}
    assert found.keys() >= {"settings", "config", "graph", "redis", "clock", "auth", "files"}


def test_settings_graphs_and_keys_without_effect_are_named(
    diagnose: Diagnosis, tmp_path: Path, shared_valkey: RedisServer
) -> None:
    assert diagnose(WAITERS_MAX="many") == {
        "settings": [("mend", "WAITERS_MAX: Not a valid integer.")]
    }
    (tmp_path / "bad.py").write_text("raise RuntimeError('not today')")
    graphs = {"good": "./good.py:graph", "bad": "./bad.py:graph"}
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": graphs, "ui": {"a": "b"}}))

    found = diagnose(REDIS_URL=shared_valkey.url, API_KEY="x")

    assert found["settings"][1] == ("note", "API_KEY is set and is no setting: is API_KEYS meant?")
    (note,) = found["config"]
    assert note[0] == "note"
    assert "of no effect" in note[1]
    assert levels(found["graph"]) == ["ok", "mend"]
    assert "RuntimeError: not today" in found["graph"][1][1]


@pytest.mark.parametrize(
    ("more", "setting", "reason"),
    [
        ({"http": {"app": "./gone.py:app"}}, "", "gone.py: http.app: there is no such file"),
        ({"auth": {"path": "./good.py:graph"}}, "", "auth.path: ./good.py:graph must be"),
        ({"store": {"index": {"embed": "./good.py:graph"}}}, "", "store.index.dims: must be"),
        ({"checkpointer": {"ttl": {"default_ttl": "1"}}}, "", "default_ttl: must be minutes"),
        ({}, "gone", "STATE_MODULES: 'gone': can't be imported"),
    ],
    ids=["app", "auth", "store", "checkpointer", "modules"],
)
def test_what_would_stop_a_start_beside_graphs_is_to_be_mended(
    diagnose: Diagnosis, tmp_path: Path, more: dict[str, Any], setting: str, reason: str
) -> None:
    config = {"graphs": {"good": "./good.py:graph"}, **more}
    (tmp_path / "langgraph.json").write_text(json.dumps(config))
    (_, (level, text)) = diagnose(STATE_MODULES=setting)["config"]
    assert level == "mend"
    assert reason in text


def test_a_redis_that_forgets_evicts_or_is_away_is_to_be_mended(
    diagnose: Diagnosis, valkey: RedisServer
) -> None:
    valkey.client.config_set("appendonly", "no")
    assert ("mend", "noeviction") not in diagnose(REDIS_URL=valkey.url)["redis"]
    (_, forgets) = diagnose(REDIS_URL=valkey.url)["redis"]
    assert forgets[0] == "mend"
    assert "set appendonly yes" in forgets[1]
    valkey.client.config_set("save", "60 1")
    assert levels(diagnose(REDIS_URL=valkey.url)["redis"]) == ["ok", "note"]
    valkey.client.config_set("appendonly", "yes")
    valkey.client.config_set("maxmemory-policy", "allkeys-lru")
    (evicts, _) = diagnose(REDIS_URL=valkey.url)["redis"]
    assert evicts[0] == "mend"
    assert "Set it to noeviction" in evicts[1]

    away = f"redis://:secret@127.0.0.1:{free_port()}/0"
    ((level, text),) = diagnose(REDIS_URL=away)["redis"]
    assert level == "mend"
    assert "Redis is away" in text
    assert "secret" not in text


def test_a_user_who_lacks_a_right_is_told_which(diagnose: Diagnosis, valkey: RedisServer) -> None:
    rights = ["on", ">secret", "~*", "&*", "+@all", "-evalsha"]
    valkey.client.execute_command("ACL", "SETUSER", "ada", *rights)
    url = valkey.url.replace("redis://", "redis://ada:secret@")

    ((level, text),) = diagnose(REDIS_URL=url)["redis"]

    assert level == "mend"
    assert "+evalsha" in text
    assert "secret" not in text


def test_a_user_who_may_not_ask_how_redis_is_can_serve_all_the_same(
    diagnose: Diagnosis, valkey: RedisServer
) -> None:
    rights = ["on", ">secret", "~*", "&*", "+@all", "-info", "-config"]
    valkey.client.execute_command("ACL", "SETUSER", "ada", *rights)

    found = diagnose(REDIS_URL=valkey.url.replace("redis://", "redis://ada:secret@"))

    assert "mend" not in levels(found["redis"]), found


def test_without_redis_its_own_is_spoken_of_and_needs_a_folder(
    diagnose: Diagnosis, tmp_path: Path
) -> None:
    ((level, text),) = diagnose(DATA_DIR=tmp_path / "data")["redis"]
    assert level == "note"
    assert str(tmp_path / "data") in text
    (tmp_path / "file").write_text("")
    ((level, text),) = diagnose(DATA_DIR=tmp_path / "file" / "data")["redis"]
    assert level == "mend"
    assert "DATA_DIR" in text


def test_who_serves_others_without_a_key_is_warned(
    diagnose: Diagnosis, shared_valkey: RedisServer
) -> None:
    assert levels(diagnose(REDIS_URL=shared_valkey.url)["auth"]) == ["ok"]
    ((level, text),) = diagnose(REDIS_URL=shared_valkey.url, PORT=8000)["auth"]
    assert level == "mend"
    assert "API_KEYS" in text
    served = diagnose(REDIS_URL=shared_valkey.url, PORT=8000, HOST="127.0.0.1")
    assert levels(served["auth"]) == ["ok"]


def test_too_few_files_and_threads_are_named(
    diagnose: Diagnosis, shared_valkey: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = diagnose(REDIS_URL=shared_valkey.url, WAITERS_MAX=100_000)
    monkeypatch.setattr("resource.getrlimit", lambda which: (1024, 1024))
    found = diagnose(REDIS_URL=shared_valkey.url)
    ((level, text),) = found["files"]
    assert level == "mend"
    assert "1024" in text
    monkeypatch.setattr(doctor_module(), "_most_threads", lambda: 256)
    assert levels(diagnose(REDIS_URL=shared_valkey.url)["threads"]) == ["note"]
    monkeypatch.setattr(doctor_module(), "_most_threads", lambda: 100)
    assert levels(diagnose(REDIS_URL=shared_valkey.url)["threads"]) == ["mend"]


def test_clocks_that_differ_are_named(
    diagnose: Diagnosis, shared_valkey: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_module(), "SKEW_SECONDS", -1)
    ((level, text),) = diagnose(REDIS_URL=shared_valkey.url)["clock"]
    assert level == "mend"
    assert "NTP" in text


def doctor_module() -> Any:
    return __import__("sys").modules[doctor.callback.__module__]
