"""The command `runwait`.

What a command needs is imported when it is called: `serve` hands the process over to gunicorn, and
`--help` is to be there at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import ClassVar

import click

from runwait.cli.doctor import config_option, doctor
from runwait.cli.output import OneLine
from runwait.cli.resources import COMMANDS
from runwait.version import __version__, check_requirements

# gunicorn puts the working folder first on Python's path, unless it is there already: last, so that
# a `redis.py` in it is not taken for what Runwait imports. -P keeps Python from the same.
_GUNICORN = """\
import sys
from gunicorn import util
from gunicorn.app.wsgiapp import run
sys.path.append(util.getcwd())
run()
"""


class _Sections(click.Group):
    """Lists its commands by what they are for."""

    sections: ClassVar = {
        "Serving": ["serve", "work", "check", "openapi", "doctor", "keys"],
        "Asking a server": ["graphs", "runs", "threads", "crons", "webhooks", "schedule"],
    }

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them into the help."""
        for heading, names in self.sections.items():
            with formatter.section(heading):
                commands = [(name, self.commands[name].get_short_help_str(70)) for name in names]
                formatter.write_dl(commands)


@click.group(cls=_Sections, context_settings={"help_option_names": ["-h", "--help"]})
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

    The commands that ask a server do it by HTTP: --url or RUNWAIT_URL says where it is, and
    RUNWAIT_API_KEY has the key, if it wants one. They print tables on a terminal, and lines of
    tab-separated values into a pipe; with --json a line of JSON for each thing.
    """
    check_requirements()


@main.command()
@config_option
@click.option("--port", "-p", type=click.IntRange(1, 65535), help="Otherwise PORT, or 8000.")
def serve(config: Path | None, port: int | None) -> None:
    """Serve the graphs over HTTP, with gunicorn.

    gunicorn's options come from the settings; what GUNICORN_CMD_ARGS adds counts too. SIGTERM ends
    it once the runs had time to end (SHUTDOWN_GRACE_SECONDS), Ctrl-C at once. What has not ended
    goes on where it is served next.
    """
    _use(config)
    # gunicorn reads this one itself, as it is imported.
    if not os.environ.get("WEB_CONCURRENCY", "1").isdecimal():
        from runwait.settings import Settings, SettingsError

        try:
            Settings.from_env()
        except SettingsError as error:
            raise OneLine(str(error)) from None
    if port is not None:
        if "PORT" not in os.environ:
            os.environ.setdefault("HOST", "127.0.0.1")  # as without a port
        os.environ["PORT"] = str(port)
    gunicorn = ["-P", "-c", _GUNICORN, "-c", "python:runwait.server.gunicorn", "runwait.wsgi:app"]
    os.execv(sys.executable, [sys.executable, *gunicorn])  # nosec B606 # all of it is our own


@main.command()
@config_option
def work(config: Path | None) -> None:
    """Execute runs without serving requests.

    Takes what is ready: runs that were scheduled, that wait for their thread, or whose process is
    gone. With CLAIM_RUNS=false the processes of `serve` leave all of that to it.
    """
    from runwait.server.work import work

    _use(config)
    work()


@main.command()
@config_option
def check(config: Path | None) -> None:
    """Load the graphs, and print a line for each: for CI, and before a reload.

    The exit code is 1 if one of them, langgraph.json or a setting is at fault. Redis is not asked.
    """
    from runwait.cli.rest import problem_beside_graphs
    from runwait.graphs.config import GraphLoadError, read
    from runwait.graphs.loader import load_each, report
    from runwait.options import variables
    from runwait.settings import Settings, SettingsError

    _use(config)
    try:
        settings = Settings.from_env()
        file = read(settings.langgraph_config)
        settings.enter_project()
        said = [*variables.notes(file), *filter(None, [file.warning])]
    except (SettingsError, GraphLoadError) as error:
        raise OneLine(str(error)) from None
    for note in said:
        click.echo(f"note   {note}", err=True)
    faults = 0
    for graph_id, found in load_each(file):
        if isinstance(found, GraphLoadError):
            faults += 1
            told = report(found, whole=settings.log_level == "DEBUG")
            click.echo(f"fault  {told}", err=True)
        else:
            click.echo(f"ok     {graph_id}: {file.graphs[graph_id].target} ({found.kind})")
    if faults:
        raise OneLine(f"{faults} of {len(file.graphs)} graphs do not load")
    if problem := problem_beside_graphs(settings, file):
        raise OneLine(problem)


@main.command()
@config_option
def openapi(config: Path | None) -> None:
    """Print the API's description (OpenAPI 3.1), as /openapi.json has it.

    For tools that make clients or tests of it. The graphs are loaded, and Redis is not asked.
    """
    from runwait import create_app
    from runwait.api.openapi import description
    from runwait.graphs.config import GraphLoadError
    from runwait.serialization import dumps
    from runwait.settings import Settings, SettingsError

    _use(config)
    try:
        app = create_app(Settings.from_env())
    except (SettingsError, GraphLoadError, ValueError) as error:
        raise OneLine(str(error)) from None
    with app.test_request_context():
        click.echo(dumps(description()))


@main.command()
@click.argument("name", required=False)
def keys(name: str | None) -> None:
    """Make an API key, and print what API_KEYS may have for it.

    The key itself is shown once; API_KEYS needs no more than its hash. NAME is what the log calls
    it.
    """
    from runwait.auth.keys import ApiKeys, InvalidKeys, new_key

    key, hashed = new_key()
    entry = f"{name}={hashed}" if name else hashed
    try:
        ApiKeys(entry)
    except InvalidKeys:
        raise click.UsageError("NAME: must be 1 to 64 letters, digits or _-") from None
    click.echo(f"key       {key}\nAPI_KEYS  {entry}")


def _use(config: Path | None) -> None:
    if config is not None:
        os.environ["LANGGRAPH_CONFIG"] = str(config)


for _each in (doctor, *COMMANDS):
    main.add_command(_each)
