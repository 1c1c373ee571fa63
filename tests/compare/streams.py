"""Streams, runs that nobody waits for, and batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cases import (
    BESIDE,
    CASES,
    ECHO,
    HELLO,
    JOIN,
    KNOWN,
    MALFORMED,
    NEVER_FAIL,
    NO_JOIN,
    RUN,
    SAME_AGAIN,
    THREAD,
    UNKNOWN_ID,
    UNKNOWN_NODE,
    UNKNOWN_THREAD,
    UPDATED,
    Difference,
    Request,
    get,
    know,
    record,
    refused,
    run,
    send,
)
from kept import (
    AS_SENT,
    BAD_ID,
    NO_CHECKPOINT,
    PATH,
    STATE,
    STRICT_QUERY,
    aside,
    assistant_of,
    kept_record,
    new,
    post,
)

RUN_PATH = f"{PATH}/runs/<run_id>"
STATUSES = get(f"{PATH}/runs?select=status")
NAP: dict[str, Any] = {"input": {"seconds": 3}}
ASKS: dict[str, Any] = {"input": {"file": "/dev/null"}}
HUMAN = {"role": "user", "content": "one two three", "id": "m1"}
SAID: dict[str, Any] = {"input": {"messages": [HUMAN]}}
COUNT: dict[str, Any] = {"input": {"messages": [{**HUMAN, "content": "Count: one two"}]}}
# All but those that the reference refuses.
MODES = [
    *("values", "updates", "messages", "messages-tuple", "custom"),
    *("tasks", "checkpoints", "debug", "events"),
]


def streamed(graph: str, path: str = f"{PATH}/runs/stream", **fields: Any) -> Request:
    """A run whose events are asked for."""
    return Request(path, {"assistant_id": graph, "input": {}, **fields})


def joined(after: str | None = None, query: str = "", path: str = RUN_PATH) -> Request:
    headers = () if after is None else (("Last-Event-ID", after),)
    return Request(f"{path}/stream{query}", method="GET", headers=headers)


def background(graph: str, path: str = f"{PATH}/runs", **fields: Any) -> Request:
    return Request(path, {"assistant_id": graph, "input": {}, **fields})


def on_thread(name: str, *requests: Request, **options: Any) -> None:
    """Adds what is asked on a new thread."""
    send(name, aside(new()), *requests, **options)


def stream(name: str, graph: str, *then: Request, facts: bool = False, **fields: Any) -> None:
    """Adds the stream of a run on a new thread, with what is asked after it."""
    on_thread(f"stream: {name}", streamed(graph, **fields), *then, facts=facts)


# What is known to differ


def events(reason: str, *shown: tuple[str, Any] | Any) -> Difference:
    """Events, by name and data."""
    return Difference(reason, [{"event": name, "data": data} for name, data in shown])


know(
    Difference(
        "a state of a busy thread has something next",
        {
            "values": {},
            "next": ["__start__"],
            "tasks": [],
            "metadata": None,
            "created_at": None,
            "checkpoint": None,
            "parent_checkpoint": None,
            "interrupts": [],
            "checkpoint_id": None,
            "parent_checkpoint_id": None,
        },
    ),
    "background: the state before a run begins",
)
BEGUN = ("metadata", {"run_id": "<run_id>", "attempt": 1})
ASKED = BESIDE.document
know(
    events(
        "the last values have all that waits",
        BEGUN,
        ("values", {"answers": [], "value": "begun"}),
        ("values", ASKED),
    ),
    "stream: values of two interrupts",
)
PARTS = ("config", "parent_config", "values", "next", "tasks", "metadata")
CHECKPOINT = dict.fromkeys(PARTS, ...)
LOOP = ("assistant_id", "created_by", "graph_id", "parents", "run_id", "source", "step")
for name, n in (
    ("stream: checkpoints, an interrupt answered", 0),
    ("stream: checkpoints, gone on with", 2),
):
    know(
        events(
            "a checkpoint's metadata is LangGraph's",
            ("metadata", {"run_id": "<uuid>", "attempt": 1}),
            ("checkpoints", {**CHECKPOINT, "metadata": dict.fromkeys(LOOP, ...)}),
            *[("checkpoints", CHECKPOINT)] * n,
        ),
        name,
    )
NAMED = {"configurable": {"thread_id": "<thread_id>", "checkpoint_ns": "", "checkpoint_id": ...}}
BY_IDS = ("checkpoints", {**CHECKPOINT, "config": NAMED, "parent_config": NAMED})
MORE_TOLD = {**BEGUN[1], "thread_id": "<thread_id>"}
SUCCESS = ("end", {"run_id": "<run_id>", "status": "success"})
know(
    Difference(
        "a streamed checkpoint is named by its ids alone",
        [
            *events(
                "",
                ("metadata", MORE_TOLD),
                ("checkpoints", {**CHECKPOINT, "config": NAMED, "parent_config": None}),
                *[BY_IDS] * 3,
                SUCCESS,
            ).document,
            {"ids": 0},
        ],
    ),
    "stream: checkpoints, whole",
)
know(
    Difference(
        "a stream ends with its run's status",
        [
            *events(
                "",
                ("metadata", MORE_TOLD),
                ("error", {"error": "ValueError", "message": "no luck"}),
                ("end", {"run_id": "<run_id>", "status": "error"}),
            ).document,
            {"ids": 0},
        ],
    ),
    "stream: a run that fails, whole",
)
know(
    events("a stream ends with its run's status", BEGUN, ("values", {"seconds": 3})),
    "stream: deleted",
    "stream: of a thread that is deleted",
)
ITS_THREAD = "a stream leads to its thread"
know(
    Difference(
        ITS_THREAD,
        [
            *events("", ("metadata", {**MORE_TOLD, "thread_id": "<thread_id>"})).document,
            {"event": "values", "data": HELLO},
            {"event": "values", "data": HELLO},
            {"event": "end", "data": SUCCESS[1]},
            {"ids": 0},
        ],
    ),
    "stream: without a thread, whole",
)
know(
    events(ITS_THREAD, BEGUN, *[("values", ...)] * 2),
    "stream: values, without a thread",
)
know(events(ITS_THREAD, BEGUN), "stream: checkpoints, without a thread")
know(
    Difference("each event has an id of its own", [*[...] * 163, {"ids": 163}]),
    "stream: resumable, whole",
)
LINES = {"value": "\u0085 \u2028 \u2029 \r\n"}
know(
    events("an event is a line for every reader", BEGUN, *[("values", LINES)] * 2),
    "stream: line ends in values",
)
for name, value, reason in (
    ("NUL", "a\0b", "the character NUL is kept"),
    ("an integer over 64 bits", 2**70, "integers of any size are kept exactly"),
):
    know(events(reason, BEGUN, *[("values", {"value": value})] * 2), f"stream: {name}")
know(
    events(
        NEVER_FAIL,
        BEGUN,
        ("values", {"only": ["beyond_64_bits"]}),
        ("values", {"only": ["beyond_64_bits"], "beyond_64_bits": 2**64}),
    ),
    "stream: nothing that fits",
)
know(
    events("feedback_keys without LangSmith change nothing", BEGUN, *[("values", HELLO)] * 2),
    "stream: feedback_keys",
)
TOOLS_TOO = "tools and lifecycle are modes too"
CALLED = {"toolCallId": "call_1", "name": "count"}
know(
    events(
        TOOLS_TOO,
        BEGUN,
        ("tools", {**CALLED, "event": "on_tool_start", "input": {"text": "one two"}}),
        ("tools", {**CALLED, "event": "on_tool_end", "output": ...}),
    ),
    "stream: tools",
)
know(
    events(
        TOOLS_TOO,
        BEGUN,
        ("lifecycle|child:<uuid>", {"event": "started", "graph_name": "child"}),
        ("lifecycle|child:<uuid>", {"event": "completed"}),
    ),
    "stream: lifecycle",
)
know(
    events(
        "both kinds of messages come together",
        BEGUN,
        ("messages", ...),
        ("messages/metadata", ...),
        ("messages/partial", ...),
        *[("messages", ...), ("messages/partial", ...)] * 3,
    ),
    "stream: messages in both ways",
)
know(kept_record(AS_SENT, "echo", "success", input=HELLO), "stream: then its record")
know(
    events(
        "an update alone works",
        BEGUN,
        *[("values", ...)] * 2,
        ("values", UPDATED),
    ),
    "stream: command {'update': {'value': 3}}",
)
know(
    refused("a resume that nothing waits for is refused", 409),
    "stream: command {'resume': 1}",
)
know(refused(NO_CHECKPOINT, 404), "stream: from an unknown checkpoint")
know(refused(UNKNOWN_NODE), "stream: refused: an unknown node")
know(BAD_ID, "stream: refused: no thread's id")
know(MALFORMED, "background: refused on a thread: a wrong field")
know(events(SAME_AGAIN.reason, BEGUN, ("values", HELLO)), "stream: twice with an Idempotency-Key")

STEPPED: dict[str, Any] = {"n": 3, "seconds": 0.1}
DONE = [{**STEPPED, "steps": [*range(1, n + 1)]} for n in range(4)]
UPDATES = [("updates", {"step": {"steps": [n]}}) for n in range(1, 4)]
VALUES = [("values", each) for each in DONE]
ALL = [VALUES[0], *(each for pair in zip(UPDATES, VALUES[1:], strict=True) for each in pair)]
BEGINS = "a join begins with metadata"
for name, rest in {
    "the first": ALL,
    "the second": ALL[2:],
    "updates alone": UPDATES,
    "a mode that the run lacks": [],
}.items():
    know(events(BEGINS, BEGUN, *rest), f"join: {name}")
know(events(BEGINS, BEGUN, *[("messages", ...)] * 4), "join: tokens")
know(events("a join may name several modes", BEGUN, *ALL), "join: both modes")
LAST = "a late join has the last values"
know(events(LAST, BEGUN, VALUES[-1]), "join: now")
know(
    events(LAST, BEGUN, ("values", HELLO)),
    "join: of what was not kept, -1",
    "join: of what was not kept, now",
)
FAILED = ("error", {"error": "ValueError", "message": "no luck"})
KEPT_ERROR = "an error is kept as other events are"
know(events(KEPT_ERROR, BEGUN, FAILED), "join: of a failed run")
know(events("no filter hides how a run ends", BEGUN, FAILED), "join: of a failed run, filtered")
know(refused("a join goes on from an event of its run"), "join: no id", "join: a foreign id")
know(STRICT_QUERY, "join: an unknown mode", "join: a wrong flag")
know(events("a run's stream is found without its thread", BEGUN, *ALL), "join: without the thread")
know(NO_JOIN, "join: an unknown run", "join: an unknown thread")

know(
    Difference(
        "a thread's stream tells how a run ended",
        [
            *events(
                "",
                ("metadata", MORE_TOLD),
                *[("values", HELLO)] * 2,
                ("metadata", {"status": "run_done", "run_id": "<run_id>", "how": "success"}),
            ).document,
            {"ids": 4},
        ],
    ),
    "thread stream: whole",
)
RUN_DONE = ("metadata", {"status": "run_done", "run_id": "<run_id>"})
ITS_MODES = "a thread's stream takes modes as the SDKs send them"
know(events(ITS_MODES, BEGUN, RUN_DONE), "thread stream: ?stream_mode=lifecycle")
ECHOES = [BEGUN, *[("values", HELLO)] * 2, RUN_DONE]
know(events(ITS_MODES, *ECHOES), "thread stream: ?stream_modes=run_modes&stream_modes=lifecycle")
know(events("a thread's stream begins at -1 too", *ECHOES), "thread stream: after -1")
know(refused("the stream of an unknown thread is a 404", 404), "thread stream: an unknown thread")

PENDING = kept_record(AS_SENT, "echo", "pending", input=HELLO)
know(PENDING, "background: a run")
know(
    record(AS_SENT, ECHO, "pending", {"input": HELLO}),
    "background: without a thread",
)
know(
    refused("a thread of a run's own goes with it", 404),
    "background: without a thread, cancelled while it is pending",
)
ACCEPTED = [
    {
        **record(AS_SENT, assistant_of(graph), "pending", {"input": value}).document,
        "run_id": "<uuid>",
        "thread_id": "<uuid>",
    }
    for graph, value in (("echo", HELLO), ("two_nodes", {}), ("echo", HELLO))
]
know(Difference(AS_SENT, ACCEPTED[:2]), "batch: two")
know(Difference(AS_SENT, ACCEPTED[::2]), "batch: an unknown field in it")
know(Difference("a batch runs whole or not at all", []), "batch: one bad item, and the good one")

# Each mode alone

for mode in MODES:
    asked: dict[str, Any] = {"stream_mode": mode}
    nested = {**asked, "stream_subgraphs": True}
    stream(mode, "subgraph", **asked)
    stream(f"{mode}, with subgraphs", "subgraph", **nested)
    stream(f"{mode} of a chat inside", "chat_inside", **asked, **SAID)
    stream(f"{mode} of a chat inside, with subgraphs", "chat_inside", **nested, **SAID)
    stream(f"{mode} of an async chat", "chat_async", **asked, **SAID)
    stream(f"{mode} of a run that fails", "fails", **asked)
    stream(f"{mode} of two interrupts", "two_interrupts", **asked)
    for side in ("interrupt_before", "interrupt_after"):
        stream(f"{mode}, {side}", "breakpoints", **asked, **{side: ["b"]})
    GOES_ON = streamed("breakpoints", **{**asked, "input": None})
    stream(f"{mode}, gone on with", "breakpoints", GOES_ON, **asked, interrupt_before=["b"])
    # What a command lacks is null in the reference's events, and there an id is given to a tool's
    # message before its event is written.
    if mode != "events":
        REPLY = streamed("asks_twice", **{**asked, "input": None}, command={"resume": "yes"})
        stream(f"{mode}, an interrupt answered", "asks_twice", REPLY, **ASKS, **asked)
        stream(f"{mode} of a chat with tools", "chat", **asked, **COUNT)
    stream(f"{mode}, no update", "no_update", **asked)
    stream(f"{mode} of a list", "entry", **{**asked, "input": [1, [2]]})
    stream(f"{mode} of None", "none_output", **{**asked, "input": 1})

# Several modes, and what they lack

TOKENS = ["updates", "messages-tuple", "custom"]
for name, modes in {
    "no modes": [],
    "one mode twice": ["values", "values"],
    "values and updates": ["values", "updates"],
    "values and events": ["values", "events"],
    "checkpoints, debug and tasks": ["checkpoints", "debug", "tasks"],
}.items():
    stream(name, "subgraph", stream_mode=modes)
    stream(f"{name}, with subgraphs", "subgraph", stream_mode=modes, stream_subgraphs=True)
stream("what a chat page asks for", "chat", stream_mode=[*TOKENS, "values"], **SAID)
stream(
    "what a chat page asks for, with subgraphs",
    "chat_inside",
    stream_mode=TOKENS,
    stream_subgraphs=True,
    **SAID,
)
stream("debug and messages", "chat", stream_mode=["debug", "messages"], **SAID)
stream("messages in both ways", "chat", stream_mode=["messages", "messages-tuple"], **SAID)
stream("tools", "chat", stream_mode="tools", **COUNT)
stream("lifecycle", "subgraph", stream_mode="lifecycle")
stream("events of a graph without a name", "writes", input={"n": 1}, stream_mode="events")
stream("a message that no model streamed", "mcp_like", input={"messages": "hi"}, stream_mode=TOKENS)

# All that Runwait tells, and does not tell

stream("checkpoints, whole", "two_nodes", stream_mode="checkpoints", facts=True)
stream("a run that fails, whole", "fails", facts=True)
send("stream: without a thread, whole", streamed("echo", "/runs/stream", input=HELLO), facts=True)
stream(
    "resumable, whole",
    "writes",
    input={"n": 160},
    stream_mode=["custom", "values"],
    stream_resumable=True,
    facts=True,
)

# Other fields

stream("line ends in values", "echo", input=LINES)
stream("NUL", "echo", input={"value": "a\0b"})
stream("an integer over 64 bits", "echo", input={"value": 2**70})
stream("nothing that fits", "odd_values", input={"only": ["beyond_64_bits"]})
stream("recursion limit", "recursion", config={"recursion_limit": 3})
stream("feedback_keys", "echo", input=HELLO, feedback_keys=["liked"])
stream("then its thread", "echo", THREAD, JOIN, STATE, input=HELLO)
stream("then its record", "echo", RUN, input=HELLO)
stream("after_seconds", "echo", input=HELLO, after_seconds=1)
stream("durability exit", "two_nodes", stream_mode="checkpoints", durability="exit")
stream("from an unknown checkpoint", "echo", input=HELLO, checkpoint_id=UNKNOWN_ID)
for command in ({"goto": "c"}, {"update": {"value": 3}}, {"resume": 1}):
    stream(f"command {command}", "gotos", command=command)
for mode in ("values", "checkpoints"):
    send(
        f"stream: {mode}, without a thread", streamed("two_nodes", "/runs/stream", stream_mode=mode)
    )
KEYED = replace(streamed("echo", input=HELLO), headers=(("Idempotency-Key", "streamed"),))
on_thread("stream: twice with an Idempotency-Key", aside(KEYED), KEYED)

# Refusals

ECHOED = {"assistant_id": "echo"}
for name, body in {
    "an unknown graph": {"assistant_id": "nobody"},
    "no assistant": {},
    "an unknown mode": {**ECHOED, "stream_mode": "nobody"},
    "a list": [],
    "a wrong field": {**ECHOED, "on_disconnect": "x"},
    "two wrong fields": {**ECHOED, "on_disconnect": "x", "config": 5},
    "a wrong webhook": {**ECHOED, "webhook": "nobody"},
    "an unknown node": {**ECHOED, "interrupt_before": ["nobody"]},
}.items():
    on_thread(f"stream: refused: {name}", Request(f"{PATH}/runs/stream", body))
for name, path in {
    "an unknown thread": f"{UNKNOWN_THREAD}/runs/stream",
    "no thread's id": "/threads/nobody/runs/stream",
}.items():
    send(f"stream: refused: {name}", Request(path, ECHOED))
for name, body in {
    "an unknown graph": {"assistant_id": "nobody"},
    "a resume": {**ECHOED, "command": {"resume": 1}},
}.items():
    send(f"stream: refused without a thread: {name}", Request("/runs/stream", body))
send("stream: refused: GET", get("/runs/stream"))
NEW_THREAD = f"/threads/{assistant_of('the thread of a stream')}"
send(
    "stream: on a thread that is made for it",
    streamed("echo", f"{NEW_THREAD}/runs/stream", input=HELLO, if_not_exists="create"),
)

# While a run works

NAPS = replace(streamed("sleep_sync", **NAP), later=True)
# It is stopped in time, however late the reference hears that it is to be.
NAPS_LONG = replace(streamed("sleep_async", input={"seconds": 20}), later=True)
for strategy, before in {
    "enqueue": NAPS,
    "reject": NAPS,
    "interrupt": NAPS_LONG,
    # What ends a run by rollback may end its stream there with an error, and may not.
    "rollback": aside(NAPS),
}.items():
    following = streamed("echo", input=HELLO, multitask_strategy=strategy)
    on_thread(f"stream: {strategy}", before, following, STATUSES)
on_thread("stream: cancelled", NAPS, aside(post(f"{RUN_PATH}/cancel?wait=true")), STATUSES)
for name, request in {
    "deleted": Request(RUN_PATH, method="DELETE"),
    "of a thread that is deleted": Request(PATH, method="DELETE"),
}.items():
    on_thread(f"stream: {name}", NAPS, aside(request))
for choice in ("cancel", "continue"):
    left = replace(streamed("sleep_sync", **NAP, on_disconnect=choice), until="seconds")
    on_thread(f"stream: left, {choice}", left, aside(JOIN), STATUSES)

# Joins

STEPS = replace(
    aside(
        streamed(
            "steps_sync",
            input=STEPPED,
            stream_mode=["values", "updates"],
            stream_resumable=True,
        )
    ),
    told={"<first>": "0.id", "<second>": "2.id"},
)
for name, request in {
    "-1": joined("-1"),
    "0": joined("0"),
    "the first": joined("<first>"),
    "the second": joined("<second>"),
    "now": joined(),
    "no id": joined("nobody"),
    "a foreign id": joined("1-1"),
    "updates alone": joined("-1", "?stream_mode=updates"),
    "both modes": joined("-1", "?stream_mode=updates&stream_mode=values"),
    "a mode that the run lacks": joined("-1", "?stream_mode=custom"),
    "an unknown mode": joined("-1", "?stream_mode=nobody"),
    "a wrong flag": joined("-1", "?cancel_on_disconnect=maybe"),
    "without the thread": joined("-1", path="/runs/<run_id>"),
    "an unknown run": joined("-1", path=f"{PATH}/runs/{UNKNOWN_ID}"),
    "an unknown thread": joined("-1", path=f"{UNKNOWN_THREAD}/runs/<run_id>"),
    "no run's id": joined("-1", path=f"{PATH}/runs/nobody"),
}.items():
    on_thread(f"join: {name}", STEPS, request)
for name, request in {"-1": joined("-1"), "now": joined()}.items():
    on_thread(f"join: of what was not kept, {name}", aside(streamed("echo", input=HELLO)), request)
for name, graph, query, fields in (
    ("of a failed run", "fails", "", {}),
    ("of a failed run, filtered", "fails", "?stream_mode=updates", {}),
    ("of a run that waits", "asks_twice", "", ASKS),
    ("tokens", "chat", "?stream_mode=messages-tuple", {**SAID, "stream_mode": "messages-tuple"}),
):
    kept = aside(streamed(graph, **fields, stream_resumable=True))
    on_thread(f"join: {name}", kept, joined("-1", query))
for resumable in (True, False):
    asked = {**NAP, "stream_mode": "updates", "stream_resumable": resumable}
    works = aside(background("sleep_sync", **asked))
    on_thread(f"join: of a run that works, resumable {resumable}", works, joined())
    on_thread(f"join: from the start, resumable {resumable}", works, joined("-1"))
on_thread(
    "join: left, cancel",
    aside(background("sleep_sync", **NAP, stream_resumable=True)),
    replace(joined("-1", "?cancel_on_disconnect=true"), until="seconds", aside=True),
    aside(JOIN),
    STATUSES,
)

# All runs of a thread


def followed(query: str = "", until: str = "run_done", after: str | None = None) -> Request:
    return replace(joined(after, query, PATH), until=until)


def later(request: Request) -> Request:
    return replace(request, later=True)


RUNS = aside(run("echo", input=HELLO))
on_thread("thread stream: whole", later(followed()), RUNS, facts=True)
for query in (
    "",
    "?stream_modes=run_modes",
    "?stream_modes=lifecycle",
    "?stream_modes=nobody",
    "?stream_mode=lifecycle",
    "?stream_modes=run_modes&stream_modes=lifecycle",
):
    on_thread(f"thread stream: {query}", later(followed(query)), RUNS)
for name, each in {
    "a run that fails": run("fails", input={}),
    "a run that waits": run("asks_twice", **ASKS),
}.items():
    on_thread(f"thread stream: {name}", later(followed()), aside(each))
on_thread(
    "thread stream: a change of the state",
    later(followed("?stream_modes=state_update", "hello")),
    RUNS,
    aside(post(f"{PATH}/state", {"values": HELLO})),
)
for after in ("-", "-1", "0", "x", "1-1"):
    kept = aside(streamed("echo", input=HELLO, stream_resumable=True))
    on_thread(f"thread stream: after {after}", kept, followed(after=after))
send("thread stream: an unknown thread", joined(path=UNKNOWN_THREAD))
send("thread stream: no thread's id", joined(path="/threads/nobody"))

# Runs that nobody waits for

on_thread("background: a run", background("echo", input=HELLO))
on_thread("background: join", aside(background("echo", input=HELLO)), JOIN, THREAD)
on_thread("background: a run that fails", aside(background("fails")), JOIN, STATUSES)
on_thread(
    "background: the queue",
    aside(NAPS),
    *[aside(background("echo", input=HELLO))] * 2,
    get(f"{PATH}/runs?status=pending&select=status"),
)
for strategy in ("enqueue", "reject", "interrupt", "rollback"):
    following = background("echo", input=HELLO, multitask_strategy=strategy)
    on_thread(
        f"background: {strategy}",
        NAPS,
        replace(aside(following), told={"<following>": "run_id"}),
        get(f"{PATH}/runs/<following>/join"),
        STATUSES,
    )
on_thread(
    "background: the state before a run begins",
    aside(background("echo", input=HELLO, after_seconds=1000)),
    get(f"{PATH}/state"),
)
send("background: without a thread", background("echo", "/runs", input=HELLO))
send("background: without a thread, join", aside(background("echo", "/runs", input=HELLO)), JOIN)
send(
    "background: without a thread, cancelled while it is pending",
    aside(background("echo", "/runs", after_seconds=1000)),
    aside(post(f"{RUN_PATH}/cancel?wait=true")),
    THREAD,
)
send("background: GET of /runs", get("/runs"))
for name, body in {
    "an unknown graph": {"assistant_id": "nobody"},
    "nothing": {},
    "a list": [],
    "a wrong field": {**ECHOED, "on_completion": "x"},
    "a wrong webhook": {**ECHOED, "webhook": "nobody"},
}.items():
    send(f"background: refused: {name}", Request("/runs", body))
    on_thread(f"background: refused on a thread: {name}", Request(f"{PATH}/runs", body))
send("background: refused: a resume", background("echo", "/runs", command={"resume": 1}))
send("background: refused: an unknown thread", background("echo", f"{UNKNOWN_THREAD}/runs"))

# Batches

ONE: dict[str, Any] = {**ECHOED, "input": HELLO}
for name, body in {
    "two": [ONE, {"assistant_id": "two_nodes", "input": {}}],
    "none": [],
    "an object": ONE,
    "null": None,
    "a number in it": [ONE, 5],
    "an unknown graph in it": [ONE, {"assistant_id": "nobody"}],
    "a wrong field in it": [ONE, {**ONE, "on_completion": "x"}],
    "a resume in it": [ONE, {**ONE, "command": {"resume": 1}}],
    "an unknown field in it": [ONE, {**ONE, "nobody": 1}],
}.items():
    send(f"batch: {name}", Request("/runs/batch", body))
MARKED = {**ONE, "on_completion": "keep", "metadata": {"case": "one bad item"}}
send(
    "batch: one bad item, and the good one",
    Request("/runs/batch", [MARKED, {"assistant_id": "nobody"}]),
    # The reference may still be at work on the batch. What it is asked later is done later.
    aside(Request("/runs/wait", {"assistant_id": "echo", "input": HELLO})),
    post("/threads/search", {"metadata": {"case": "one bad item"}, "select": ["metadata"]}),
)

assert KNOWN.keys() <= {case.name for case in CASES}, "a difference of no case"
