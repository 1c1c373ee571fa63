"""The command for webhooks that were given up, as an operator calls it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from app import deadletters
from app.storage.connection import Storage
from app.storage.outbox import Outbox
from tests.servers import PATIENCE, ROOT, RedisServer, free_port

URL = "http://a.example/hook"


def command(redis_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.deadletters", *arguments],
        cwd=ROOT,
        env={**os.environ, "REDIS_URL": redis_url, "REDIS_PREFIX": "test"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture
def outbox(valkey: RedisServer) -> Outbox:
    storage = Storage(valkey.url, 1)
    storage.start()
    return Outbox(storage, "test")


def kill(outbox: Outbox, run_id: str) -> None:
    outbox.add(run_id, URL, b'{"n":1}')
    webhook, _ = asyncio.run(outbox.claim(60))
    assert webhook is not None
    asyncio.run(outbox.failed(webhook, None, "the answer was 500"))


def test_lists_one_line_each(outbox: Outbox, valkey: RedisServer) -> None:
    assert command(valkey.url).stdout == ""
    kill(outbox, "r1")
    [letter] = outbox.dead(1)
    died = letter.died.isoformat(timespec="seconds")
    for arguments in ([], ["list"]):
        done = command(valkey.url, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"r1  {died}  1 attempts  {URL}  the answer was 500\n"


def test_retries_one(outbox: Outbox, valkey: RedisServer) -> None:
    kill(outbox, "r1")
    kill(outbox, "r2")
    assert command(valkey.url, "retry", "r1").returncode == 0
    assert [each.run_id for each in outbox.dead(10)] == ["r2"]
    webhook, _ = asyncio.run(outbox.claim(60))
    assert webhook is not None
    assert webhook.run_id == "r1"


def test_says_so_where_there_is_none(valkey: RedisServer) -> None:
    done = command(valkey.url, "retry", "r1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "r1" in done.stderr


def test_retries_all_over_pages(
    outbox: Outbox,
    valkey: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(5):
        kill(outbox, f"r{number}")
    monkeypatch.setattr(deadletters, "PAGE", 2)
    monkeypatch.setenv("REDIS_URL", valkey.url)
    monkeypatch.setenv("REDIS_PREFIX", "test")
    assert deadletters.main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert deadletters.main(["retry", "--all"]) == 0
    assert capsys.readouterr().out == "5 to be tried again\n"
    assert outbox.dead(10) == []


@pytest.mark.parametrize("arguments", [["retry"], ["retry", "r1", "--all"], ["bury"]])
def test_explains_itself_where_it_is_called_wrongly(
    valkey: RedisServer, arguments: list[str]
) -> None:
    done = command(valkey.url, *arguments)
    assert done.returncode == 2
    assert "usage: python -m app.deadletters" in done.stderr


def test_says_in_one_line_that_redis_is_away() -> None:
    done = command(f"redis://127.0.0.1:{free_port()}")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "Redis is away" in done.stderr


def test_says_in_one_line_that_a_setting_is_wrong() -> None:
    done = command("http://x")
    assert done.returncode == 1
    assert done.stderr.startswith("REDIS_URL: Must be")
    assert len(done.stderr.splitlines()) == 1
