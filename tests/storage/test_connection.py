"""Storage: scripts from many threads, through a Redis that comes and goes."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path

import pytest

from runwait.storage import connection
from runwait.storage.connection import (
    Script,
    Storage,
    StorageUnavailable,
    StorageUnsuitable,
    pauses,
)
from tests.faulty import FaultyNetwork
from tests.ports import free_port
from tests.servers import ROOT, VERSION, RedisServer, eventually

INCREMENT = Script.of("return redis.call('INCR', KEYS[1])")


SET = Script.of("redis.call('SET', KEYS[1], ARGV[1]) return 1")
GET = Script.of("return redis.call('GET', KEYS[1])")


@pytest.fixture
def network(valkey: RedisServer) -> Iterator[FaultyNetwork]:
    network = FaultyNetwork(valkey.port)
    yield network
    network.close()


@pytest.fixture
def slow(network: FaultyNetwork, patient: None) -> Storage:
    """A storage behind a network that can be slow."""
    storage = Storage(network.url(), 3)
    storage.start()
    return storage


@pytest.fixture
def storage(valkey: RedisServer) -> Storage:
    storage = Storage(valkey.url, 4)
    storage.start()
    return storage


def test_a_script_that_redis_does_not_know_is_loaded_and_run(storage, valkey):
    valkey.client.script_flush()
    assert storage.call(INCREMENT, ["n"], []) == 1
    valkey.client.script_flush()
    assert storage.call(INCREMENT, ["n"], []) == 2


def test_calls_of_hundreds_of_threads_are_each_answered_once_over_three_connections(
    patient, storage, valkey
):
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda _: storage.call(INCREMENT, ["n"], []), range(2000)))
    assert sorted(answers) == list(range(1, 2001))
    ours = str(valkey.client.client_id())
    assert len([each for each in valkey.client.client_list() if each["id"] != ours]) == 3


def test_an_error_of_one_call_is_not_another_ones(patient, storage, valkey):
    valkey.client.set("text", "x")
    with ThreadPoolExecutor(50) as pool:
        good = [pool.submit(storage.call, INCREMENT, ["n"], []) for _ in range(50)]
        bad = [pool.submit(storage.call, INCREMENT, ["text"], []) for _ in range(50)]
    assert sorted(each.result() for each in good) == list(range(1, 51))
    assert all(isinstance(each.exception(), StorageUnavailable) for each in bad)
    assert storage.problem is None


def test_a_value_may_take_longer_than_the_time_limits_and_nobody_waits_for_it(slow, network):
    value = os.urandom(4_000_000)
    network.rate = 200_000
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(slow.call, SET, ["large"], [value])
        eventually(lambda: network.passed > 300_000)
        assert [slow.call(INCREMENT, ["n"], []) for _ in range(20)] == list(range(1, 21))
        assert not large.done()
        network.rate = None
        assert large.result() == 1
        network.rate = 200_000
        large = pool.submit(slow.call, GET, ["large"], [])
        eventually(lambda: network.passed > 4_600_000)
        assert [slow.call(INCREMENT, ["n"], []) for _ in range(20)] == list(range(21, 41))
        assert not large.done()
        network.rate = None
        assert large.result() == value
    assert slow.problem is None
    assert slow.faults == 0


def test_a_large_value_that_moves_no_more_is_given_up(slow, network, monkeypatch):
    monkeypatch.setattr(connection, "WAIT_SECONDS", 1.0)
    monkeypatch.setattr(connection, "STALL_SECONDS", 0.0)
    network.rate = 2000
    with pytest.raises(StorageUnavailable, match="nothing moved"):
        slow.call(SET, ["large"], [b"x" * 4_000_000])
    network.rate = None
    monkeypatch.setattr(connection, "STALL_SECONDS", 60.0)
    assert slow.call(SET, ["large"], [b"x" * 4_000_000]) == 1


def test_more_large_values_than_may_wait_are_refused_at_once(slow, network):
    network.rate = 200_000
    with ThreadPoolExecutor(20) as pool:
        large = [pool.submit(slow.call, SET, ["large"], [b"x" * 400_000]) for _ in range(20)]
        first = list(islice(as_completed(large), 20 - 1 - connection.LARGE_WAITING))
        assert all(isinstance(each.exception(), StorageUnavailable) for each in first)
        network.rate = None
        assert {each.result() for each in large if each not in first} == {1}


def test_with_one_connection_large_values_travel_on_that(valkey):
    storage = Storage(valkey.url, 1)
    storage.start()
    storage.call(SET, ["large"], [b"x" * 1_000_000])
    assert storage.call(GET, ["large"], []) == b"x" * 1_000_000
    ours = str(valkey.client.client_id())
    assert len([each for each in valkey.client.client_list() if each["id"] != ours]) == 1


def test_a_large_value_is_sent_again_where_redis_was_restarted(storage, valkey):
    storage.call(SET, ["large"], [b"x" * 1_000_000])
    valkey.stop()
    valkey.start()
    eventually(lambda: storage.call(SET, ["large"], [b"y" * 1_000_000]) == 1)
    assert valkey.client.get("large") == b"y" * 1_000_000


def test_a_restarted_redis_is_used_again_without_an_error(storage, valkey):
    storage.call(INCREMENT, ["n"], [])
    valkey.stop()
    valkey.start()
    assert storage.call(INCREMENT, ["n"], []) == 2


def test_a_redis_that_is_away_costs_an_error_at_once_and_is_used_when_it_is_back(storage, valkey):
    valkey.stop()
    with pytest.raises(StorageUnavailable):
        storage.call(INCREMENT, ["n"], [])
    assert storage.problem is not None
    back = threading.Event()
    storage.on_up = back.set
    valkey.start()
    assert back.wait(30)
    assert storage.call(INCREMENT, ["n"], []) == 1
    assert storage.problem is None


def test_a_silent_redis_costs_nobody_more_than_the_time_limits(storage, valkey):
    valkey.process.send_signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(50) as pool:
            asked = [pool.submit(storage.call, INCREMENT, ["n"], []) for _ in range(50)]
            assert all(isinstance(each.exception(), StorageUnavailable) for each in asked)
    finally:
        valkey.process.send_signal(signal.SIGCONT)
    eventually(lambda: storage.problem is None)
    storage.call(INCREMENT, ["m"], [])


def test_a_start_without_redis_succeeds_and_finds_it_later(valkey):
    valkey.stop()
    storage = Storage(valkey.url, 2)
    storage.start()
    assert storage.problem is not None
    valkey.start()
    eventually(lambda: storage.problem is None)
    assert storage.call(INCREMENT, ["n"], []) == 1


def test_a_refused_connection_is_a_problem_and_no_exception():
    storage = Storage(f"redis://127.0.0.1:{free_port()}", 1)
    storage.start()
    with pytest.raises(StorageUnavailable):
        storage.ping()


@pytest.mark.parametrize(
    ("rules", "lacking"),
    [
        ("~* +@all resetchannels", "&{test}:told:*"),
        ("~* &* +@all -publish -hset", "+hset +publish"),
        ("~{test}:* &* +@all", "~test:*"),
        ("~* resetchannels &{test}:* +@all -evalsha", "+evalsha"),
    ],
)
def test_rights_that_a_user_lacks_are_named_and_found_once_they_are_given(valkey, rules, lacking):
    valkey.client.execute_command("ACL", "SETUSER", "app", "on", ">secret", *rules.split())
    storage = Storage(f"redis://app:secret@127.0.0.1:{valkey.port}/0", 3, "test")
    storage.start()
    with pytest.raises(StorageUnavailable, match=re.escape(f"lacks the rights {lacking}")):
        storage.ping()
    assert valkey.client.dbsize() == valkey.client.exists("{test}:rights", "test:{test}:rights")
    valkey.client.execute_command("ACL", "SETUSER", "app", "allkeys", "allchannels", "+@all")
    eventually(lambda: storage.problem is None)
    storage.write()
    valkey.client.execute_command("ACL", "SETUSER", "app", "-set")
    with pytest.raises(StorageUnavailable):
        storage.write()
    eventually(lambda: "lacks the rights +set" in (storage.problem or ""))


def test_with_the_rights_that_the_readme_names_nothing_is_lacking(valkey):
    readme = (ROOT / "docs" / "deploying.md").read_text()
    [rules] = re.findall(r"ACL SETUSER runwait (.*)", readme)
    valkey.client.execute_command("ACL", "SETUSER", "runwait", *rules.split())
    storage = Storage(f"redis://runwait:secret@127.0.0.1:{valkey.port}/0", 3, "runwait")
    storage.start()
    assert storage.problem is None


def test_all_commands_of_the_scripts_are_tried():
    scripts = Path(connection.__file__).parent.rglob("*.lua")
    texts = {each.name: each.read_text() for each in scripts}
    rights = texts.pop("rights.lua")
    tried = set(re.findall(r"^([A-Z]+)(?: |$)|'([A-Z]+)'", rights, re.M))
    words = set(re.findall(r"'([A-Z]+)'", "".join(texts.values())))
    options = {"WEIGHTS", "WITHSCORES", "LIMIT", "LARGE", "PX", "EX", "MATCH", "COUNT"}
    options |= {"MAXLEN", "XX"}
    used = words - options - {each for pair in tried for each in pair}
    assert used == {"SCAN"}  # of all threads, for which the service has no use


def test_an_eviction_policy_that_loses_keys_is_warned_of(valkey):
    valkey.client.config_set("maxmemory-policy", "allkeys-lru")
    storage = Storage(valkey.url, 1)
    storage.start()
    assert "allkeys-lru" in storage.warning


def test_a_cluster_that_is_not_said_to_be_one_is_refused_by_the_setting(tmp_path, valkey):
    valkey.stop()
    # Its bus would take the port 10,000 above, which need not be free; before 7.0 it always does.
    bus = "" if VERSION == "redis-6.2" else f"cluster-port {free_port()}\n"
    (valkey.folder / "conf").write_text(
        f"port {valkey.port}\nbind 127.0.0.1\ncluster-enabled yes\n{bus}dir {valkey.folder}\n"
    )
    process = subprocess.Popen([valkey.binary, valkey.folder / "conf"], stdout=subprocess.DEVNULL)
    try:
        eventually(valkey.answers)
        with pytest.raises(StorageUnsuitable, match="REDIS_CLUSTER=true"):
            Storage(valkey.url, 1).start()
    finally:
        process.terminate()
        process.wait()


def test_pauses_between_attempts_grow_and_never_end():
    waiting = pauses(0.5)
    found = [next(waiting) for _ in range(5000)]
    assert max(found[:2]) < 0.5
    assert all(0 <= each <= 0.5 for each in found)
