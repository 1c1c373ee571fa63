"""The command `runwait`, started without paying for its imports each time.

The real command imports LangGraph and all that it needs in gunicorn's master and again in each
worker. Here one process, the warm parent, has imported them once, and forks for each start. What it
forks becomes what `python -P -m runwait.cli` becomes, in the environment, the folder and with the
output that it is given: from there on it is gunicorn's master, which forks real workers. The parent
itself starts no thread, loads no graph and imports nothing that keeps what the environment says.

As a script this module is the parent; imported, it is the way to ask it for processes. When the
process that asked is gone, however it went, the parent ends all that descends from it. Where
several processes ask, one has imported everything for them (`share`), and forks a parent for each.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

# They read the environment when they are imported, or import gunicorn.config, which does.
READ_THE_ENVIRONMENT = (
    "runwait.wsgi",
    "runwait.server.gunicorn",
    "runwait.server.worker",
    "runwait.server.connections",
)
# What graphs import besides, what gunicorn is made of, and what is imported at first use.
BESIDES = (
    *("argparse", "concurrent.futures", "fcntl", "grp", "inspect", "pwd", "resource", "shlex"),
    *("http.client", "logging.config", "multiprocessing", "optparse", "tomllib"),
    *(
        "httpx",
        "langchain_core.language_models.chat_models",
        "langchain_core.messages",
        "langchain_core.tools",
        "langchain_core.tracers.langchain",
    ),
    *("langgraph.func", "langgraph.graph", "langgraph.prebuilt", "langgraph.types"),
    *("langsmith.client", "langsmith.run_trees"),
)
# Libraries that were imported in the parent read these then: a child cannot have others.
FIXED = (
    "DEFER_PYDANTIC_BUILD",
    "LANGGRAPH_DEFAULT_RECURSION_LIMIT",
    "LANGGRAPH_DELTA_MAX_SUPERSTEPS_SINCE_SNAPSHOT",
    "LANGGRAPH_STRICT_MSGPACK",
    "LANGSMITH_RUN_COMPRESSION_LEVEL",
    "LANGSMITH_RUN_COMPRESSION_THREADS",
    "PYDANTIC_DISABLE_PLUGINS",
)
# In a server's environment: no fault of Redis is meant, and it waits longer than in service, for a
# machine that may be slow.
PATIENT = "TEST_PATIENT"
# Names, in the environment, the socket at which processes get a parent of their own.
SHARED = "TEST_WARM_SOCKET"
PR_SET_CHILD_SUBREAPER = 36
MESSAGE_BYTES = 1 << 16


class WarmProcess:
    """A process that the parent forked: what tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, condition: threading.Condition) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._condition = condition

    def poll(self) -> int | None:
        """Its exit code once it has ended."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired.
        """
        with self._condition:
            self._condition.wait_for(lambda: self.returncode is not None, timeout)
        if self.returncode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Tell it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class WarmParent:
    """The connection to a parent of this process's own."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._processes: dict[int, WarmProcess] = {}
        self._started: list[WarmProcess] = []
        self._gone = False
        if name := os.environ.get(SHARED):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket.connect(f"\0{name}")
        else:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            _launch(theirs)
        threading.Thread(target=self._listen, name="warm", daemon=True).start()

    def start(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: dict[str, str],
        output: IO[bytes],
        new_session: bool = False,
    ) -> WarmProcess:
        """Start `runwait` with these arguments, both its outputs going to a file.

        Args:
            env: its whole environment.
        """
        fixed = [name for name in FIXED if env.get(name) != os.environ.get(name)]
        assert not fixed, f"start the real command, since it is imported with another {fixed}"
        asked = {
            "arguments": list(arguments),
            "cwd": str(cwd),
            "env": env,
            "new_session": new_session,
        }
        with self._condition:
            descriptors = array.array("i", [output.fileno()])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
            self._socket.sendmsg([json.dumps(asked).encode()], rights)
            self._condition.wait_for(lambda: self._started or self._gone)
            assert self._started, "the warm parent is gone"
            return self._started.pop()

    def _listen(self) -> None:
        try:
            while message := self._socket.recv(MESSAGE_BYTES):
                with self._condition:
                    self._hear(json.loads(message))
                    self._condition.notify_all()
        finally:
            with self._condition:
                self._gone = True
                self._condition.notify_all()

    def _hear(self, told: dict[str, int]) -> None:
        if "returncode" in told:
            self._processes.pop(told["pid"]).returncode = told["returncode"]
        else:
            process = WarmProcess(told["pid"], self._condition)
            self._processes[process.pid] = process
            self._started.append(process)


_parent: WarmParent | None = None
_parent_lock = threading.Lock()


def start(arguments: Sequence[str], **options: Any) -> WarmProcess:
    """`WarmParent.start` of this process's parent, which is there from the first call on."""
    global _parent
    with _parent_lock:
        if _parent is None:
            _parent = WarmParent()
    return _parent.start(arguments, **options)


def share() -> None:
    """Have the processes that this one starts from here on, and theirs, get their parents from one
    that imports everything once; it ends with this one."""
    global _kept
    name = f"warm-{uuid.uuid4()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0{name}")
    listener.listen()
    _kept, theirs = socket.socketpair()
    _launch(theirs, listener)
    os.environ[SHARED] = name


_kept: socket.socket | None = None


def _launch(*sockets: socket.socket) -> None:
    """Start this module as a script, with sockets that are its own from then on."""
    subprocess.Popen(
        [sys.executable, "-P", __file__, *(str(each.fileno()) for each in sockets)],
        pass_fds=[each.fileno() for each in sockets],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    for each in sockets:
        each.close()


# What follows is the parent's.


class _Become(BaseException):
    """Stands for os.execv: the process is to go on as another command of the same Python."""

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv


def _import_all() -> None:
    import runwait

    for module in pkgutil.walk_packages(runwait.__path__, "runwait."):
        if module.name not in READ_THE_ENVIRONMENT:
            importlib.import_module(module.name)
    for name in BESIDES:
        importlib.import_module(name)

    import gc

    import langsmith.utils

    # It keeps what it read of the environment.
    langsmith.utils.get_env_var.cache_clear()
    # A child that collects garbage would copy every page of what lives as long as it does.
    gc.collect()
    gc.freeze()


def _shared(sharing: socket.socket, listener: socket.socket) -> socket.socket | None:
    """Fork a parent for each process that asks, for as long as the one that shares it is there.

    Returns:
        In a child: the connection to the process whose parent it is.
    """
    import select

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([sharing, listener], [], [])
        if sharing in ready:
            return None
        connection, _ = listener.accept()
        if os.fork() == 0:
            sharing.close()
            listener.close()
            return connection
        connection.close()


def _serve(connection: socket.socket) -> dict[str, Any] | None:
    """Fork as often as asked; return in the parent when nobody asks any more.

    Returns:
        In a child: what it is to be.
    """
    # Orphans among its descendants become its children, so that it can end them too.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told, tell = os.pipe()
    for each in (told, tell):
        os.set_blocking(each, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    own: set[int] = set()

    import select

    while True:
        ready, _, _ = select.select([connection, told], [], [])
        if told in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(told, MESSAGE_BYTES)
            for ended, code in _reaped():
                # Not of an orphan that happens to have the number of one that was.
                if ended in own:
                    own.remove(ended)
                    _send(connection, {"pid": ended, "returncode": code})
        if connection in ready:
            try:
                message, descriptors, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 1)
            except ConnectionError:
                return None
            if not message:
                return None
            (output,) = descriptors
            assert len(list(Path("/proc/self/task").iterdir())) == 1
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                os.dup2(output, 1)
                os.dup2(output, 2)
                asked: dict[str, Any] = json.loads(message)
                return asked
            os.close(output)
            own.add(pid)
            _send(connection, {"pid": pid})


def _send(connection: socket.socket, message: dict[str, int]) -> None:
    # An error says that nobody asks any more, which is noticed where it is waited for.
    with contextlib.suppress(OSError):
        connection.send(json.dumps(message).encode())


def _reaped() -> Iterator[tuple[int, int]]:
    """Each child that has ended, and its exit code."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended[0], os.waitstatus_to_exitcode(ended[1])


def _end_all() -> None:
    """End all that descends from this process."""
    import psutil

    while children := psutil.Process().children(recursive=True):
        for each in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        list(_reaped())
        time.sleep(0.01)


def _become(asked: dict[str, Any]) -> None:
    """Be a new process, as far as anything in it can tell."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for number in signal.valid_signals():
        # Python's own start leaves these ignored.
        if number not in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGKILL, signal.SIGSTOP):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if asked["new_session"]:
        os.setsid()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    if PATIENT in os.environ:
        from runwait.storage import connection

        connection.WAIT_SECONDS, connection.IN_TIME_SECONDS = 5.0, 20.0


def _run(arguments: list[str]) -> None:
    from runwait import cli

    def become(_: str, argv: list[str]) -> NoReturn:
        raise _Become(argv)

    real, os.execv = os.execv, become
    sys.argv = [cli.__file__, *arguments]
    try:
        cli.main()
    except _Become as next_one:
        became = next_one.argv
    else:
        return
    # No longer while that is handled: it would be the context of all that is raised.
    os.execv = real
    _, *options, code = became[:4]
    assert options == ["-P", "-c"]
    sys.argv = ["-c", *became[4:]]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


def _main() -> None:
    _import_all()
    connection: socket.socket | None
    connection, *listener = (socket.socket(fileno=int(each)) for each in sys.argv[1:])
    if listener:
        connection = _shared(connection, *listener)
    if connection is None:
        return
    asked = None
    try:
        asked = _serve(connection)
    finally:
        if asked is None:
            _end_all()
    if asked is None:
        return
    _become(asked)
    _run(asked["arguments"])


if __name__ == "__main__":
    _main()
