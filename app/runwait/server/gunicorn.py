"""gunicorn's settings, derived from the service's (see runwait/settings.py).

What gunicorn calls its hooks with is documented in its own settings reference.
"""

# ruff: noqa: E402  (what comes before the other imports has to)

import os
import re
import sys

# gunicorn puts the working folder first on the path, where a project's `calendar.py` or `redis.py`
# would hide the one that is meant. It goes last, as everything of a project's does.
_here = os.path.realpath(os.curdir)
sys.path[:] = [each for each in sys.path if os.path.realpath(each) != _here] + [_here]

from runwait.version import check_requirements

check_requirements()

import gc
import importlib
import itertools
import logging
import math
import multiprocessing
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import gunicorn.glogging
from gunicorn.errors import HaltServer

from runwait import logs, tracing
from runwait.api.own_routes import own_app
from runwait.graphs.config import GraphLoadError, read
from runwait.graphs.loader import load, report
from runwait.metrics import files
from runwait.options import options_of, variables
from runwait.options.auth import notes
from runwait.options.checkpointer import completed
from runwait.options.http import http_options
from runwait.options.webhooks import webhook_options
from runwait.server import embedded
from runwait.settings import Settings, SettingsError

# Connections of a process beyond those that wait for a run.
IDLE_CONNECTIONS = 5000
# What gunicorn says of the start and of each worker; the workers say when they serve.
_QUOTED = re.compile(r"(Invalid request from ip=\S*: [^:]*).*", re.DOTALL)
_STARTS = ("Starting gunicorn", "Listening at", "Using worker", "Booting worker", "Worker exiting")


class GunicornLogger(gunicorn.glogging.Logger):
    """gunicorn's log without its access log, since the app logs its requests, and its start."""

    def info(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Called for what is not wrong."""
        (super().debug if msg.startswith(_STARTS) else super().info)(msg, *args, **kwargs)

    def warning(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Called for what is no valid HTTP, too, which is quoted: it may be a key, or have one."""
        super().warning(_QUOTED.sub(r"\1", msg), *args, **kwargs)

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Called for faults, with the request's method and its URL, whose query may have a key."""
        args = tuple(each.partition("?")[0] if isinstance(each, str) else each for each in args)
        super().exception(msg, *args, **kwargs)

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Called for each request."""


try:
    _settings = Settings.from_env()
except SettingsError as error:
    sys.exit(f"runwait: {error}")

logconfig_dict = logs.config_for(_settings)
logging.captureWarnings(True)
logger_class = GunicornLogger

bind = (
    f"[{_settings.host}]:{_settings.port}"
    if ":" in _settings.host
    else (f"{_settings.host}:{_settings.port}")
)
workers = _settings.web_concurrency
worker_class = "runwait.server.worker.Worker"
# Those that wait, and those that are idle between requests.
worker_connections = _settings.waiters_max + IDLE_CONNECTIONS
# As many as Linux has wait to be accepted, unless told otherwise. A client for whom there is no
# room tries again after a second.
backlog = 4096
# Longer than the clients' and proxies' own, so that it is they who close idle connections:
# a request sent into a connection that is just being closed is lost.
keepalive = 75
graceful_timeout = math.ceil(_settings.shutdown_grace_seconds) + 5
# A worker whose main thread is silent for so long is killed; graphs that compute do not
# silence it, unless they hold Python's lock all the time.
timeout = 120
control_socket_disable = True
# No header of a request says by itself where the app is mounted, or that it came over TLS, also not
# where nginx or another user of this machine sent it: FORWARDED_HOPS does (api/edge.py).
forwarder_headers = ""
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}


def on_starting(server: Any) -> None:
    """Make sure of what the workers need, so that what is wrong is said once."""
    server.stop = partial(_stop, server.stop)
    server.reload = partial(_reload, server, server.reload)
    # With SIGUSR2 gunicorn starts a second master, by sys.argv, in which Python's options lack.
    server.START_CTX["args"] = [sys.executable, *sys.orig_argv[1:]]
    _make_sure_of_addresses(server)
    try:
        config = read(_settings.langgraph_config)
        for note in variables.notes(config):
            logging.getLogger("runwait.settings").warning(note)
        if config.warning:
            logging.getLogger("runwait.graphs").warning(config.warning)
        for note in notes(_settings, config):
            logging.getLogger("runwait.auth").warning(note)
        completed(_settings, config)
        webhook_options(_settings, config)
        http_options(_settings, config)
        if _settings.embedded:
            embedded.start(_settings.data_dir, logging.getLogger("runwait.storage").warning)
    except (
        GraphLoadError,
        ValueError,
        embedded.EmbeddedServerError,
    ) as error:
        sys.exit(f"runwait: {error}")
    files.make()
    if problem := tracing.problem():
        logging.getLogger("runwait.traces").warning(problem)
    _import_what_workers_share()
    if sys.stderr.isatty():
        _tell_of_runs_from_before()


def _make_sure_of_addresses(server: Any) -> None:
    """Say in one line where nothing can be served; gunicorn would try it again and again."""
    if server.master_pid or "LISTEN_FDS" in os.environ or server.cfg.reuse_port:
        return  # another process opened them
    for address in server.cfg.address:
        if isinstance(address, tuple):
            with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as attempt:
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    attempt.bind(address)
                except OSError as error:
                    where, reason = f"{address[0]}:{address[1]}", error.strerror
                    sys.exit(f"runwait: {where}: {reason}; HOST and PORT say where to serve")


def _tell_of_runs_from_before() -> None:
    """Say at a terminal that what Ctrl-C cut off goes on: whoever pressed it may not mean that."""
    from runwait.storage.records import ready_now

    if number := ready_now(_settings.storage_url, _settings.redis_prefix):
        logging.getLogger("runwait.runs").warning(
            "runs that had not ended go on: %d; to end all runs: "
            'curl http://localhost:%d/runs/cancel -d \'{"status": "all"}\'',
            number,
            _settings.port,
        )


# The last is what graphs with a chat model import, and the dearest of it: pydantic looks through
# much of the memory that workers share, and whoever looks at an object in Python writes to it.
SHARED_MODULES = (
    "runwait.api",
    "runwait.runs.service",
    "runwait.server.worker",
    "langgraph.graph",
    "langchain_core.language_models.chat_models",
)


def _import_what_workers_share() -> None:
    """Import once, in the master, what each worker would import: it starts sooner, and its memory
    is shared. Graphs are loaded in the workers, so that a reload loads them anew."""
    for name in SHARED_MODULES:
        importlib.import_module(name)
    # Collections in a worker would write to what it shares.
    gc.collect()
    gc.freeze()


def _reload(server: Any, reload: Callable[[], None]) -> None:
    """Start new workers in place of those that serve, if they can start."""
    forking = multiprocessing.get_context("fork")
    ours, theirs = forking.Pipe(duplex=False)
    process = forking.Process(target=_tell_what_is_wrong, args=(theirs,))
    process.start()
    theirs.close()
    try:
        problem = (
            ours.recv() if ours.poll(server.cfg.timeout) else "loading the graphs takes too long"
        )
    except EOFError:
        problem = "loading the graphs ends the process"
    process.kill()
    process.join()
    if problem:
        server.log.error("not reloaded, the workers that serve go on: %s", problem)
    else:
        reload()


def _tell_what_is_wrong(pipe: Any) -> None:
    """In a process of its own, since a module is loaded only once."""
    try:
        settings = Settings.from_env()
        settings.enter_project()
        config = read(settings.langgraph_config)
        load(config, settings.state_modules or ())
        own_app(config, options_of(settings, config).http)
    except GraphLoadError as error:
        pipe.send(report(error, whole=_settings.log_level == "DEBUG"))
    except (SettingsError, ValueError) as error:
        pipe.send(str(error))
    else:
        pipe.send(None)


def on_reload(server: Any) -> None:
    """New workers are about to start, and say again what they serve."""
    from runwait.server.worker import saying_where

    saying_where.give()


def pre_fork(server: Any, worker: Any) -> None:
    """Give a worker the first place that is free."""
    taken = {each.place for each in server.WORKERS.values()}
    worker.place = next(place for place in itertools.count() if place not in taken)


def child_exit(server: Any, worker: Any) -> None:
    """A worker is gone, and what it was doing."""
    files.leave(str(worker.place))


def _stop(stop: Callable[[bool], None], graceful: bool = True) -> None:
    """Stop the workers, of which more than one may have been unable to start.

    gunicorn's master stops when it finds a worker that could not. A second one that it finds
    meanwhile would end the stop half done, with a traceback.
    """
    while True:
        try:
            return stop(graceful)
        except HaltServer:
            continue


def on_exit(server: Any) -> None:
    """The workers are gone: now the server that they used may go."""
    embedded.stop()
    files.remove()
