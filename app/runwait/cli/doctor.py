"""`runwait doctor`: looks at all that a start needs, and says what to mend."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import click

from runwait.cli.output import json_option, plain

if TYPE_CHECKING:
    from redis import Redis

    from runwait.graphs.config import LanggraphConfig
    from runwait.settings import Settings

config_option = click.option(
    "--config",
    "-c",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file that names the graphs; otherwise LANGGRAPH_CONFIG, or ./langgraph.json.",
)
# Seconds by which two clocks may differ: more, and times in answers and signatures look wrong.
SKEW_SECONDS = 2.0
# Bytes that are to be free where the embedded server keeps its files.
FREE_BYTES = 256 * 1024 * 1024
# Threads of a process beside those that run graphs.
OTHER_THREADS = 60


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: mend what has to be mended before it serves well; note what should be known.
        about: what was looked at.
        text: how it is, and what to do.
    """

    level: Literal["ok", "note", "mend"]
    about: str
    text: str


@click.command()
@config_option
@json_option
def doctor(config: Path | None, as_json: bool) -> None:
    """Look at all that a start needs, and say what to mend.

    Looks at this machine as `runwait serve` would find it: settings, langgraph.json and its
    graphs, Redis, who may call, limits of files and threads, and the clock. Prints a line for
    each: ok, note or mend. The exit code is 1 if anything is to be mended.
    """
    if config is not None:
        os.environ["LANGGRAPH_CONFIG"] = str(config)
    is_ill = False
    for each in _findings():
        is_ill |= each.level == "mend"
        if as_json:
            click.echo(json.dumps(vars(each)))
        elif sys.stdout.isatty():
            color = {"ok": "green", "note": "yellow", "mend": "red"}[each.level]
            level = click.style(each.level.ljust(4), fg=color, bold=True)
            click.echo(f"{level}  {each.about.ljust(9)}  {plain(each.text)}")
        else:
            click.echo(f"{each.level}\t{each.about}\t{plain(each.text)}")
    sys.exit(1 if is_ill else 0)


def _findings() -> Iterator[Finding]:
    from runwait.settings import Settings, SettingsError

    # What is logged of Redis is about runs.
    logging.getLogger("runwait").addHandler(logging.NullHandler())
    logging.getLogger("runwait").propagate = False
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        yield Finding("mend", "settings", str(error))
        return
    yield Finding("ok", "settings", "all can be used")
    file = yield from _graphs(settings)
    yield from _redis(settings)
    yield from _callers(settings, file)
    yield from _limits(settings)


def _graphs(settings: Settings) -> Generator[Finding, None, LanggraphConfig | None]:
    from runwait.cli.rest import problem_beside_graphs
    from runwait.graphs.config import GraphLoadError, read
    from runwait.graphs.loader import load_each
    from runwait.options import variables

    try:
        file = read(settings.langgraph_config)
        settings.enter_project()
        said = [*variables.notes(file)]
    except GraphLoadError as error:
        yield Finding("mend", "config", str(error))
        return None
    for note in said:
        yield Finding("note", "settings", note)
    if file.warning:
        yield Finding("note", "config", file.warning)
    else:
        yield Finding("ok", "config", str(file.path))
    for graph_id, found in load_each(file):
        if isinstance(found, GraphLoadError):
            yield Finding("mend", "graph", str(found))
        else:
            target = file.graphs[graph_id].target
            yield Finding("ok", "graph", f"{graph_id}: {target} ({found.kind})")
    if problem := problem_beside_graphs(settings, file):
        yield Finding("mend", "config", problem.splitlines()[0])
    return file


def _redis(settings: Settings) -> Iterator[Finding]:
    from runwait.storage.cluster import storage_of
    from runwait.storage.connection import StorageUnsuitable

    url = settings.storage_url
    if settings.redis_url is None:
        yield from _embedded(settings)
        if not Path(urlsplit(url).path).exists():
            return
    storage = storage_of(url, 1, settings.redis_prefix)
    try:
        storage.start()
    except StorageUnsuitable as error:
        yield Finding("mend", "redis", str(error))
        return
    if storage.problem is not None:
        hint = "REDIS_URL says where it is" if settings.redis_url else "`runwait serve` starts it"
        yield Finding("mend", "redis", f"{storage.problem}; {hint}")
        return
    if storage.warning is not None:
        yield Finding("mend", "redis", storage.warning)
    yield from _server(settings)
    if storage.clock is not None:
        redis_ms, asked = storage.clock
        skew = abs(time.time() - (time.monotonic() - asked) - redis_ms / 1000)
        if skew > SKEW_SECONDS:
            text = f"this machine's and Redis's differ by {skew:.0f} s: have both set by NTP"
            yield Finding("mend", "clock", text)
        else:
            yield Finding("ok", "clock", "this machine's and Redis's agree")


def _server(settings: Settings) -> Iterator[Finding]:
    """What Redis says of itself."""
    from redis.exceptions import RedisError

    from runwait.storage.cluster import server_of
    from runwait.storage.connection import client

    try:
        with client(server_of(settings.storage_url, settings.redis_prefix)) as redis:
            info: dict[str, Any] = redis.info("everything")
            saves = _saves(redis)
    except RedisError as error:
        yield Finding("note", "redis", f"its user may not ask how it is: {error}")
        return
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "?")
    yield Finding("ok", "redis", f"{name} {version} answers, and its user may do what is needed")
    if settings.redis_url is not None:
        if info.get("aof_enabled") == 0 and saves is False:
            text = "keeps nothing on disk: a restart loses all threads, schedules and webhooks"
            yield Finding("mend", "redis", f"{text}; set appendonly yes")
        elif info.get("aof_enabled") == 0:
            text = "is not append-only: a crash loses what came since the last snapshot"
            yield Finding("note", "redis", f"{text}; set appendonly yes")
    if info.get("rdb_last_bgsave_status") == "err" or info.get("aof_last_write_status") == "err":
        yield Finding("mend", "redis", "could not write to its disk the last time; see its log")
    most, used = info.get("maxmemory") or 0, info.get("used_memory") or 0
    if most and used > 0.9 * most:
        yield Finding("mend", "redis", f"its memory is {used / most:.0%} full: give it more")
    needed = settings.web_concurrency * (settings.redis_max_connections + 1)
    if info.get("maxclients", sys.maxsize) < needed:
        text = f"takes {info['maxclients']} connections, and {needed} are needed"
        yield Finding("mend", "redis", f"{text}: lower WEB_CONCURRENCY or REDIS_MAX_CONNECTIONS")


def _saves(redis: Redis) -> bool | None:
    """Whether it takes snapshots by itself; None where its user may not ask."""
    from redis.exceptions import RedisError

    try:
        return bool(redis.config_get("save").get("save"))
    except RedisError:
        return None


def _embedded(settings: Settings) -> Iterator[Finding]:
    """What the embedded server needs."""
    folder = settings.data_dir
    existing = next(each for each in [folder, *folder.parents] if each.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        yield Finding("mend", "redis", f"{folder} cannot be written; DATA_DIR says where else")
    elif (free := shutil.disk_usage(existing).free) < FREE_BYTES:
        text = f"{folder}: only {free // 2**20} MiB are free for the Valkey server's files"
        yield Finding("mend", "redis", text)
    else:
        text = "without REDIS_URL a Valkey server of its own is started, for this machine alone"
        yield Finding("note", "redis", f"{text}; its files are in {folder}")


def _callers(settings: Settings, file: LanggraphConfig | None) -> Iterator[Finding]:
    """Who can call."""
    from runwait.options.auth import is_loopback

    if settings.api_keys or (file is not None and file.section("auth").get("path")):
        yield Finding("ok", "auth", "callers have to say who they are")
    elif is_loopback(settings.host):
        yield Finding("ok", "auth", f"only this machine reaches {settings.host}")
    else:
        text = f"whoever reaches {settings.host}:{settings.port} can run graphs"
        yield Finding("mend", "auth", f"{text}: set API_KEYS, or HOST=127.0.0.1 behind a proxy")


def _limits(settings: Settings) -> Iterator[Finding]:
    """What the machine gives a process."""
    import resource

    from runwait.server.connections import SPARE_DESCRIPTORS

    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.waiters_max + SPARE_DESCRIPTORS
    if files != resource.RLIM_INFINITY and files < needed:
        text = f"a process may open {files}, and {settings.waiters_max} clients need {needed}"
        yield Finding("mend", "files", f"{text}: raise `ulimit -n`, or lower WAITERS_MAX")
    else:
        yield Finding("ok", "files", f"enough for {settings.waiters_max} clients that wait")
    threads = _most_threads()
    if threads is None:
        return
    wanted = settings.web_concurrency * (settings.run_concurrency + OTHER_THREADS)
    if threads < settings.web_concurrency * OTHER_THREADS:
        text = f"the machine gives {threads}, and each process needs some {OTHER_THREADS}"
        yield Finding("mend", "threads", f"{text}: lower WEB_CONCURRENCY")
    elif threads < wanted:
        text = f"the machine gives {threads}: synchronous runs beyond that take turns"
        yield Finding("note", "threads", f"{text}; RUN_CONCURRENCY says how many there may be")
    else:
        yield Finding("ok", "threads", f"enough for {settings.run_concurrency} runs a process")


def _most_threads() -> int | None:
    """How many threads the machine gives to all processes together; None where nothing says."""
    import resource

    found = []
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    # The limit is not root's.
    if limit != resource.RLIM_INFINITY and os.geteuid() != 0:
        found.append(limit)
    for name in ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"):
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    return min(found, default=None)
