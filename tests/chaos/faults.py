"""Two gunicorn masters and a Redis, and what befalls them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.servers import PATIENCE, RedisServer, Server, eventually

GRACE_SECONDS = 1
GRAPHS = Path(__file__).with_name("langgraph.json")
# A master ends its workers this long after their grace period.
STOP_SECONDS = GRACE_SECONDS + 30
CAUGHT_UP = "Redis was told of what it missed"


class DurableRedis(RedisServer):
    """Keeps all that it acknowledged, however it ends."""

    def start(self) -> None:
        """Start it, with what it kept from before."""
        options = {
            "--port": self.port,
            "--dir": self.folder,
            "--save": "",
            "--appendonly": "yes",
            "--appendfsync": "always",
            "--bind": "127.0.0.1",
        }
        self.process = subprocess.Popen(
            [self.binary, *(str(each) for pair in options.items() for each in pair)],
            stdout=(self.folder / "log").open("ab"),
            stderr=subprocess.STDOUT,
        )
        eventually(self.answers)


class House:
    """The servers, for as long as the `with` lasts."""

    def __init__(self, folder: Path, lease: float, **environment: str) -> None:
        """Prepare them; `lease` is in seconds."""
        (folder / "redis").mkdir()
        self.folder = folder
        self.lease = lease
        self.redis = DurableRedis(folder / "redis")
        self.servers = [
            Server(
                folder,
                {
                    "REDIS_URL": self.redis.url,
                    "LANGGRAPH_CONFIG": str(GRAPHS),
                    "WEB_CONCURRENCY": "2",
                    "RUN_LEASE_SECONDS": str(lease),
                    "RUN_MAX_ATTEMPTS": "50",
                    "SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS),
                    "HEARTBEAT_SECONDS": "1",
                    "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
                    **environment,
                },
            )
            for _ in range(2)
        ]

    def __enter__(self) -> House:
        self.redis.start()
        for server in self.servers:
            server.launch()
        for server in self.servers:
            eventually(server.is_up)
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            if server.process is not None and server.process.poll() is None:
                for pid in server.workers():
                    _send(pid, signal.SIGCONT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.stop()
                if server.process.poll() is None:
                    _kill_whole(server)
            server.http.close()
        self.redis.stop()


class Faults:
    """Strikes at random, on a thread of its own.

    While Redis is away, and until the processes have told it of what they did meanwhile, all of
    them are left alone: what is promised is promised for as long as Redis lives.

    Attributes:
        struck: how often what was done.
        stuck: masters that did not end when they were told to.
    """

    def __init__(
        self,
        house: House,
        rng: random.Random,
        progress: Callable[[], float],
        pause: tuple[float, float] = (0.3, 1.5),
    ) -> None:
        """Prepare.

        Args:
            progress: from 0 to 1, where the faults end; Redis goes at two points of it.
            pause: bounds of the seconds between two faults.
        """
        self._house = house
        self._rng = rng
        self._progress = progress
        self._pause = pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faults")
        self._helpers: list[threading.Thread] = []
        self._paused: set[int] = set()
        self._stopping: list[Server] = []
        self.struck: Counter[str] = Counter()
        self.stuck = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Leave all servers up, and nothing paused."""
        self._over.set()
        self._thread.join()
        self._rest()

    def _run(self) -> None:
        restarts = [1 / 3, 2 / 3]
        while not self._over.wait(self._rng.uniform(*self._pause)):
            progress = self._progress()
            if restarts and progress > restarts[0]:
                restarts.pop(0)
                self._restart_redis(hard=not restarts)
                continue
            if progress >= 1:
                break
            dice = self._rng.random()
            if dice < 0.5:
                self._kill()
            elif dice < 0.8:
                self._suspend()
            else:
                self._terminate()

    def _workers(self) -> list[int]:
        return [
            pid
            for server in self._house.servers
            if server not in self._stopping
            for pid in server.workers()
            if pid not in self._paused
        ]

    def _kill(self) -> None:
        if workers := self._workers():
            _send(self._rng.choice(workers), signal.SIGKILL)
            self.struck["workers killed"] += 1

    def _suspend(self) -> None:
        """Have a worker sleep until others have taken it for dead."""
        workers = self._workers()
        if not workers or len(self._paused) >= 2:
            return
        pid = self._rng.choice(workers)
        seconds = self._house.lease * self._rng.uniform(1.2, 2.5)
        _send(pid, signal.SIGSTOP)
        self._paused.add(pid)
        self.struck["workers paused"] += 1

        def wake() -> None:
            time.sleep(seconds)
            _send(pid, signal.SIGCONT)
            self._paused.discard(pid)

        self._help(wake)

    def _terminate(self) -> None:
        """Have a master end in order, and start it again."""
        if self._stopping:
            return
        server = self._rng.choice(self._house.servers)
        self._stopping.append(server)
        self.struck["masters ended"] += 1

        def restart() -> None:
            assert server.process is not None
            server.process.send_signal(signal.SIGTERM)
            try:
                server.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.stuck += 1
                _kill_whole(server)
            server.launch()
            self._stopping.remove(server)

        self._help(restart)

    def _restart_redis(self, *, hard: bool) -> None:
        self._rest()
        redis = self._house.redis
        eventually(lambda: all(self._said("worker serves", pid) for pid in self._workers()))
        workers = {pid: self._said(CAUGHT_UP, pid) for pid in self._workers()}
        if hard:
            redis.kill()
        else:
            redis.stop()
        time.sleep(self._rng.uniform(0.2, 1.5 * self._house.lease))
        redis.start()
        self.struck["Redis restarted"] += 1
        eventually(
            lambda: all(self._said(CAUGHT_UP, pid) > before for pid, before in workers.items())
        )

    def _said(self, text: str, pid: int) -> int:
        """How often a worker logged that."""
        lines = (line for each in self._house.servers for line in each.log.read_text().splitlines())
        return sum(text in line and f'"pid":{pid}' in line for line in lines)

    def _help(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        self._helpers.append(thread)

    def _rest(self) -> None:
        """Wait for what is under way."""
        for thread in self._helpers:
            thread.join()
        self._helpers.clear()


def _kill_whole(server: Server) -> None:
    assert server.process is not None
    for pid in server.workers():
        _send(pid, signal.SIGKILL)
    server.process.kill()
    server.process.wait(PATIENCE)


def _send(pid: int, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, what)
