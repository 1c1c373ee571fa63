"""The commands that ask a server: graphs, runs, threads, crons, webhooks, schedule."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runwait.cli.output import OneLine, each_of, json_option, listed, shown

if TYPE_CHECKING:
    from runwait.cli.client import Server

# Of how many threads runs are listed, where no thread is named.
RECENT_THREADS = 50
# How many webhooks are asked for at a time.
PAGE = 100


def _server(context: click.Context, parameter: click.Parameter, url: str | None) -> Server:
    from runwait.cli.client import Server

    url = url or f"http://127.0.0.1:{os.environ.get('PORT') or 8000}"
    return Server(url, os.environ.get("RUNWAIT_API_KEY"))


server_option = click.option(
    "--url",
    "server",
    envvar="RUNWAIT_URL",
    callback=_server,
    help="The server to ask; otherwise RUNWAIT_URL, or this machine's at PORT or 8000.",
)
_limit = click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many at most."
)
_yes = click.option("--yes", is_flag=True, help="Ask nothing before.")
_metadata = click.option(
    "--metadata",
    "-m",
    multiple=True,
    metavar="NAME=VALUE",
    callback=lambda context, parameter, given: dict(map(_pair, given)),
    help="What the metadata has; may be given more than once. A value that is JSON is that.",
)


def _pair(given: str) -> tuple[str, Any]:
    name, equals, value = given.partition("=")
    if not equals or not name:
        raise click.BadParameter("must be NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _json(context: click.Context, parameter: click.Parameter, given: str | None) -> Any:
    """A JSON value: itself, that of a file with @FILE, or that of standard input with -."""
    if given is None:
        return None
    try:
        if given == "-":
            given = sys.stdin.read()
        elif given.startswith("@"):
            given = Path(given[1:]).read_text(encoding="utf-8")
        return json.loads(given)
    except OSError as error:
        raise click.BadParameter(f"{given[1:]}: {error.strerror}") from None
    except ValueError as error:
        raise click.BadParameter(f"is not JSON: {error}") from None


def _listing(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a command that lists."""
    return _limit(server_option(json_option(command)))


def _sure(question: str, yes: bool) -> bool:
    if not yes and not sys.stdin.isatty():
        raise OneLine(f"{question} Give --yes, since nobody can be asked")
    return yes or click.confirm(question, err=True)


def _delete(server: Server, path: str, ids: Sequence[str]) -> None:
    for each in each_of(ids, "Deleting"):
        server.delete(path, each)
    click.echo(f"{len(ids)} deleted")


# Graphs


@click.command()
@click.argument("name", required=False)
@server_option
@json_option
def graphs(name: str | None, server: Server, as_json: bool) -> None:
    """List graphs and assistants, or show one of them.

    Each graph of langgraph.json is an assistant from the start; others are made of it, with a
    config of their own. With a NAME or the id of an assistant: its nodes, edges and schemas.
    """
    if name is not None:
        found: dict[str, Any] = {
            "assistant": server.get("/assistants/{}", name),
            "schemas": server.get("/assistants/{}/schemas", name),
            "graph": server.get("/assistants/{}/graph", name),
        }
        shown(found, as_json=as_json)
        return
    assistants = server.pages("/assistants/search", None, sort_by="name", sort_order="asc")
    schemas: dict[str, Any] = {}

    def schema_of(assistant: dict[str, Any]) -> dict[str, Any]:
        graph_id = assistant["graph_id"]
        if graph_id not in schemas:
            try:
                schemas[graph_id] = server.get("/assistants/{}/schemas", assistant["assistant_id"])
            except OneLine:
                schemas[graph_id] = {}  # a factory that cannot make it now
        of: dict[str, Any] = schemas[graph_id]
        return of

    listed(
        assistants,
        {
            "NAME": lambda each: each["name"] or each["assistant_id"],
            "KIND": lambda each: (
                "graph"
                if each["metadata"].get("created_by") == "system"
                else f"assistant of {each['graph_id']}"
            ),
            "INPUT": lambda each: brief(schema_of(each).get("input_schema")),
            "CONTEXT": lambda each: brief(schema_of(each).get("context_schema")),
            "DESCRIPTION": "description",
        },
        as_json=as_json,
        none="No graphs.",
    )


def brief(schema: Any) -> str:
    """What a JSON schema wants, in a few words: `name, age?`; ? is what may be left out."""
    if not isinstance(schema, dict):
        return "-"
    fields = schema.get("properties")
    if not isinstance(fields, dict) or not fields:
        return str(schema.get("type") or "-")
    required = schema.get("required") or ()
    names = [name if name in required else f"{name}?" for name in fields]
    return ", ".join([*names[:5], *(["…"] if len(names) > 5 else [])])


# Runs


@click.group()
def runs() -> None:
    """List, show and cancel runs."""


@runs.command("list")
@click.option("--thread", metavar="ID", help="Of this thread; otherwise of those used last.")
@click.option(
    "--status",
    type=click.Choice(["pending", "running", "success", "error", "interrupted", "timeout"]),
    help="Only those of this status.",
)
@_listing
def list_runs(
    thread: str | None, status: str | None, limit: int, server: Server, as_json: bool
) -> None:
    """Print a line for each run, the newest first.

    Without --thread those of the 50 threads that were used last.
    """
    asked: dict[str, Any] = {"limit": min(limit, 1000), "status": status}
    if thread is not None:
        found = server.get("/threads/{}/runs", thread, **asked)
    else:
        recent = server.pages(
            "/threads/search",
            RECENT_THREADS,
            sort_by="updated_at",
            sort_order="desc",
            select=["thread_id"],
        )
        ids = [each["thread_id"] for each in recent]
        found = [
            run
            for each in each_of(ids, "Asking")
            for run in server.get("/threads/{}/runs", each, **asked)
        ]
        found = sorted(found, key=lambda run: run["created_at"], reverse=True)[:limit]
    listed(
        found,
        {
            "THREAD": "thread_id",
            "RUN": "run_id",
            "STATUS": "status",
            "CREATED": lambda each: each["created_at"][:19],
        },
        as_json=as_json,
        none="No runs.",
    )


@runs.command("show")
@click.argument("thread_id")
@click.argument("run_id")
@server_option
@json_option
def show_run(thread_id: str, run_id: str, server: Server, as_json: bool) -> None:
    """Print a run: its status, its times, what it was asked."""
    shown(server.get("/threads/{}/runs/{}", thread_id, run_id), as_json=as_json)


@runs.command("cancel")
@click.argument("thread_id", required=False)
@click.argument("run_id", required=False)
@click.option("--all", "every", is_flag=True, help="All that are pending or running.")
@click.option("--rollback", is_flag=True, help="Undo what it did to its thread, too.")
@_yes
@server_option
def cancel_runs(
    thread_id: str | None,
    run_id: str | None,
    every: bool,
    rollback: bool,
    yes: bool,
    server: Server,
) -> None:
    """Stop a run, or with --all every run of a thread, or of all threads."""
    action = "rollback" if rollback else "interrupt"
    if every and run_id is None:
        where = f"thread {thread_id}" if thread_id else "all threads"
        if not _sure(f"Cancel all runs of {where}?", yes):
            return
        body = {"status": "all", **({"thread_id": thread_id} if thread_id else {})}
        server.post("/runs/cancel", body=body, action=action)
    elif run_id is not None and not every:
        server.post(
            "/threads/{}/runs/{}/cancel", str(thread_id), run_id, action=action, wait="true"
        )
    else:
        raise click.UsageError("Give either the ids of a thread and of a run, or --all.")
    click.echo("cancelled")


# Threads


@click.group()
def threads() -> None:
    """List, show and delete threads."""


_status = click.option(
    "--status",
    type=click.Choice(["idle", "busy", "interrupted", "error"]),
    help="Only those of this status.",
)


def _query(status: str | None, metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        **({"status": status} if status else {}),
        **({"metadata": metadata} if metadata else {}),
        "sort_by": "updated_at",
        "sort_order": "desc",
        "select": ["thread_id", "status", "metadata", "created_at", "updated_at"],
    }


@threads.command("list")
@_status
@_metadata
@_listing
def list_threads(
    status: str | None, metadata: dict[str, Any], limit: int, server: Server, as_json: bool
) -> None:
    """Print a line for each thread, the last one used first."""
    listed(
        server.pages("/threads/search", limit, **_query(status, metadata)),
        {
            "THREAD": "thread_id",
            "STATUS": "status",
            "UPDATED": lambda each: each["updated_at"][:19],
            "GRAPH": lambda each: each["metadata"].get("graph_id"),
            "METADATA": lambda each: (
                {
                    name: value
                    for name, value in each["metadata"].items()
                    if name not in ("graph_id", "assistant_id")
                }
                or None
            ),
        },
        as_json=as_json,
        none="No threads.",
    )


@threads.command("show")
@click.argument("thread_id")
@server_option
@json_option
def show_thread(thread_id: str, server: Server, as_json: bool) -> None:
    """Print a thread: its status, metadata, values and what it waits for."""
    shown(server.get("/threads/{}", thread_id), as_json=as_json)


@threads.command("delete")
@click.argument("thread_ids", nargs=-1)
@_status
@_metadata
@_yes
@server_option
def delete_threads(
    thread_ids: tuple[str, ...],
    status: str | None,
    metadata: dict[str, Any],
    yes: bool,
    server: Server,
) -> None:
    """Remove threads with their states and runs: those that are named, or all that match.

    What is found by --status or --metadata is counted, and asked about first.
    """
    if bool(thread_ids) == bool(status or metadata):
        raise click.UsageError("Give either ids of threads, or --status or --metadata.")
    ids = list(thread_ids)
    if not ids:
        query = _query(status, metadata) | {"select": ["thread_id"]}
        ids = [each["thread_id"] for each in server.pages("/threads/search", None, **query)]
        if not ids or not _sure(f"Delete threads: {len(ids)}?", yes):
            return
    _delete(server, "/threads/{}", ids)


# Crons


@click.group()
def crons() -> None:
    """List runs that start by the clock; start one now, or delete it."""


@crons.command("list")
@_listing
def list_crons(limit: int, server: Server, as_json: bool) -> None:
    """Print a line for each cron, the newest first."""
    listed(
        server.pages("/runs/crons/search", limit),
        {
            "CRON": "cron_id",
            "SCHEDULE": "schedule",
            "TIMEZONE": lambda each: each["timezone"] or "UTC",
            "NEXT": lambda each: (
                (each["next_run_date"] or "never")[:19] if each["enabled"] else "off"
            ),
            "MISSED": "missed_runs",
            "ASSISTANT": "assistant_id",
            "THREAD": "thread_id",
        },
        as_json=as_json,
        none="No crons.",
    )


@crons.command("run")
@click.argument("cron_id")
@server_option
@json_option
def run_cron(cron_id: str, server: Server, as_json: bool) -> None:
    """Start a run of a cron now, beside those that are due by the clock."""
    cron = server.get("/runs/crons/{}", cron_id)
    body = {
        **cron["payload"],
        "assistant_id": cron["assistant_id"],
        "metadata": {**cron["metadata"], "cron_id": cron_id},
    }
    if cron["thread_id"] is None:
        body["on_completion"] = cron["on_run_completed"] or "delete"
    _started(_create(server, cron["thread_id"], body), as_json)


@crons.command("delete")
@click.argument("cron_ids", nargs=-1, required=True)
@server_option
def delete_crons(cron_ids: tuple[str, ...], server: Server) -> None:
    """Remove crons; runs that they have started go on."""
    _delete(server, "/runs/crons/{}", cron_ids)


def _create(server: Server, thread_id: str | None, body: dict[str, Any]) -> dict[str, Any]:
    run: dict[str, Any] = (
        server.post("/runs", body=body)
        if thread_id is None
        else server.post("/threads/{}/runs", thread_id, body=body)
    )
    return run


def _started(run: dict[str, Any], as_json: bool) -> None:
    if as_json:
        shown(run, as_json=True)
    else:
        click.echo(f"{run['thread_id']}\t{run['run_id']}")


# Webhooks


@click.group()
def webhooks() -> None:
    """List webhooks that were given up, or have them sent again."""


def _dead(server: Server) -> Iterator[dict[str, Any]]:
    offset = 0
    while page := server.get("/webhooks/dead", limit=PAGE, offset=offset):
        yield from page
        offset += PAGE


@webhooks.command("list")
@_listing
def list_webhooks(limit: int, server: Server, as_json: bool) -> None:
    """Print a line for each, the one that was given up last first."""
    listed(
        islice(_dead(server), limit),
        {
            "RUN": "run_id",
            "GIVEN UP": lambda each: each["died_at"][:19],
            "ATTEMPTS": "attempts",
            "URL": "url",
            "ERROR": "error",
        },
        as_json=as_json,
        none="No webhooks were given up.",
    )


@webhooks.command()
@click.argument("run_id", required=False)
@click.option("--all", "every", is_flag=True, help="Every one of them.")
@server_option
def retry(run_id: str | None, every: bool, server: Server) -> None:
    """Have the webhook of a run sent again, from now on for as long as a new one."""
    if (run_id is None) != every:
        raise click.UsageError("Give either the id of a run or --all.")
    ids = [each["run_id"] for each in _dead(server)] if run_id is None else [run_id]
    for each in each_of(ids, "Retrying"):
        server.post("/webhooks/dead/{}/retry", each)
    click.echo(f"{len(ids)} to be tried again")


# Schedule


@click.command()
@click.argument("graph")
@click.option(
    "--in",
    "seconds",
    type=click.FloatRange(0),
    default=0,
    show_default=True,
    help="Seconds from now.",
)
@click.option(
    "--input",
    "given",
    metavar="JSON",
    callback=_json,
    help="The graph's input: JSON, @FILE, or - for standard input.",
)
@click.option("--thread", metavar="ID", help="The kept thread to run on; otherwise a fresh one.")
@click.option("--keep", is_flag=True, help="Keep the fresh thread when the run has ended.")
@click.option("--webhook", metavar="URL", help="Is told of the run's end.")
@_metadata
@server_option
@json_option
def schedule(
    graph: str,
    seconds: float,
    given: Any,
    thread: str | None,
    keep: bool,
    webhook: str | None,
    metadata: dict[str, Any],
    server: Server,
    as_json: bool,
) -> None:
    """Start a run of a graph, now or in so many seconds, in the background.

    Prints the ids of its thread and of the run at once; `runwait runs show` has what became of it.
    """
    if keep and thread is not None:
        raise click.UsageError("A thread that is named is kept anyway.")
    body = {
        "assistant_id": graph,
        "input": given,
        "after_seconds": seconds,
        **({"webhook": webhook} if webhook else {}),
        **({"metadata": metadata} if metadata else {}),
        **({"on_completion": "keep"} if keep else {}),
    }
    _started(_create(server, thread, body), as_json)


COMMANDS: tuple[click.Command, ...] = (graphs, runs, threads, crons, webhooks, schedule)
