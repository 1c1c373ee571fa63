"""Storage: scripts from many threads, through a Redis that comes and goes."""

import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from runwait.storage.connection import (
    Script,
    Storage,
    StorageUnavailable,
    StorageUnsuitable,
    pauses,
)
from tests.ports import free_port
from tests.servers import VERSION, RedisServer, eventually

INCREMENT = Script.of("return redis.call('INCR', KEYS[1])")


@pytest.fixture
def storage(valkey: RedisServer) -> Storage:
    storage = Storage(valkey.url, 3)
    storage.start()
    return storage


def test_a_script_that_redis_does_not_know_is_loaded_and_run(storage, valkey):
    valkey.client.script_flush()
    assert storage.call(INCREMENT, ["n"], []) == 1
    valkey.client.script_flush()
    assert storage.call(INCREMENT, ["n"], []) == 2


def test_calls_of_hundreds_of_threads_are_each_answered_once_over_three_connections(
    storage, valkey
):
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda _: storage.call(INCREMENT, ["n"], []), range(2000)))
    assert sorted(answers) == list(range(1, 2001))
    ours = str(valkey.client.client_id())
    assert len([each for each in valkey.client.client_list() if each["id"] != ours]) == 3


def test_an_error_of_one_call_is_not_another_ones(storage, valkey):
    valkey.client.set("text", "x")
    with ThreadPoolExecutor(50) as pool:
        good = [pool.submit(storage.call, INCREMENT, ["n"], []) for _ in range(50)]
        bad = [pool.submit(storage.call, INCREMENT, ["text"], []) for _ in range(50)]
    assert sorted(each.result() for each in good) == list(range(1, 51))
    assert all(isinstance(each.exception(), StorageUnavailable) for each in bad)
    assert storage.problem is None


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


def test_an_eviction_policy_that_loses_keys_is_warned_of(valkey):
    valkey.client.config_set("maxmemory-policy", "allkeys-lru")
    storage = Storage(valkey.url, 1)
    storage.start()
    assert "allkeys-lru" in storage.warning


def test_a_cluster_is_refused_by_name(tmp_path, valkey):
    valkey.stop()
    # Its bus would take the port 10,000 above, which need not be free; before 7.0 it always does.
    bus = "" if VERSION == "redis-6.2" else f"cluster-port {free_port()}\n"
    (valkey.folder / "conf").write_text(
        f"port {valkey.port}\nbind 127.0.0.1\ncluster-enabled yes\n{bus}dir {valkey.folder}\n"
    )
    process = subprocess.Popen([valkey.binary, valkey.folder / "conf"], stdout=subprocess.DEVNULL)
    try:
        eventually(valkey.answers)
        with pytest.raises(StorageUnsuitable, match="cluster"):
            Storage(valkey.url, 1).start()
    finally:
        process.terminate()
        process.wait()


def test_pauses_between_attempts_grow_and_never_end():
    waiting = pauses(0.5)
    found = [next(waiting) for _ in range(5000)]
    assert max(found[:2]) < 0.5
    assert all(0 <= each <= 0.5 for each in found)
