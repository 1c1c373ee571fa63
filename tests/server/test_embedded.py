import fcntl
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from runwait.server import embedded
from runwait.storage.urls import of_embedded

ROOT = Path(__file__).parents[2]
BOUND = 60.0  # seconds; for events that come at once on any healthy machine


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + BOUND
    while not happened():
        assert time.monotonic() < deadline, "the awaited event did not come"
        time.sleep(0.01)


def socket_path(folder: Path) -> Path:
    """Where a client goes that is given the URL."""
    pool = redis.ConnectionPool.from_url(of_embedded(folder))
    return Path(pool.connection_kwargs["path"])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Master:
    """A running master in a process group of its own, and the lines it prints."""

    def __init__(self, *command: object, cwd: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=cwd,
            env={**os.environ, "TMPDIR": tempfile.gettempdir(), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def expect(self, pattern: str) -> re.Match[str]:
        """The first line from here on that has the pattern."""
        seen = []
        while True:
            try:
                seen.append(self._lines.get(timeout=BOUND))
            except queue.Empty:
                pytest.fail(f"no line with {pattern!r} in {''.join(seen)}")
            if found := re.search(pattern, seen[-1]):
                return found

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def fork(self) -> int:
        self.tell("fork")
        return int(self.expect(r"worker (\d+)").group(1))

    def end(self, number: int = signal.SIGTERM) -> str:
        """What the process printed since the last `expect`, after the signal has ended it."""
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        self.process.wait(BOUND)
        return self.rest()

    def rest(self) -> str:
        self.process.wait(BOUND)
        self._reader.join(BOUND)
        return "".join(iter(lambda: self._lines.get() if not self._lines.empty() else "", ""))

    def destroy(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.rest()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


class Place:
    """A data folder, the masters on it, and its server."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder.parent
        self.masters: list[Master] = []

    def launch(self, *settings: str) -> Master:
        script = Path(__file__).with_name("embedded_master.py")
        return self.run(script, self.folder, *settings)

    def run(self, *command: object) -> Master:
        master = Master(*command, cwd=self.home)
        self.masters.append(master)
        return master

    def start(self, *settings: str) -> Master:
        master = self.launch(*settings)
        master.expect("^started")
        return master

    def ask(self, *command: str) -> object:
        with redis.Redis.from_url(
            of_embedded(self.folder),
            decode_responses=True,
            socket_timeout=BOUND,
            retry=Retry(NoBackoff(), retries=0),
        ) as client:
            return client.execute_command(*command)

    def answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except redis.RedisError:
            return False

    def server(self) -> int:
        """The process id of the server that answers."""
        information = self.ask("INFO", "server")
        assert isinstance(information, dict)
        return int(information["process_id"])

    def kill_server(self) -> int:
        """Kill the server that answers, and return the process id it had."""
        pid = self.server()
        os.kill(pid, signal.SIGKILL)
        return pid

    def await_another(self, pid: int) -> None:
        until(lambda: self.answers() and self.server() != pid)

    def starts(self) -> int:
        """How often a server was started in the folder."""
        return (self.folder / "valkey.log").read_text().count("Valkey is starting")

    def lives(self) -> bool:
        """Whether any process holds the server's lock, answering or not."""
        with suppress(FileNotFoundError), (self.folder / "valkey.lock").open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def clean_up(self) -> None:
        for master in self.masters:
            master.destroy()
        if self.lives():
            os.kill(int((self.folder / "valkey.pid").read_text()), signal.SIGKILL)
            until(lambda: not self.lives())


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary directory of a test's masters; `tmp_path` has to come before the change."""
    folder = Path(tempfile.mkdtemp(prefix="run wait ", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def place(temporary: Path, tmp_path: Path) -> Iterator[Place]:
    """Ends what a test left running, and fails the test if masters that ended left anything."""
    place = Place(tmp_path / "data d'été ☀")
    try:
        yield place
        for master in place.masters:
            if master.process.poll() is None:
                master.end()
        assert not place.lives()
        assert list(temporary.iterdir()) == []
    finally:
        place.clean_up()


class TestUrl:
    def test_it_is_the_same_for_every_spelling_of_a_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "link").symlink_to("data")
        monkeypatch.chdir(tmp_path)
        spellings = [tmp_path / "data", tmp_path / "link", Path("data"), Path("x/../data")]
        assert len({of_embedded(spelling) for spelling in spellings}) == 1

    def test_it_differs_by_folder_and_by_user(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        urls = {of_embedded(tmp_path / "a"), of_embedded(tmp_path / "b")}
        monkeypatch.setattr(os, "getuid", lambda: 4711)
        urls.add(of_embedded(tmp_path / "a"))
        assert len(urls) == 3

    @pytest.mark.parametrize("temporary_name", ["t", "a long name " * 20, "été " * 15])
    def test_its_socket_path_fits_whatever_the_temporary_directory_is_called(
        self, temporary_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", f"/tmp/{temporary_name}")
        assert len(os.fsencode(socket_path(tmp_path))) <= 100


class TestStart:
    def test_it_returns_when_the_server_answers(self, place: Place) -> None:
        place.start()
        assert place.answers()

    def test_the_server_is_set_up_to_keep_data_for_one_user(self, place: Place) -> None:
        place.start()
        expected = {
            "port": "0",
            "dir": str(place.folder),
            "appendonly": "yes",
            "appendfsync": "no",
            "save": "",
            "daemonize": "no",
            "maxmemory-policy": "noeviction",
            "protected-mode": "yes",
            "aof-load-truncated": "yes",
        }
        assert place.ask("CONFIG", "GET", *expected) == expected
        path = socket_path(place.folder)
        for private in (path, path.parent, place.folder, place.folder / "appendonlydir"):
            assert private.stat().st_mode & 0o077 == 0, private

    def test_it_prints_nothing(self, place: Place) -> None:
        assert place.start().end() == ""

    def test_a_second_call_changes_nothing(self, place: Place) -> None:
        master = place.start()
        pid = place.server()
        master.tell("start")
        master.expect("^started")
        assert place.server() == pid

    def test_data_outlives_a_stop(self, place: Place) -> None:
        master = place.start()
        place.ask("SET", "kept", "value")
        master.end()
        assert not place.lives()
        place.start()
        assert place.ask("GET", "kept") == "value"

    def test_a_long_path_will_do(self, place: Place) -> None:
        place.folder = place.folder / ("long " * 30) / ("longer " * 30)
        place.start()
        assert place.answers()

    def test_files_that_a_crash_left_do_not_matter(self, place: Place) -> None:
        master = place.start()
        place.ask("SET", "kept", "value")
        master.end(signal.SIGKILL)
        place.kill_server()
        until(lambda: not place.lives())
        assert (place.folder / "valkey.pid").exists()
        place.start()
        assert place.ask("GET", "kept") == "value"

    def test_a_torn_end_of_the_append_only_file_costs_the_last_write_only(
        self, place: Place
    ) -> None:
        master = place.start()
        place.ask("SET", "first", "value")
        place.ask("SET", "last", "value")
        master.end(signal.SIGKILL)
        place.kill_server()
        until(lambda: not place.lives())
        [log] = (place.folder / "appendonlydir").glob("*.incr.aof")
        os.truncate(log, log.stat().st_size - 3)
        place.start()
        assert place.ask("MGET", "first", "last") == ["value", None]

    def test_a_server_that_cannot_start_is_told_in_one_line_with_the_reason(
        self, place: Place
    ) -> None:
        place.start().end()
        (place.folder / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
        line = place.launch().rest().splitlines()[-1]
        assert "EmbeddedServerError: No embedded Valkey server" in line
        assert str(place.folder) in line
        assert "AOF manifest" in line

    def test_a_folder_that_cannot_be_made_is_told(self, place: Place) -> None:
        place.folder.write_text("a file")
        assert "EmbeddedServerError: No embedded Valkey server" in place.launch().rest()
        place.folder.unlink()

    def test_a_socket_folder_which_others_may_enter_is_refused(self, place: Place) -> None:
        path = socket_path(place.folder)
        path.parent.mkdir(mode=0o755)
        path.parent.chmod(0o755)
        assert "is not a private folder of this user" in place.launch().rest()
        assert not place.lives()

    def test_a_machine_without_a_server_binary_is_told_to_set_redis_url(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("platform.machine", lambda: "abacus")
        with pytest.raises(embedded.EmbeddedServerError, match=r"abacus.*REDIS_URL"):
            embedded.start(place.folder, pytest.fail)


class TestStop:
    def test_it_does_nothing_where_start_was_not_called(self, place: Place) -> None:
        place.start()
        embedded.stop()
        assert place.answers()

    def test_the_exit_of_a_worker_does_not_stop_the_server(self, place: Place) -> None:
        master = place.start()
        pid = place.server()
        worker = master.fork()
        os.kill(worker, signal.SIGTERM)
        until(lambda: not alive(worker))
        assert place.server() == pid

    def test_the_exit_of_a_worker_whose_master_was_killed_does_not_either(
        self, place: Place
    ) -> None:
        master = place.start()
        pid = place.server()
        worker = master.fork()
        master.process.kill()
        master.process.wait()
        os.kill(worker, signal.SIGTERM)
        master.rest()  # the output ends when the last process that could write to it has ended
        assert place.server() == pid
        place.start()

    def test_ctrl_c_ends_the_master_before_the_server(self, place: Place) -> None:
        master = place.start()
        master.fork()
        assert os.getsid(place.server()) == place.server()
        master.end(signal.SIGINT)
        assert not place.lives()
        assert place.starts() == 1
        place.start()
        assert place.ask("GET", "seen at the end") == "1"

    def test_a_master_that_exits_without_it_still_stops_the_server(self, place: Place) -> None:
        master = place.start()
        master.tell("exit")
        master.rest()
        assert not place.lives()

    def test_a_server_that_does_not_react_is_killed(self, place: Place) -> None:
        master = place.start("_STOP_SECONDS=0.2")
        os.kill(place.server(), signal.SIGSTOP)
        master.end()
        assert not place.lives()


class TestSupervision:
    def test_a_server_that_was_killed_is_back_with_its_data(self, place: Place) -> None:
        master = place.start()
        place.ask("SET", "kept", "value")
        place.await_another(place.kill_server())
        assert place.ask("GET", "kept") == "value"
        master.expect(r"ended; it starts again in 0 s")

    def test_a_dead_server_leaves_no_zombie(self, place: Place) -> None:
        place.start()
        pid = place.kill_server()
        place.await_another(pid)
        until(lambda: not alive(pid))

    def test_it_goes_on_while_workers_come_and_go(self, place: Place) -> None:
        master = place.start()
        for _ in range(3):
            master.fork()
            place.await_another(place.kill_server())

    def test_a_server_that_keeps_dying_is_started_at_growing_intervals(self, place: Place) -> None:
        master = place.start()
        place.ask("SET", "kept", "value")
        manifest = place.folder / "appendonlydir" / "appendonly.aof.manifest"
        content = manifest.read_bytes()
        manifest.write_text("nonsense\n")
        place.kill_server()
        master.expect(r"again in 0 s")
        for pause in ("0.5", "1", "2"):
            master.expect(rf"again in {pause} s.*AOF manifest")
        manifest.write_bytes(content)
        until(place.answers)
        assert place.ask("GET", "kept") == "value"

    def test_a_stop_does_not_wait_for_the_next_start(self, place: Place) -> None:
        master = place.start("_PAUSE_SECONDS=(3600, 3600)", "_STOP_SECONDS=3600")
        (place.folder / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
        place.kill_server()
        master.expect("again in 3600 s")
        master.end()
        assert not place.lives()


class TestSeveralMasters:
    def test_masters_that_start_at_once_share_one_server(self, place: Place) -> None:
        masters = [place.launch() for _ in range(4)]
        for master in masters:
            master.expect("^started")
        assert place.starts() == 1

    def test_masters_that_end_at_once_stop_it(self, place: Place) -> None:
        masters = [place.start() for _ in range(3)]
        for master in masters:
            master.process.terminate()
        for master in masters:
            master.rest()
        assert not place.lives()

    @pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
    def test_the_one_that_stays_takes_over(self, place: Place, end: signal.Signals) -> None:
        first, second = place.start(), place.start()
        pid = place.server()
        first.end(end)
        assert place.server() == pid
        place.await_another(place.kill_server())
        second.end()
        assert not place.lives()

    def test_the_one_that_came_last_may_go_first(self, place: Place) -> None:
        first, second = place.start(), place.start()
        pid = place.server()
        second.end()
        assert place.server() == pid
        first.end()
        assert not place.lives()

    def test_the_next_master_takes_over_from_one_that_was_killed(self, place: Place) -> None:
        place.start().end(signal.SIGKILL)
        assert place.lives()
        pid = place.server()
        master = place.start()
        assert place.server() == pid
        place.await_another(place.kill_server())
        master.end()
        assert not place.lives()

    def test_a_worker_that_outlives_its_killed_master_holds_nothing(self, place: Place) -> None:
        killed = place.start()
        place.await_another(place.kill_server())
        worker = killed.fork()
        killed.process.kill()
        killed.process.wait()
        master = place.start()
        place.await_another(place.kill_server())
        master.end()
        assert alive(worker)
        assert not place.lives()
        os.kill(worker, signal.SIGKILL)


GUNICORN = """
import os
from pathlib import Path

import redis

from runwait.server import embedded
from runwait.storage.urls import of_embedded

folder = Path({folder!r})
bind = "127.0.0.1:0"
workers = 2
worker_class = "gthread"
control_socket_disable = True

def note(key):
    with redis.Redis.from_url(of_embedded(folder)) as client:
        client.rpush(key, os.getpid())

def on_starting(server):
    embedded.start(folder, server.log.warning)

def post_worker_init(worker):
    note("workers")

def on_exit(server):
    note("ended")
    embedded.stop()
"""


class TestUnderGunicorn:
    def launch(self, place: Place) -> Master:
        (place.home / "settings.py").write_text(GUNICORN.format(folder=str(place.folder)))
        (place.home / "tiny.py").write_text("def app(environ, start_response):\n    return []\n")
        return place.run("-m", "gunicorn", "-c", "settings.py", "tiny:app")

    def workers(self, place: Place) -> list[int]:
        """The process ids of all workers so far."""
        if not place.answers():
            return []
        pids = place.ask("LRANGE", "workers", "0", "-1")
        assert isinstance(pids, list)
        return [int(pid) for pid in pids]

    def start(self, place: Place) -> Master:
        master = self.launch(place)
        until(lambda: len(self.workers(place)) == 2)
        return master

    @pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
    def test_the_server_is_stopped_last(self, place: Place, end: signal.Signals) -> None:
        master = self.start(place)
        master.end(end)
        assert not place.lives()
        place.start()
        assert place.ask("LRANGE", "ended", "0", "-1") == [str(master.process.pid)]

    def test_a_reload_leaves_the_server_alone(self, place: Place) -> None:
        master = self.start(place)
        pid, old = place.server(), self.workers(place)
        master.process.send_signal(signal.SIGHUP)
        until(lambda: len(self.workers(place)) == 4 and not any(map(alive, old)))
        assert place.server() == pid
        place.await_another(place.kill_server())

    def test_a_server_that_was_killed_is_back(self, place: Place) -> None:
        master = self.start(place)
        workers = self.workers(place)
        place.await_another(place.kill_server())
        assert self.workers(place) == workers
        master.expect("The embedded Valkey server .* ended")

    def test_a_master_that_was_killed_leaves_it_to_the_next(self, place: Place) -> None:
        self.start(place).process.kill()
        pid = place.server()
        master = self.launch(place)
        until(lambda: len(self.workers(place)) == 4)
        assert place.server() == pid
        master.end()
        assert not place.lives()

    def test_a_server_that_cannot_start_ends_gunicorn_in_one_line(self, place: Place) -> None:
        place.folder.mkdir()
        (place.folder / "appendonlydir").write_text("a file")
        master = self.launch(place)
        output = master.rest()
        assert master.process.returncode == 1
        assert "Error: No embedded Valkey server" in output
        assert "Traceback" not in output
