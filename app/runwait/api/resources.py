"""What answers hold, as marshmallow schemas: for the API's description, which nothing else reads.

Each has the fields of what is answered: those of a run are storage.records.PUBLIC, for example.
"""

from __future__ import annotations

from typing import Any

from runwait.api import fields
from runwait.api.operation import Answer
from runwait.api.schemas import AN_ID, Body
from runwait.storage.records import RunStatus

A_TIME = "2026-11-27T08:30:00.123456+00:00"

# Headers, each with a sentence on it.
LOCATION = {"Location": "Where to go on if the connection breaks."}
CONTENT_LOCATION = {"Content-Location": "The run."}
REPLAYED = {"Idempotency-Replayed": "`true` where the Idempotency-Key was known."}
PAGED = {
    "X-Pagination-Total": "How many there are in all.",
    "X-Pagination-Next": "The offset of the next page, if there is one.",
}


def time(about: str, **options: Any) -> fields.Strict:
    """A point in time."""
    options = {"about": about, "example": A_TIME, **options}
    schema = {**fields.STRING, "format": "date-time"}
    return fields.Strict("a time", lambda value: True, schema=schema, **options)


def id_of(what: str, **options: Any) -> fields.Strict:
    """The id of something."""
    return fields.uuid(about=f"The id of {what}.", example=AN_ID, **options)


def objects(about: str, schema: Any = fields.OBJECT, **options: Any) -> fields.Strict:
    """A list of objects."""
    return fields.Strict(
        "a list", lambda value: True, schema=fields.list_of(schema), about=about, **options
    )


def stream(about: str) -> Answer:
    """Server-sent events."""
    return Answer(
        about,
        {
            **fields.OBJECT,
            "description": "One of the server-sent events.",
            "properties": {
                "event": {**fields.STRING, "description": "What it is, such as `updates`."},
                "data": {
                    **fields.STRING,
                    "contentMediaType": "application/json",
                    "description": "JSON on one line.",
                },
                "id": {**fields.STRING, "description": "For Last-Event-ID, if it is kept."},
            },
            "required": ["event", "data"],
            "examples": [{"event": "updates", "data": '{"write": {"draft": "Hi"}}', "id": "3-17"}],
        },
        headers={**LOCATION, **CONTENT_LOCATION, **REPLAYED},
        mimetype="text/event-stream",
    )


class Error(Body):
    """Why a call was not done."""

    detail = fields.text(
        required=True,
        about="What is wrong, in one line that names each field that is.",
        example="config.recursion_limit: must be an integer of at least 1",
    )


class Run(Body):
    """A run."""

    run_id = id_of("the run")
    thread_id = id_of("its thread")
    assistant_id = id_of("its assistant")
    status = fields.one_of([*map(str, RunStatus)], about="How far it is, or how it ended.")
    metadata = fields.json_object(about="What it was given as metadata.", example={"user": "ada"})
    kwargs = fields.json_object(about="What it was asked.", example={"input": {"topic": "cats"}})
    multitask_strategy = fields.text(about="What it did on a busy thread.", example="enqueue")
    created_at = time("When it was accepted.")
    updated_at = time("When its status last changed.")


class Interrupt(Body):
    """What a graph waits for."""

    id = fields.text(about="Its id, under which it is answered.", example="9f2c4e1ab7d35c60")
    value = fields.json(about="What the graph asks.", example={"question": "Send this?"})


class Thread(Body):
    """A thread."""

    thread_id = id_of("the thread")
    created_at = time("When it was made.")
    updated_at = time("When it last changed.")
    state_updated_at = time("When its state last changed.", allow_none=True)
    metadata = fields.json_object(about="What clients said of it.", example={"user": "ada"})
    status = fields.one_of(
        ["idle", "busy", "interrupted", "error"], about="Whether it is free, and how it is left."
    )
    config = fields.json_object(about="The config of its last run.", example={})
    values = fields.json(about="Its state's values; null if it has none.", example={"draft": "Hi"})
    error = fields.json(about="Why its last run failed, if it did.", example=None)
    interrupts = fields.json_object(
        about="What it waits for, by task.", example={"task": [{"id": "i", "value": "Send?"}]}
    )
    ttl = fields.json(about="With `include=ttl`: how long it lives.", example={"ttl_minutes": 60})
    extracted = fields.json_object(
        about="In a search with `extract`: what was found at each path.", example={"last": "Hi"}
    )


class Checkpoint(Body):
    """Where a checkpoint is."""

    thread_id = id_of("its thread")
    checkpoint_id = id_of("the checkpoint", allow_none=True)
    checkpoint_ns = fields.text(
        about="The namespace of its subgraph; empty for the graph.", example=""
    )
    checkpoint_map = fields.json(about="Those of the graphs around, by namespace.", example=None)


class Task(Body):
    """What a graph is about to do, or did."""

    id = fields.text(about="Its id.", example="0f9a4c2e-1b7d-5e3f-9a60-2c4e1ab7d35c")
    name = fields.text(about="The node.", example="write")
    path = fields.json(about="What started it.", example=["__pregel_pull", "write"])
    error = fields.text(allow_none=True, about="Why it failed, if it did.", example="ValueError()")
    interrupts = objects("What it waits for.", Interrupt)
    checkpoint = fields.json(about="That of its subgraph, if it has one.", example=None)
    state = fields.json(about="That of its subgraph, with `subgraphs`.", example=None)
    result = fields.json(about="What it wrote, if it has ended.", example={"draft": "Hi"})


class ThreadState(Body):
    """A state of a thread, as one of its checkpoints has it."""

    values = fields.json(about="The values of its channels.", example={"draft": "Hi"})
    next = fields.strings(about="The nodes that come next; none at the end.", example=["send"])
    tasks = objects("What comes next, in detail.", Task)
    metadata = fields.json(about="The checkpoint's: source, step, the run's.", example={"step": 1})
    created_at = time("When it came to be.", allow_none=True)
    checkpoint = fields.Inner(Checkpoint, allow_none=True, about="Where it is.")
    parent_checkpoint = fields.Inner(Checkpoint, allow_none=True, about="The one before it.")
    interrupts = objects("What it waits for.", Interrupt)
    checkpoint_id = id_of("the checkpoint", allow_none=True)
    parent_checkpoint_id = id_of("the one before it", allow_none=True)
    unreadable = objects(
        "Channels that cannot be read any more, if there are such, each with the reason.",
        example=[{"channel": "report", "reason": "its class is gone"}],
    )


class Updated(Body):
    """Where a change of a state is found."""

    checkpoint = fields.Inner(Checkpoint, about="The new checkpoint.")
    configurable = fields.json_object(about="The same, as LangGraph has it.", example={})
    checkpoint_id = id_of("the new checkpoint")


class Assistant(Body):
    """An assistant: a graph with a config and a context of its own."""

    assistant_id = id_of("the assistant")
    graph_id = fields.text(about="The name of its graph.", example="chat")
    config = fields.json_object(about="LangGraph's config for its runs.", example={"tags": ["a"]})
    context = fields.json_object(about="The static context of its runs.", example={"name": "Ada"})
    metadata = fields.json_object(about="What clients said of it.", example={"team": "support"})
    name = fields.text(about="Its name.", example="Polite chat")
    description = fields.text(allow_none=True, about="What it is for.", example="Answers questions")
    version = fields.integer(1, about="The number of its current version.", example=1)
    created_at = time("When it was made, or this version of it.")
    updated_at = time("When it last changed.")


class GraphSchemas(Body):
    """JSON schemas of a graph; null where one cannot be made."""

    graph_id = fields.text(about="The graph.", example="chat")
    input_schema = fields.json(about="Of its input.", example={"type": "object"})
    output_schema = fields.json(about="Of its output.", example={"type": "object"})
    state_schema = fields.json(about="Of its state.", example={"type": "object"})
    config_schema = fields.json(about="context_schema by its older name.", example={})
    context_schema = fields.json(about="Of its context.", example={"type": "object"})


class Drawing(Body):
    """The nodes and edges of a graph."""

    nodes = objects("Its nodes.", example=[{"id": "write", "type": "runnable"}])
    edges = objects("Its edges.", example=[{"source": "__start__", "target": "write"}])


class Item(Body):
    """An item of the store."""

    namespace = fields.strings(about="The labels under which it is.", example=["users", "ada"])
    key = fields.text(about="Its key.", example="preferences")
    value = fields.json_object(about="What it holds.", example={"language": "en"})
    created_at = time("When it was first put.")
    updated_at = time("When it was last put.")


class FoundItem(Item):
    """An item that a search found."""

    score = fields.json(about="How near it is to the query; null without one.", example=None)


class FoundItems(Body):
    """A page of items."""

    items = objects("The items.", FoundItem)


class Namespaces(Body):
    """A page of namespaces."""

    namespaces = objects(
        "The namespaces.", fields.list_of(fields.STRING), example=[["users", "ada"]]
    )


class Pruned(Body):
    """What was pruned."""

    pruned_count = fields.integer(0, about="How many threads.", example=2)


class CommandResult(Body):
    """What came of a command."""

    type = fields.one_of(["success", "error"], about="Whether it was done.")
    id = fields.integer(0, about="The command's id.", example=1)
    result = fields.json_object(about="Of a success: what it came to.", example={"run_id": AN_ID})
    meta = fields.json_object(
        about="Of a success: what is not an event any more.", example={"applied_through_seq": 0}
    )
    error = fields.text(about="Of an error: its kind.", example="no_such_run")
    message = fields.text(about="Of an error: what is wrong.", example="run x not found")


class DeadWebhook(Body):
    """A webhook that was given up."""

    run_id = id_of("the run that ended")
    url = fields.text(about="Where it was to go.", example="https://hooks.example.com/runs")
    attempts = fields.integer(1, about="How many there were.", example=24)
    error = fields.text(about="Why the last one failed.", example="the answer was 500")
    created_at = time("When the run ended.")
    died_at = time("When the webhook was given up.")


class Ok(Body):
    """The process is alive."""

    ok = fields.boolean(about="It is.", example=True)


class Ready(Body):
    """The process can do all its work."""

    ready = fields.boolean(about="It can.", example=True)
    warning = fields.text(about="What may be wrong all the same.", example="Redis loses data")


class Info(Body):
    """What this server is, as the SDKs read it."""

    version = fields.text(about="Runwait's version.", example="0.5.0")
    langgraph_py_version = fields.text(about="LangGraph's version.", example="1.2.24")
    flags = fields.json_object(about="What it can do.", example={"assistants": True})


class Cron(Body):
    """A cron: runs that start by the clock."""

    cron_id = id_of("the cron")
    assistant_id = id_of("its assistant")
    thread_id = id_of("the thread of its runs; null: each has one of its own", allow_none=True)
    user_id = fields.text(allow_none=True, about="Whom its runs run as.", example="ada")
    schedule = fields.text(about="When it is due.", example="0 9 * * 1-5")
    timezone = fields.text(
        allow_none=True, about="Whose clock that means; null for UTC.", example="Europe/Berlin"
    )
    end_time = time("After it no run starts.", allow_none=True)
    payload = fields.json_object(
        about="What its runs are asked, as it was sent.", example={"input": {"topic": "cats"}}
    )
    next_run_date = time("When it is due next; null if it never is.", allow_none=True)
    metadata = fields.json_object(about="Its own, and its runs'.", example={"user": "ada"})
    on_run_completed = fields.one_of(
        ["delete", "keep"],
        allow_none=True,
        about="What becomes of the thread of a run; null where all are on one.",
    )
    enabled = fields.boolean(about="Whether it starts runs.")
    created_at = time("When it was made.")
    updated_at = time("When a client last changed it.")
    missed_runs = fields.integer(0, about="How many due times started no run.", example=0)
    now = time("In a search that selects it: the time.")


METRICS = (
    Answer(
        "All metrics, each with a line that says what it is; with `format=json`, a few of them.",
        {"type": "string", "examples": ['runwait_runs{state="ready"} 3.0\n']},
        mimetype="text/plain",
    ),
    Answer("The same.", fields.OBJECT),
)

# The output of a run, or what became of it.
DOCUMENT = {
    "description": "The graph's output. Where it was interrupted, its values and `__interrupt__`; "
    'where it failed, `{"__error__": {"error": "ValueError", "message": "..."}}`.',
    "examples": [{"words": {"the": 3, "cat": 1}}],
}
WAITED = Answer(
    "Sent once the run is accepted. Newlines come while it works, and then its document.",
    DOCUMENT,
    headers={**LOCATION, **CONTENT_LOCATION, **REPLAYED},
)
STREAMED = stream("Sent once the run is accepted: its events, and `end` at the end.")
ACCEPTED = Answer("The run.", Run, headers={**CONTENT_LOCATION, **REPLAYED})
COMMANDED = Answer("What came of the command.", CommandResult)
A_COUNT = Answer("How many there are.", {"type": "integer", "examples": [3]})
