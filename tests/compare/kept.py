"""Kept threads: their runs, their states, and what is done to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from cases import (
    ASSISTANTS,
    ECHO,
    HELLO,
    JOIN,
    KEPT,
    NO_JOIN,
    RUN,
    THREAD,
    UNKNOWN_ID,
    UNKNOWN_THREAD,
    Difference,
    Request,
    get,
    know,
    record,
    refused,
    run,
    sdk,
    seen,
    send,
    wait,
)
from langgraph_sdk.client import SyncLangGraphClient

PATH = "/threads/<thread_id>"


def new(**body: Any) -> Request:
    """A new thread."""
    return Request("/threads", body)


def post(path: str, body: Any = None, **told: str) -> Request:
    return Request(path, {} if body is None else body, told=_names(told))


def read(path: str, **told: str) -> Request:
    return Request(path, method="GET", told=_names(told))


def patch(path: str, body: Any, **options: Any) -> Request:
    return Request(path, body, "PATCH", **options)


def delete(path: str, body: Any = None) -> Request:
    return Request(path, body, "DELETE")


def _names(told: Mapping[str, str]) -> dict[str, str]:
    return {f"<{name}>": where for name, where in told.items()}


def on_thread(name: str, *requests: Request, **options: Any) -> None:
    """Adds a case that begins with a new thread."""
    send(name, new(), *requests, **options)


WRONG_PAGES = (
    "status=x",
    "limit=x",
    "limit=0",
    "limit=1001",
    "limit=-1",
    "offset=-1",
)


def assistant_of(graph: str) -> str:
    return str(uuid5(UUID(ASSISTANTS), graph))


def aside(request: Request) -> Request:
    return replace(request, aside=True)


STATE = get(f"{PATH}/state")
HISTORY = get(f"{PATH}/history?limit=10")
RUNS = get(f"{PATH}/runs")
TWO = run("two_nodes", input={})
STOPPED: dict[str, Any] = {"input": {}, "interrupt_before": ["b"], **KEPT}

# What is known to differ


def thread(reason: str, status: str = "idle", **more: Any) -> Difference:
    """A thread as Runwait shows it."""
    document = {
        "thread_id": ...,
        "status": status,
        "metadata": ...,
        "config": {},
        "values": None,
        "interrupts": {},
        "error": None,
        "created_at": "<time>",
        "updated_at": "<time>",
        "state_updated_at": "<time>",
        **more,
    }
    return Difference(reason, document)


def kept_record(reason: str, graph: str, status: str, **kwargs: Any) -> Difference:
    return record(reason, assistant_of(graph), status, {"temporary": False, **kwargs})


def listed(difference: Difference) -> Difference:
    """The same in a list."""
    return Difference(difference.reason, [difference.document])


STRICT_QUERY = refused("a query is checked like a body")
BAD_ID = refused("an id that is none is a 422 everywhere")
NO_CHECKPOINT = "a checkpoint that is not there is told"
UNFIT = refused("an update that does not fit is a 422")
COPIES = "a copy holds what its thread does"
LIFE = "a thread's life is a number of minutes above 0"
BY_TYPE = "filters of metadata go by JSON's types"
TOTAL = "X-Pagination-Total counts all that match"
AS_SENT = "a run's record tells what was sent"
SO_FAR = "a busy thread shows what it holds so far"
TWO_RUN: dict[str, Any] = {"values": {"names": ["first", "second"], "value": 1}}

know(STRICT_QUERY, *(f"runs: {query}" for query in WRONG_PAGES))
know(STRICT_QUERY, "busy: cancel by a wrong action", "state: subgraphs=maybe")
know(STRICT_QUERY, "history: GET limit 0", "history: GET before x")
know(BAD_ID, "on a thread: no UUID", "thread: POST /threads/x/copy", "search: ids 'x'")
know(
    refused(NO_CHECKPOINT, 404),
    "on a thread: from an unknown checkpoint_id",
    "on a thread: from an unknown checkpoint",
    "state: an unknown checkpoint",
    "state: at an unknown checkpoint",
    "update: of an unknown checkpoint",
)
know(refused(NO_CHECKPOINT), "state: no UUID")
know(
    UNFIT,
    "update: a list of values",
    "update: pairs",
    "update: an unknown node",
    "update: values that a reducer refuses",
    "supersteps: an unknown node",
)
know(
    refused("supersteps that cannot be done leave no thread", 400),
    "supersteps: no graph",
)
know(NO_JOIN, "runs: join of an unknown one", "thread: deleted with its run")
know(
    refused("a resume that nothing waits for is refused", 409),
    "resume: nothing waits",
    "resume: an empty thread",
    "resume: a breakpoint",
    "resume: one value for two",
    "resume: an unknown interrupt",
)
AT_THE_END = "a cancel with wait answers 202 when the run has ended"
know(
    Difference(AT_THE_END, "nothing", 202),
    "busy: cancel with wait",
    "busy: cancel by rollback",
)
know(
    thread(AT_THE_END, "interrupted", values={"seconds": 3}, error=...),
    "busy: cancel and the thread",
)
know(
    Difference("the runs of one thread can be cancelled", "nothing", 204),
    "busy: cancel all of the thread",
    "cancel several: all of an unknown thread",
)
INTERRUPT = {"id": "<id>", "response_schema": None, "value": "first"}
know(
    Difference(
        "a join answers as the wait did", {"file": "/dev/null", "__interrupt__": [INTERRUPT]}
    ),
    "interrupt: join",
)
know(
    kept_record(
        "a run that stopped is interrupted",
        "breakpoints",
        "interrupted",
        input={},
        interrupt_before=["b"],
    ),
    "runs: the record at a breakpoint",
)
ENDED = kept_record(AS_SENT, "echo", "success", input=HELLO)
know(ENDED, "runs: the record")
know(listed(ENDED), "runs: one")
know(kept_record(AS_SENT, "fails", "error", input=HELLO), "runs: the record of a failed run")
for query, number in (("limit=1", 2), ("limit=1&offset=1", 1)):
    page = kept_record(AS_SENT, "echo", "success", input=HELLO).document
    metadata = {**page["metadata"], "number": number}
    run_id = "<run_id>" if number == 1 else "<uuid>"
    known = Difference(AS_SENT, [{**page, "metadata": metadata, "run_id": run_id}])
    know(known, f"runs: {query}")
know(
    Difference("a run's deletion leaves the thread as it is", ...),
    "runs: deleted",
)
know(thread(SO_FAR, "busy", values=...), "busy: the thread", "busy: a patch")
know(thread(COPIES, values=...), "busy: a copy")
know(thread(COPIES, **TWO_RUN), "copy: of a thread", "copied: the thread")
WAITS = {
    "interrupts": {"<uuid>": [{"id": "<id>", "value": "first"}]},
    "values": {"file": "/dev/null"},
}
know(thread(COPIES, "interrupted", **WAITS), "copy: of a thread that waits")
know(
    refused("a copy of an unknown thread is a 404", 404),
    f"thread: POST {UNKNOWN_THREAD}/copy",
)
know(
    Difference("keep_latest prunes", {"pruned_count": 1}),
    "prune: keep_latest",
)
know(thread(LIFE), "thread: a ttl that is a number")
know(
    refused(LIFE),
    "thread: a ttl of 0",
    "thread: an empty ttl",
    "thread: a ttl that keeps the latest",
)
know(
    thread(
        "a thread tells how long it lives",
        ttl={"strategy": "delete", "ttl_minutes": 5.0, "expires_at": "<time>"},
    ),
    "thread: how long it lives",
)
know(Difference(BY_TYPE, [..., ..., ...]), "search: a part of a list")
know(Difference(BY_TYPE, []), "search: 1 for true")
know(
    Difference("a thread has all its fields from the first", [..., ..., ...]),
    "search: every name",
)
know(Difference(TOTAL, []), "search: an offset beyond")
know(Difference("threads without values have none that match", []), "search: values")
IN_ORDER = [
    {
        "metadata": {"case": "search sort_order alone", "list": [n, 9], "n": n, "yes": n == 1},
        "status": "idle",
    }
    for n in range(3)
]
know(Difference("sort_order counts without sort_by", IN_ORDER), "search: sort_order alone")
know(Difference("a count may be of ids", 1), "count: ids")
know(refused("lists and filters are bounded"), "search: too many ids")
know(Difference("an empty list of ids finds no thread", []), "search: no ids")
know(Difference("a thread that goes with its run is in no list", []), "search: a thread that goes")
know(
    Difference("a history has 10 states where nothing else is asked", [..., ..., ..., ...]),
    "history: GET ",
    "history: POST nothing",
)
know(
    Difference("a history before a checkpoint can be asked in a body", [..., ...]),
    "history: POST before",
    "history: POST before an id",
)
know(
    Difference(
        "a state's checkpoint names its namespace",
        {
            **dict.fromkeys(
                (
                    "created_at",
                    "metadata",
                    "next",
                    "parent_checkpoint",
                    "parent_checkpoint_id",
                    "tasks",
                    "values",
                ),
                ...,
            ),
            "checkpoint": {
                "thread_id": "<thread_id>",
                "checkpoint_ns": "",
                "checkpoint_id": "<older>",
            },
            "checkpoint_id": "<older>",
            "interrupts": [],
        },
    ),
    "state: of a checkpoint",
)
know(thread("a thread has all its fields from the first", metadata={}), "facts: a thread")
know(
    thread(
        "a kept thread has all of its run's metadata",
        metadata={"assistant_id": ECHO, "created_by": "system", "graph_id": "echo"},
        values=HELLO,
    ),
    "facts: a thread after a run",
)
know(
    Difference(
        "a checkpoint's metadata is LangGraph's",
        {
            **dict.fromkeys(
                ("parent_checkpoint", "parent_checkpoint_id", "checkpoint_id", "checkpoint"), ...
            ),
            "created_at": "<time>",
            "interrupts": [],
            "metadata": {
                "assistant_id": ECHO,
                "created_by": "system",
                "graph_id": "echo",
                "langgraph_request_id": "<uuid>",
                "parents": {},
                "run_id": "<run_id>",
                "source": "loop",
                "step": 1,
            },
            "next": [],
            "tasks": [],
            "values": HELLO,
        },
    ),
    "facts: a state",
)
know(seen("a thread's metadata is not its runs'"), "on a thread: its metadata")

# Runs on threads

wait("kept: join", input=HELLO, then=[JOIN], **KEPT)
wait("kept: the thread", input=HELLO, then=[THREAD], **KEPT)
wait("kept: the next run", "two_nodes", input={}, then=[TWO], **KEPT)
wait("kept: on with null", "breakpoints", then=[run("breakpoints", input=None)], **STOPPED)
wait("kept: null at the end", "echo", input=HELLO, then=[run("echo", input=None)], **KEPT)
wait("kept: the thread at a breakpoint", "breakpoints", then=[THREAD], **STOPPED)
wait("kept: the thread of a failed run", "fails", input=HELLO, then=[THREAD], **KEPT)
wait("kept: the state of a failed run", "fails", input=HELLO, then=[STATE], **KEPT)
for durability in ("sync", "async", "exit"):
    wait(
        f"kept: history with durability {durability}",
        "two_nodes",
        input={},
        durability=durability,
        then=[HISTORY],
        **KEPT,
    )
wait(
    "kept: a subgraph's own memory",
    "ckpt_true_subgraph",
    input={},
    then=[run("ckpt_true_subgraph", input={}), STATE],
    **KEPT,
)
on_thread("on a thread: a run, thread and state", TWO, THREAD, STATE)
send(
    "on a thread: its metadata",
    new(metadata={"t": 1}),
    run("who", input={}, context={"a": 1}),
)
on_thread("on a thread: another graph", TWO, run("echo", input=HELLO), THREAD, STATE)
on_thread("on a thread: a refused run", run("nobody", input={}), THREAD)
on_thread(
    "on a thread: both contexts", run("echo", context={"a": 1}, config={"configurable": {"b": 1}})
)
for strategy in ("enqueue", "reject", "interrupt", "rollback"):
    on_thread(
        f"on a thread: {strategy} while idle", run("echo", input=HELLO, multitask_strategy=strategy)
    )
for choice in ("reject", "create"):
    send(
        f"on an unknown thread: {choice}",
        Request(
            f"/threads/00000000-0000-4000-8000-0000000000{len(choice)}{len(choice)}/runs/wait",
            {"assistant_id": "echo", "input": HELLO, "if_not_exists": choice},
        ),
    )
send("on a thread: no UUID", post("/threads/x/runs/wait", {"assistant_id": "echo"}))
for checkpoint in ({"checkpoint_id": UNKNOWN_ID}, {"checkpoint": {"checkpoint_id": UNKNOWN_ID}}):
    on_thread(
        f"on a thread: from an unknown {next(iter(checkpoint))}",
        TWO,
        run("two_nodes", input={}, **checkpoint),
    )
for name, given in (
    ("checkpoint_id", {"checkpoint_id": "<older>"}),
    ("checkpoint", {"checkpoint": {"checkpoint_id": "<older>", "checkpoint_ns": ""}}),
):
    on_thread(
        f"on a thread: fork from a {name}",
        TWO,
        read(f"{PATH}/history?limit=10", older="1.checkpoint_id"),
        run("two_nodes", input=None, **given),
        STATE,
        HISTORY,
    )
wait(
    "kept: a fork with an input",
    "two_nodes",
    input={},
    then=[
        read(f"{PATH}/history?limit=10", older="1.checkpoint_id"),
        run("two_nodes", input={"names": ["forked"]}, checkpoint_id="<older>"),
    ],
    **KEPT,
)

# Interrupts

ASKED = {"input": {"file": "/dev/null"}, **KEPT}
wait("interrupt: the state", "asks_twice", then=[STATE, THREAD], **ASKED)
wait(
    "interrupt: resumed twice",
    "asks_twice",
    then=[
        run("asks_twice", command={"resume": "one"}),
        run("asks_twice", command={"resume": "two"}),
        STATE,
        THREAD,
    ],
    **ASKED,
)
wait(
    "interrupt: resumed by id",
    "asks_twice",
    then=[
        read(f"{PATH}/state", interrupt="interrupts.0.id"),
        run("asks_twice", command={"resume": {"<interrupt>": "one"}}),
    ],
    **ASKED,
)
STOPPED_TWICE = aside(run("two_interrupts", input={}))
on_thread(
    "interrupt: two, resumed by id",
    STOPPED_TWICE,
    read(f"{PATH}/state", left="interrupts.0.id", right="interrupts.1.id"),
    run("two_interrupts", command={"resume": {"<left>": "l", "<right>": "r"}}),
    STATE,
)
wait("interrupt: join", "asks_twice", then=[JOIN], **ASKED)
wait("interrupt: null goes on", "asks_twice", then=[run("asks_twice", input=None)], **ASKED)
wait(
    "interrupt: input starts anew",
    "asks_twice",
    then=[run("asks_twice", input={"file": "/dev/null"}), STATE],
    **ASKED,
)
wait(
    "interrupt: a goto",
    "asks_twice",
    then=[run("asks_twice", command={"goto": "__end__"})],
    **ASKED,
)
RESUME: dict[str, Any] = {"command": {"resume": "yes"}}
wait(
    "resume: nothing waits",
    "two_nodes",
    input={},
    then=[run("two_nodes", **RESUME)],
    **KEPT,
)
on_thread("resume: an empty thread", run("two_nodes", **RESUME))
wait(
    "resume: a breakpoint",
    "breakpoints",
    then=[run("breakpoints", **RESUME)],
    **STOPPED,
)
on_thread("resume: one value for two", STOPPED_TWICE, run("two_interrupts", **RESUME))
wait(
    "resume: an unknown interrupt",
    "asks_twice",
    then=[run("asks_twice", command={"resume": {"0" * 32: "x"}})],
    **ASKED,
)

# While a run has the thread

NAP: dict[str, Any] = {"input": {"seconds": 3}, **KEPT}


def meanwhile(name: str, *requests: Request, ends_alike: bool = True) -> None:
    """Adds what is asked while a run works; `ends_alike` on both servers."""
    first = Request(body={"assistant_id": "sleep_async", **NAP}, aside=not ends_alike)
    send(f"busy: {name}", first, *requests, meanwhile=True)


meanwhile("the thread", THREAD)
for strategy in ("enqueue", "reject", "interrupt", "rollback"):
    meanwhile(strategy, run("echo", input=HELLO, multitask_strategy=strategy))
meanwhile("a change of the state", post(f"{PATH}/state", {"values": {"done": True}}))
meanwhile("a patch", patch(PATH, {"metadata": {"a": 1}}))
meanwhile("a copy", post(f"{PATH}/copy"))
meanwhile("the thread's deletion", delete(PATH))
meanwhile("a run's deletion", delete(f"{PATH}/runs/<run_id>"))
CANCEL = f"{PATH}/runs/<run_id>/cancel"
meanwhile("cancel", post(CANCEL))
meanwhile("cancel with wait", post(f"{CANCEL}?wait=true"))
meanwhile("cancel and the thread", aside(post(f"{CANCEL}?wait=true")), THREAD)
meanwhile("cancel by rollback", post(f"{CANCEL}?wait=true&action=rollback"))
meanwhile("cancel by a wrong action", post(f"{CANCEL}?action=x"), ends_alike=False)
meanwhile(
    "cancel several", post("/runs/cancel", {"thread_id": "<thread_id>", "run_ids": ["<run_id>"]})
)
meanwhile(
    "cancel several, one of them unknown",
    post("/runs/cancel", {"thread_id": "<thread_id>", "run_ids": [UNKNOWN_ID, "<run_id>"]}),
)
meanwhile(
    "cancel all of the thread",
    post("/runs/cancel", {"thread_id": "<thread_id>", "status": "all"}),
    ends_alike=False,
)
wait("cancel: an ended run", input=HELLO, then=[post(CANCEL)], **KEPT)
for name, body in {
    "nothing": {},
    "a wrong status": {"status": "x"},
    "a wrong thread": {"thread_id": "x", "run_ids": []},
    "an unknown run": {"thread_id": UNKNOWN_ID, "run_ids": [UNKNOWN_ID]},
    "runs of no thread": {"run_ids": [UNKNOWN_ID]},
    "a wrong run": {"thread_id": UNKNOWN_ID, "run_ids": ["x"]},
    "all of an unknown thread": {"thread_id": UNKNOWN_ID, "status": "all"},
    "runs and a status": {"thread_id": UNKNOWN_ID, "run_ids": [UNKNOWN_ID], "status": "all"},
}.items():
    send(f"cancel several: {name}", post("/runs/cancel", body))

# Runs of a thread

wait("runs: one", input=HELLO, then=[RUNS], **KEPT)
wait("runs: the record", input=HELLO, then=[RUN], **KEPT)
wait("runs: the record at a breakpoint", "breakpoints", then=[RUN], **STOPPED)
wait("runs: the record of a failed run", "fails", input=HELLO, then=[RUN], **KEPT)
on_thread("runs: none", RUNS)
for query in WRONG_PAGES:
    on_thread(f"runs: {query}", get(f"{PATH}/runs?{query}"))
for query in ("limit=1", "limit=1&offset=1", "offset=5", "status=error"):
    numbered = [run("echo", input=HELLO, metadata={"number": number}) for number in (1, 2)]
    on_thread(f"runs: {query}", *numbered, get(f"{PATH}/runs?{query}"))
send("runs: of an unknown thread", get(f"{UNKNOWN_THREAD}/runs"))
send("runs: of no UUID", get("/threads/x/runs"))
wait("runs: deleted", input=HELLO, then=[delete(f"{PATH}/runs/<run_id>"), RUN, RUNS, STATE], **KEPT)
wait("runs: deleted twice", input=HELLO, then=[delete(f"{PATH}/runs/<run_id>")] * 2, **KEPT)
send("runs: deletion of an unknown one", delete(f"{UNKNOWN_THREAD}/runs/{UNKNOWN_ID}"))
on_thread("runs: a run of another thread", get(f"{PATH}/runs/{UNKNOWN_ID}"))
on_thread("runs: join of an unknown one", get(f"{PATH}/runs/{UNKNOWN_ID}/join"))
on_thread("runs: join of no UUID", get(f"{PATH}/runs/x/join"))

# Threads

on_thread("thread: new", THREAD)
send("thread: metadata", new(metadata={"a": {"b": [1, None]}}), THREAD)
on_thread("thread: the same id", new(thread_id="<thread_id>"))
on_thread(
    "thread: the same id, do_nothing",
    new(thread_id="<thread_id>", if_exists="do_nothing", metadata={"a": 1}),
)
for name, body in {
    "an id that is none": {"thread_id": "x"},
    "metadata that is none": {"metadata": "x"},
    "metadata null": {"metadata": None},
    "if_exists": {"if_exists": "x"},
    "a ttl": {"ttl": {"ttl": 5}},
    "a ttl and strategy": {"ttl": {"ttl": 5, "strategy": "delete"}},
    "a ttl that is a number": {"ttl": 5},
    "a ttl of 0": {"ttl": {"ttl": 0}},
    "a ttl that is none": {"ttl": {"ttl": "x"}},
    "an empty ttl": {"ttl": {}},
    "a ttl that keeps the latest": {"ttl": {"ttl": 5, "strategy": "keep_latest"}},
    "supersteps that are none": {"supersteps": "x"},
}.items():
    send(f"thread: {name}", new(**body))
send("thread: not an object", Request("/threads", []))
send("thread: no body", Request("/threads", b""))
send("thread: how long it lives", new(ttl={"ttl": 5}), get(f"{PATH}?include=ttl"))
GRAPH = {"metadata": {"graph_id": "two_nodes"}}


def step(as_node: str, **values: Any) -> dict[str, Any]:
    return {"updates": [{"values": values, "as_node": as_node}]}


STEPS = [step("__start__", names=["zero"]), step("first", names=["one"])]
send("supersteps: two", new(**GRAPH, supersteps=STEPS), STATE, HISTORY)
send("supersteps: then a run", new(**GRAPH, supersteps=STEPS), run("two_nodes", input=None))
send("supersteps: none", new(**GRAPH, supersteps=[]), STATE)
send("supersteps: no graph", new(supersteps=STEPS))
send("supersteps: an unknown node", new(**GRAPH, supersteps=[step("nobody", names=["x"])]))
for path in (UNKNOWN_THREAD, "/threads/x"):
    send(f"thread: GET {path}", get(path))
    send(f"thread: PATCH {path}", patch(path, {"metadata": {}}))
    send(f"thread: DELETE {path}", delete(path))
    send(f"thread: POST {path}/copy", post(f"{path}/copy"))
    send(f"state: GET {path}/state", get(f"{path}/state"))
    send(f"state: POST {path}/state", post(f"{path}/state", {"values": {}}))
    send(f"state: GET {path}/history", get(f"{path}/history"))
    send(f"state: POST {path}/history", post(f"{path}/history"))
send(
    "thread: patched",
    new(metadata={"a": 1, "b": {"c": 1}}),
    patch(PATH, {"metadata": {"b": {"d": 2}, "e": None}}),
    THREAD,
)
MINIMAL = (("Prefer", "return=minimal"),)
on_thread("thread: patched, nothing back", patch(PATH, {"metadata": {"a": 1}}, headers=MINIMAL))
on_thread("thread: patched with nothing", patch(PATH, {}))
on_thread("thread: patched with no metadata", patch(PATH, {"metadata": 5}))
on_thread("thread: patched with a ttl", patch(PATH, {"ttl": {"ttl": 1}}))
on_thread("thread: deleted", delete(PATH), THREAD, STATE, delete(PATH))
wait("thread: deleted with its run", input=HELLO, then=[delete(PATH), RUN, JOIN], **KEPT)

# Copies, and what is left of threads

COPY = Request(f"{PATH}/copy", {}, told={"<copy>": "thread_id"})
on_thread("copy: of an empty thread", COPY)
wait("copy: of a thread", "two_nodes", input={}, then=[COPY], **KEPT)
wait("copy: of a thread that waits", "asks_twice", then=[COPY], **ASKED)
for name, request in {
    "the thread": get("/threads/<copy>"),
    "the state": get("/threads/<copy>/state"),
    "the history": get("/threads/<copy>/history?limit=10"),
    "the runs": get("/threads/<copy>/runs"),
    "a run": Request("/threads/<copy>/runs/wait", {"assistant_id": "two_nodes", "input": {}}),
}.items():
    wait(f"copied: {name}", "two_nodes", input={}, then=[aside(COPY), request], **KEPT)
wait(
    "copied: a resume",
    "asks_twice",
    then=[
        aside(COPY),
        Request("/threads/<copy>/runs/wait", {"assistant_id": "asks_twice", **RESUME}),
    ],
    **ASKED,
)
PRUNE = "/threads/prune"
on_thread("prune: delete", post(PRUNE, {"thread_ids": ["<thread_id>"]}), THREAD)
on_thread(
    "prune: keep_latest", post(PRUNE, {"thread_ids": ["<thread_id>"], "strategy": "keep_latest"})
)
for body in (
    {},
    {"thread_ids": []},
    {"thread_ids": [UNKNOWN_ID]},
    {"thread_ids": ["x"]},
    {"thread_ids": "x"},
    {"thread_ids": [], "strategy": "x"},
):
    send(f"prune: {body}", post(PRUNE, body))

# Searching threads


def search(
    name: str, difference: Difference | None = None, *, path: str = "search", **body: Any
) -> None:
    """Adds a search in three threads."""
    marked = {"case": f"{path} {name}"}
    threads = [
        Request(
            "/threads",
            {"metadata": {**marked, "n": n, "list": [n, 9], "yes": n == 1}},
            told={f"<{told}>": "thread_id"},
        )
        for n, told in enumerate(("first", "second", "third"))
    ]
    metadata = {**marked, **body.pop("metadata", {})}
    send(
        f"{path}: {name}",
        *threads,
        post(f"/threads/{path}", {"metadata": metadata, **body}),
        difference=difference,
    )


SELECT = {"select": ["metadata", "status"]}
search("metadata")
search("some of it", metadata={"n": 1}, **SELECT)
search("a list", metadata={"list": [1, 9]}, **SELECT)
search("a part of a list", metadata={"list": [9]}, **SELECT)
search("1 for true", metadata={"yes": 1}, **SELECT)
search("none", metadata={"n": 7})
search("limit", limit=2, **SELECT)
search("limit and offset", limit=1, offset=1, **SELECT)
search("an offset beyond", offset=7, **SELECT)
search("status", status="idle", **SELECT)
search("another status", status="busy", **SELECT)
search("ids", ids=["<first>", "<third>"], **SELECT)
search("no ids", ids=[], **SELECT)
search("too many ids", ids=["<first>"] * 1001, **SELECT)
search("values", values={"a": 1}, **SELECT)
for by in ("thread_id", "status", "created_at", "updated_at", "state_updated_at"):
    search(f"by {by}", sort_by=by, sort_order="asc", **SELECT)
search("sort_order alone", sort_order="asc", **SELECT)
search(
    "every name",
    select=[
        *("thread_id", "created_at", "updated_at", "metadata", "config", "status", "values"),
        "interrupts",
    ],
)
search(
    "extract",
    extract={
        "n": "metadata.n",
        "last": "metadata.list[-1]",
        "none": "metadata.list[9].a",
        "all_values": "values",
        "its_config": "config",
    },
    **SELECT,
)
search("select the context", select=["metadata", "context"])
for name, wrong in {
    "limit 0": {"limit": 0},
    "limit 1001": {"limit": 1001},
    "limit 'x'": {"limit": "x"},
    "offset -1": {"offset": -1},
    "status 'x'": {"status": "x"},
    "sort_by 'x'": {"sort_by": "x"},
    "sort_order 'x'": {"sort_order": "x"},
    "select 'x'": {"select": ["x"]},
    "ids 'x'": {"ids": ["x"]},
    "extract 'x'": {"extract": "x"},
    "extract the status": {"extract": {"a": "status"}},
    "extract as 'a b'": {"extract": {"a b": "values"}},
    "values 'x'": {"values": "x"},
}.items():
    send(f"search: {name}", post("/threads/search", wrong))
search("all", path="count")
search("some", path="count", metadata={"n": 1})
search("a status", path="count", status="error")
search("ids", path="count", ids=["<first>"])
for graph, values in (
    ("two_nodes", {"value": 1}),
    ("two_nodes", {"value": 2}),
    ("two_nodes", {"names": ["first", "second"]}),
):
    wait(
        f"search: values {values}",
        graph,
        input={},
        then=[
            post(
                "/threads/search",
                {"values": values, "metadata": {"mark": f"v{values}"}, "select": ["values"]},
            )
        ],
        metadata={"mark": f"v{values}"},
        **KEPT,
    )

wait(
    "search: a thread that goes",
    "sleep_async",
    input={"seconds": 2},
    metadata={"mark": "goes"},
    then=[post("/threads/search", {"metadata": {"mark": "goes"}, **SELECT})],
    meanwhile=True,
)

# States

on_thread("state: of an empty thread", STATE)
on_thread(
    "state: of a checkpoint",
    TWO,
    read(f"{PATH}/history?limit=10", older="1.checkpoint_id"),
    get(f"{PATH}/state/<older>"),
)
on_thread(
    "state: at a checkpoint",
    TWO,
    read(f"{PATH}/history?limit=10", older="1.checkpoint_id"),
    post(
        f"{PATH}/state/checkpoint",
        {"checkpoint": {"checkpoint_id": "<older>", "checkpoint_ns": ""}},
    ),
)
on_thread("state: an unknown checkpoint", TWO, get(f"{PATH}/state/{UNKNOWN_ID}"))
on_thread(
    "state: at an unknown checkpoint",
    TWO,
    post(f"{PATH}/state/checkpoint", {"checkpoint": {"checkpoint_id": UNKNOWN_ID}}),
)
on_thread("state: no UUID", TWO, get(f"{PATH}/state/x"))
on_thread("state: at nothing", TWO, post(f"{PATH}/state/checkpoint", {}))
SUBGRAPH: dict[str, Any] = {"input": {}, **KEPT}
wait(
    "state: subgraphs at the end",
    "subgraph",
    then=[get(f"{PATH}/state?subgraphs=true")],
    **SUBGRAPH,
)
BEFORE: dict[str, Any] = {**SUBGRAPH, "interrupt_before": ["child"]}
for flag in ("true", "false", "maybe"):
    query = get(f"{PATH}/state?subgraphs={flag}")
    wait(f"state: subgraphs={flag}", "subgraph", then=[query], **BEFORE)
INSIDE = {"checkpoint": {"checkpoint_ns": "counter"}}
for where in ("state/checkpoint", "history"):
    inside = post(f"{PATH}/{where}", {**INSIDE, "limit": 10})
    wait(f"state: a subgraph's own, {where}", "ckpt_true_subgraph", then=[inside], **SUBGRAPH)
for name, query in {
    "": "",
    "limit 1": "limit=1",
    "limit 0": "limit=0",
    "limit x": "limit=x",
    "before": "limit=10&before=<older>",
    "before x": "before=x",
}.items():
    on_thread(
        f"history: GET {name}",
        TWO,
        read(f"{PATH}/history?limit=10", older="1.checkpoint_id"),
        get(f"{PATH}/history?{query}"),
    )
for name, body in {
    "nothing": {},
    "limit 2": {"limit": 2},
    "limit 0": {"limit": 0},
    "limit 1001": {"limit": 1001},
    "limit 'x'": {"limit": "x"},
    "before": {"limit": 10, "before": {"checkpoint_id": "<older>"}},
    "before an id": {"limit": 10, "before": "<older>"},
    "before 5": {"before": 5},
    "metadata": {"limit": 10, "metadata": {"step": 1}},
    "metadata 'x'": {"metadata": "x"},
    "checkpoint": {"limit": 10, "checkpoint": {"checkpoint_id": "<older>"}},
}.items():
    on_thread(
        f"history: POST {name}",
        TWO,
        read(f"{PATH}/history?limit=10", older="1.checkpoint_id"),
        post(f"{PATH}/history", body),
    )


def update(name: str, body: Any, *then: Request, difference: Difference | None = None) -> None:
    """Adds an update of a thread that stopped before its second node."""
    stopped = run("two_nodes", input={}, interrupt_before=["second"])
    history = read(f"{PATH}/history?limit=10", older="1.checkpoint_id")
    on_thread(
        f"update: {name}",
        stopped,
        history,
        post(f"{PATH}/state", body),
        *then,
        difference=difference,
    )


update("values", {"values": {"names": ["x"]}}, STATE, THREAD)
update("as a node", {"values": {"names": ["x"]}, "as_node": "first"}, STATE)
update("as the last node", {"values": {"names": ["x"]}, "as_node": "second"}, STATE, THREAD)
update("as the end", {"values": None, "as_node": "__end__"}, STATE)
update("and on", {"values": {"names": ["x"]}}, run("two_nodes", input=None), HISTORY)
update(
    "of a checkpoint",
    {"values": {"names": ["x"]}, "as_node": "first", "checkpoint": {"checkpoint_id": "<older>"}},
    STATE,
    HISTORY,
)
update(
    "of a checkpoint_id",
    {"values": {"names": ["x"]}, "as_node": "first", "checkpoint_id": "<older>"},
    STATE,
)
update("null", {"values": None}, STATE)
update("a list of values", {"values": [{"names": ["x"]}]})
update("pairs", {"values": [["names", ["x"]]]})
update("an unknown name", {"values": {"nobody": 1}}, STATE)
update("an unknown node", {"values": {}, "as_node": "nobody"})
update("a text for values", {"values": "x"})
update("values that a reducer refuses", {"values": {"names": 5}})
update("no values", {})
update("a number as node", {"values": {}, "as_node": 5})
update(
    "of an unknown checkpoint",
    {"values": {"names": ["x"]}, "checkpoint": {"checkpoint_id": UNKNOWN_ID}},
)
on_thread("update: a thread without graph", post(f"{PATH}/state", {"values": {"a": 1}}))
send(
    "update: a thread with a graph and no run",
    new(**GRAPH),
    post(f"{PATH}/state", {"values": {"names": ["x"]}, "as_node": "first"}),
    STATE,
)

# What every thread and state has, and the cases above leave out

on_thread("facts: a thread", facts=True)
wait("facts: a thread after a run", input=HELLO, then=[THREAD], facts=True, **KEPT)
wait("facts: a state", input=HELLO, then=[STATE], facts=True, **KEPT)


# The Python SDK


def approve(client: SyncLangGraphClient) -> Any:
    """Ask, look, change, answer, go back, copy, find, delete."""
    threads, told = client.threads, []
    thread_id = threads.create(metadata={"sdk": "approve"})["thread_id"]
    told.append(client.runs.wait(thread_id, "asks_twice", input={"file": "/dev/null"}))
    told.append(threads.get_state(thread_id)["next"])
    told.append(client.runs.wait(thread_id, "asks_twice", command={"resume": "one"}))
    told.append(client.runs.wait(thread_id, "asks_twice", command={"resume": "two"}))
    told.append([each["values"] for each in threads.get_history(thread_id)])
    oldest = threads.get_history(thread_id)[-1]["checkpoint"]
    told.append(client.runs.wait(thread_id, "asks_twice", checkpoint_id=oldest["checkpoint_id"]))
    threads.update_state(thread_id, {"answers": ["mine"]}, as_node="ask")
    told.append(threads.get_state(thread_id)["values"])
    copied = threads.copy(thread_id)["thread_id"]
    told.append(threads.get_state(copied)["values"])
    told.append(len(threads.search(metadata={"sdk": "approve"})))
    threads.delete(thread_id)
    told.append(threads.count(metadata={"sdk": "approve"}))
    threads.delete(copied)
    return told


sdk("an approval from beginning to end", approve)
