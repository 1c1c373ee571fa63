"""The command `runwait`.

What a command needs is imported when it is called: `serve` hands the process over to gunicorn, and
`--help` is to be there at once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runwait.version import __version__, check_requirements

if TYPE_CHECKING:
    from runwait.storage.outbox import DeadLetter, Outbox

# How many webhooks are read at a time.
PAGE = 100

# gunicorn puts the working folder first on Python's path, unless it is there already: last, so that
# a `redis.py` in it is not taken for what Runwait imports. -P keeps Python from the same.
_GUNICORN = """\
import sys
from gunicorn import util
from gunicorn.app.wsgiapp import run
sys.path.append(util.getcwd())
run()
"""

_config = click.option(
    "--config",
    "-c",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file that names the graphs; otherwise LANGGRAPH_CONFIG, or ./langgraph.json.",
)


class OneLine(click.ClickException):
    """An error that is one line on standard error; the exit code is 1."""

    def show(self, file: Any = None) -> None:
        """Print it."""
        click.echo(f"runwait: {self.message}", err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="runwait")
def main() -> None:
    """Serve LangGraph graphs behind the HTTP API of LangGraph's Agent Server.

    In a folder with a langgraph.json, start with:

    \b
      runwait check     do the graphs load?
      runwait serve     serve them, on port 8000

    \b
    and ask, from another terminal:
      curl http://localhost:8000/runs/wait \\
        -d '{"assistant_id": "NAME OF A GRAPH", "input": {}}'

    Settings are environment variables: PORT, REDIS_URL, WEB_CONCURRENCY and others, which the
    README lists. Without REDIS_URL a Valkey server is started, with its files in ./data.
    """
    check_requirements()


@main.command()
@_config
@click.option("--port", "-p", type=click.IntRange(1, 65535), help="Otherwise PORT, or 8000.")
def serve(config: Path | None, port: int | None) -> None:
    """Serve the graphs over HTTP, with gunicorn.

    gunicorn's options come from the settings; what GUNICORN_CMD_ARGS adds counts too. SIGTERM ends
    it once the runs had time to end (SHUTDOWN_GRACE_SECONDS), Ctrl-C at once. What has not ended
    goes on where it is served next.
    """
    _use(config)
    if port is not None:
        if "PORT" not in os.environ:
            os.environ.setdefault("HOST", "127.0.0.1")  # as without a port
        os.environ["PORT"] = str(port)
    gunicorn = ["-P", "-c", _GUNICORN, "-c", "python:runwait.server.gunicorn", "runwait.wsgi:app"]
    os.execv(sys.executable, [sys.executable, *gunicorn])


@main.command()
@_config
def work(config: Path | None) -> None:
    """Execute runs without serving requests.

    Takes what is ready: runs that were scheduled, that wait for their thread, or whose process is
    gone. With CLAIM_RUNS=false the processes of `serve` leave all of that to it.
    """
    from runwait.server.work import work

    _use(config)
    work()


@main.command()
@_config
def check(config: Path | None) -> None:
    """Load the graphs, and print a line for each: for CI, and before a reload.

    The exit code is 1 if one of them, langgraph.json or a setting is at fault. Redis is not asked.
    """
    from runwait.api.options import http_options
    from runwait.api.own_routes import own_app
    from runwait.graphs.config import GraphLoadError, read
    from runwait.graphs.loader import load_each, report
    from runwait.settings import Settings, SettingsError
    from runwait.store import store_options
    from runwait.webhooks.options import webhook_options

    _use(config)
    try:
        settings = Settings.from_env()
        file = read(settings.langgraph_config)
        settings.enter_project()
    except (SettingsError, GraphLoadError) as error:
        raise OneLine(str(error)) from None
    if file.warning:
        click.echo(f"note   {file.warning}", err=True)
    faults = 0
    for graph_id, found in load_each(file):
        if isinstance(found, GraphLoadError):
            faults += 1
            told = report(found, whole=settings.log_level == "DEBUG")
            click.echo(f"fault  {told}", err=True)
        else:
            click.echo(f"ok     {graph_id}: {file.graphs[graph_id].target} ({found.kind})")
    if not faults:
        try:
            store_options(file)
            webhook_options(settings.completed_by(file), file)
            own_app(file, http_options(settings, file))
        except (GraphLoadError, ValueError) as error:
            raise OneLine(str(error)) from None
    if faults:
        raise OneLine(f"{faults} of {len(file.graphs)} graphs do not load")


@main.group()
def webhooks() -> None:
    """List webhooks that were given up, or have them sent again.

    Redis is found as the server finds it: by REDIS_URL and REDIS_PREFIX, or DATA_DIR. The server
    need not be running, unless it is the one that runs Redis.
    """


@webhooks.command("list")
def list_webhooks() -> None:
    """Print a line for each, the last one first.

    A line has the run's id, the time, the number of attempts, the URL and the last failure.
    """
    for each in _dead(_outbox()):
        click.echo(_line(each))


@webhooks.command()
@click.argument("run_id", required=False)
@click.option("--all", "every", is_flag=True, help="Every one of them.")
def retry(run_id: str | None, every: bool) -> None:
    """Have the webhook of a run sent again, from now on for as long as a new one."""
    from runwait.storage.connection import StorageUnavailable

    if (run_id is None) != every:
        raise click.UsageError("Give either the id of a run or --all.")
    outbox = _outbox()
    try:
        if run_id is None:
            retried = sum(outbox.retry(each.run_id) for each in list(_dead(outbox)))
        else:
            retried = int(outbox.retry(run_id))
    except StorageUnavailable as error:
        raise OneLine(str(error)) from None
    if run_id is not None and not retried:
        raise OneLine(f"no webhook of run {run_id} is to be delivered")
    click.echo(f"{retried} to be tried again")


def _use(config: Path | None) -> None:
    if config is not None:
        os.environ["LANGGRAPH_CONFIG"] = str(config)


def _outbox() -> Outbox:
    from runwait.settings import Settings, SettingsError
    from runwait.storage.cluster import storage_of
    from runwait.storage.connection import StorageUnsuitable
    from runwait.storage.outbox import Outbox

    # What is logged of Redis is about runs; here an error is one line.
    logging.getLogger("runwait").addHandler(logging.NullHandler())
    try:
        settings = Settings.from_env()
        storage = storage_of(
            settings.storage_url, 1, settings.redis_prefix, settings.redis_wait_replicas
        )
        storage.start()
    except (SettingsError, StorageUnsuitable) as error:
        raise OneLine(str(error)) from None
    return Outbox(storage, settings.redis_prefix)


def _dead(outbox: Outbox) -> Iterator[DeadLetter]:
    from runwait.storage.connection import StorageUnavailable

    offset = 0
    try:
        while page := outbox.dead(PAGE, offset):
            yield from page
            offset += PAGE
    except StorageUnavailable as error:
        raise OneLine(str(error)) from None


def _line(letter: DeadLetter) -> str:
    died = letter.died.isoformat(timespec="seconds")
    return f"{letter.run_id}  {died}  {letter.attempts} attempts  {letter.url}  {letter.error}"


if __name__ == "__main__":
    main()
