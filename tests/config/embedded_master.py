"""A process that uses `config.embedded` as gunicorn's master does; test_embedded.py runs it.

Arguments: the data folder, then NAME=VALUE for each constant of the module that a test changes.
Commands on stdin, one a line: fork (a worker, which waits for SIGTERM), start, exit (without a
stop). SIGTERM and SIGINT end the workers, then the server.
"""

import os
import signal
import sys
from ast import literal_eval
from contextlib import suppress
from pathlib import Path

import redis

from config import embedded


def say(line: str) -> None:
    print(line, flush=True)


def leave(*_: object) -> None:
    raise SystemExit(0)


def reap(*_: object) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def fork() -> int:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, leave)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        say(f"worker {os.getpid()} {embedded.url(folder)}")
        signal.pause()
    return pid


def serve() -> None:
    for command in iter(sys.stdin.readline, ""):
        match command.strip():
            case "fork":
                workers.append(fork())
            case "start":
                embedded.start(folder, say)
                say("started")
            case "exit":
                sys.exit(1)


folder = Path(sys.argv[1])
for setting in sys.argv[2:]:
    name, value = setting.split("=")
    setattr(embedded, name, literal_eval(value))
master = os.getpid()
workers: list[int] = []
embedded.start(folder, say)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, leave)
signal.signal(signal.SIGCHLD, reap)
try:
    say("started")
    serve()
except SystemExit as leaving:
    if leaving.code or os.getpid() != master:
        raise
    for worker in workers:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGTERM)
    with suppress(redis.RedisError):
        redis.Redis.from_url(embedded.url(folder), socket_timeout=1).incr("seen at the end")
    embedded.stop()
