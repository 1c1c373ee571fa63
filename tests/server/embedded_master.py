"""A process that uses the embedded server as gunicorn's master does; test_embedded.py runs it.

Arguments: the data folder, then NAME=VALUE for each constant of the module that a test changes.
Commands on stdin, one a line: fork (a worker, which waits for SIGTERM), start, exit (without a
stop). SIGTERM and SIGINT end the workers, then the server.
"""

import os
import select
import signal
import sys
from ast import literal_eval
from contextlib import suppress
from pathlib import Path

import redis

from runwait.server import embedded
from runwait.storage.urls import of_embedded


def say(line: str) -> None:
    print(line, flush=True)


def reap(*_: object) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def work() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    say(f"worker {os.getpid()}")
    signal.pause()


def serve() -> None:
    # Wakes now and then as gunicorn does: a signal that came to the thread interrupts no select.
    while not signals:
        if select.select([0], [], [], 0.2)[0]:
            for command in os.read(0, 1024).decode().splitlines() or ["end of input"]:
                match command:
                    case "fork":
                        workers.append(os.fork())
                        if workers[-1] == 0:
                            work()
                    case "start":
                        embedded.start(folder, say)
                        say("started")
                    case _:
                        sys.exit(1)


folder = Path(sys.argv[1])
for setting in sys.argv[2:]:
    name, value = setting.split("=")
    setattr(embedded, name, literal_eval(value))
workers: list[int] = []
signals: list[int] = []
embedded.start(folder, say)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: signals.append(number))
signal.signal(signal.SIGCHLD, reap)
say("started")
serve()
for worker in workers:
    with suppress(ProcessLookupError):
        os.kill(worker, signal.SIGTERM)
with suppress(redis.RedisError):
    redis.Redis.from_url(of_embedded(folder), socket_timeout=1).incr("seen at the end")
embedded.stop()
