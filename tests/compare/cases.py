"""What is sent to both servers: every field of the body, right and wrong, and what comes after.

A case whose answers are known to differ says why, in words that docs/differences.md repeats, and
what Runwait answers instead. All else must be equal. The cases of kept threads are in kept.py,
those of the store and of assistants in stored.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langgraph_sdk.client import SyncLangGraphClient

# The graphs: each project's folder, from the repository's root.
PROJECTS = {"zoo": "tests/projects/zoo", "examples": "examples"}

# The reference does not start with these graphs, or does not survive them.
NOT_ON_THE_REFERENCE = {"compiled_with_saver", "exits", "exits_async"}

# The ids of assistants are UUIDs of version 5 in this namespace.
ASSISTANTS = "6ba7b821-9dad-11d1-80b4-00c04fd430c8"
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Request:
    """One request. The body is sent as it is where it is bytes, else as JSON.

    `<thread_id>`, `<run_id>` and `<assistant_id>` in its path, headers and body are those of the
    first answer that told one. `told` names others to be used later: where each is in the answer's
    document, e.g. `{"<older>": "1.checkpoint_id"}`. The answer to a request `aside` is not
    compared: another case does. A stream is left after the first event that has the text `until`
    in it; one that is read `later` is open while the rest is sent.
    """

    path: str = "/runs/wait"
    body: Any = None
    method: str = "POST"
    headers: tuple[tuple[str, str | bytes], ...] = ()
    told: Mapping[str, str] = field(default_factory=dict)
    aside: bool = False
    until: str = ""
    later: bool = False


@dataclass(frozen=True)
class Difference:
    """Why the last answers of a case differ, and what Runwait's is.

    Ids and times in the document are named, e.g. `<run_id>`; `...` allows anything in its place.
    """

    reason: str
    document: Any
    status: int = 200


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is sent to both servers.

    Attributes:
        requests: one after the other.
        call: what is called with the Python SDK instead.
        difference: None where the answers must be equal.
        project: whose graphs are served.
        meanwhile: all but the first are sent while the first, a run, works.
        facts: what a server tells graphs of itself, and adds to every thread and state, is
            compared too.
    """

    name: str
    requests: tuple[Request, ...] = ()
    call: Callable[[SyncLangGraphClient], Any] | None = None
    difference: Difference | None = None
    project: str = "zoo"
    meanwhile: bool = False
    facts: bool = False


CASES: list[Case] = []

# Differences of cases that do not give them themselves, by the case's name.
KNOWN: dict[str, Difference] = {}


def know(difference: Difference, *names: str) -> None:
    KNOWN.update(dict.fromkeys(names, difference))


def refused(reason: str, status: int = 422) -> Difference:
    return Difference(reason, {"detail": "<text>"}, status)


def send(
    name: str, *requests: Request, difference: Difference | None = None, **options: Any
) -> None:
    difference = difference or KNOWN.get(name)
    CASES.append(Case(name=name, requests=requests, difference=difference, **options))


def wait(
    name: str,
    graph: Any = "echo",
    difference: Difference | None = None,
    *,
    then: Iterable[Request] = (),
    headers: tuple[tuple[str, str | bytes], ...] = (),
    project: str = "zoo",
    meanwhile: bool = False,
    facts: bool = False,
    **fields: Any,
) -> None:
    """Adds a run of a graph, with what is to be asked after it (or meanwhile)."""
    first = Request(body={"assistant_id": graph, **fields}, headers=headers)
    options = {"project": project, "meanwhile": meanwhile, "facts": facts}
    send(name, first, *then, difference=difference, **options)


def get(path: str) -> Request:
    return Request(path, method="GET")


def run(graph: str, **fields: Any) -> Request:
    """The next run on the thread."""
    return Request("/threads/<thread_id>/runs/wait", {"assistant_id": graph, **fields})


THREAD = get("/threads/<thread_id>")
RUN = get("/threads/<thread_id>/runs/<run_id>")
JOIN = get("/threads/<thread_id>/runs/<run_id>/join")

HELLO = {"value": "hello"}
ECHO = "046b5dc7-2108-582c-9c6c-31d556d138f0"
MALFORMED = refused("malformed fields are refused, not run")

# assistant_id

wait("assistant: a graph's name", input=HELLO)
wait("assistant: its UUID", ECHO, input=HELLO)
wait("assistant: its UUID in capitals", ECHO.upper(), input=HELLO)
wait("assistant: an unknown UUID", UNKNOWN_ID)
wait("assistant: an unknown name", "nobody")
wait("assistant: an empty name", "")
wait("assistant: a number", 5)
wait("assistant: null", None)
send("assistant: missing", Request(body={"input": HELLO}))

# input, and what graphs return

wait("input: missing")
for name, value in {
    "an object": HELLO,
    "an empty object": {},
    "a number for an object": 5,
    "a string for an object": "x",
    "a list for an object": [1],
    "null": None,
    "an unknown key": {"nobody": 1},
    "nested": {"value": {"a": [1, 2.5, True, None, {"b": "é😀"}]}},
    "an integer of 64 bits": {"value": 2**64 - 1},
    "a negative integer of 64 bits": {"value": -(2**63)},
    "a float with a whole value": {"value": 5.0},
    "a tiny float": {"value": 5e-324},
}.items():
    wait(f"input: {name}", input=value)
for name, reason, value in (
    ("an integer over 64 bits", "integers of any size are kept exactly", {"value": 2**70}),
    ("the character NUL", "the character NUL is kept", {"value": "a\0b"}),
):
    wait(f"input: {name}", "echo", Difference(reason, value), input=value)
for graph in ("entry", "aentry"):
    for value in ([1, [2]], [], "text", 0, False, {"a": 1}):
        wait(f"output of {graph}: {value}", graph, input=value)
NOTHING = Difference("a graph that returns None answers an empty object", {})
wait("output: None", "none_output", NOTHING, input=1)
wait("output: no update", "no_update", input={"value": 1})
wait("graph: two nodes", "two_nodes", input={})
wait("graph: a subgraph", "subgraph", input={"names": ["zero"]})
wait("graph: a subgraph with its own checkpointer", "ckpt_true_subgraph", input={})
wait("graph: an async branch", "async_branch", input={"value": "left"})
for said in ([["user", "hi"]], "hi", [{"role": "nobody", "content": "hi"}]):
    wait(f"graph: messages as {said}", "mcp_like", input={"messages": said})
for graph in ("lambda_only_async", "uncompiled", "factory", "factory_async"):
    wait(f"graph: {graph}", graph, input=HELLO)
for graph in ("factory_config", "factory_runtime", "factory_both"):
    wait(f"graph: {graph}", graph, input=HELLO)
SOUR = {"configurable": {"flavour": "sour"}}
wait("graph: a factory given a configurable", "factory_both", input={}, config=SOUR)
wait("graph: a store", "memory", input={"user": "ada", "fact": "likes tea"})

# Odd values

PLAIN_VALUES = """
    messages datetime date time timedelta decimal_nan uuid set frozenset tuple bytes enum nan
    infinities dataclass namedtuple exception
"""
for name in PLAIN_VALUES.split():
    wait(f"value: {name}", "odd_values", input={"only": [name]})
DECIMALS = "Decimals are text"
OTHERS = "values of other types become their repr"
NEVER_FAIL = "a value never fails a run that ended well"
INNER = {"at": "2024-02-29T12:00:00.123456+00:00", "amount": "0.10"}
for name, reason, value in (
    ("decimal", DECIMALS, "12.345"),
    ("pydantic", DECIMALS, {"name": "outer", "inner": INNER}),
    ("opaque", OTHERS, "<opaque>"),
    ("unprintable", OTHERS, "<zoo.values.Unprintable object>"),
    ("path", OTHERS, "PurePosixPath('a/b')"),
    ("beyond_64_bits", NEVER_FAIL, 2**64),
    ("huge", NEVER_FAIL, 10**5000),
    ("odd_names", NEVER_FAIL, {"1": "one", "red": "red", "(2, 3)": "pair", "null": "none"}),
    ("surrogate", "half a surrogate pair becomes U+FFFD", "\ufffd"),
):
    difference = Difference(reason, {"only": [name], name: value})
    wait(f"value: {name}", "odd_values", difference, input={"only": [name]})

# Runs that fail


def error(reason: str, kind: str, message: str) -> Difference:
    return Difference(reason, {"__error__": {"error": kind, "message": message}})


for graph in ("fails", "fails_async"):
    wait(f"failure: {graph}", graph, input={})
    wait(f"failure: {graph}, kept", graph, input={}, on_completion="keep", then=[JOIN])
OWN_MESSAGE = error(
    "the graph's own errors keep their message",
    "NodeCancelledError",
    "Node 'node' raised asyncio.CancelledError",
)
wait("failure: a node that raises CancelledError", "cancels_itself", OWN_MESSAGE, input={})
wait("failure: recursion limit", "recursion", input={}, config={"recursion_limit": 5})

# command


def command(name: str, told: Any, difference: Difference | None = None, **fields: Any) -> None:
    wait(f"command: {name}", "gotos", difference, command=told, **fields)


SEND = {"node": "c", "input": {"value": 7}}
for name, told in {
    "a node": {"goto": "c"},
    "a list of nodes": {"goto": ["b", "c"]},
    "one node twice": {"goto": ["c", "c"]},
    "__end__": {"goto": "__end__"},
    "a node beside a null resume": {"resume": None, "goto": "c"},
    "a send": {"goto": SEND},
    "two sends": {"goto": [SEND, SEND]},
    "a node, and update": {"update": {"value": 3}, "goto": "c"},
    "a node, and update pairs": {"update": [["value", 3]], "goto": "c"},
    "a node, and update one name twice": {"update": [["value", 1]] * 2, "goto": "c"},
    "a node, and update an unknown name": {"update": {"x": 1}, "goto": "c"},
    "a node, and resume without a thread": {"resume": 1, "goto": "c"},
}.items():
    command(f"goto {name}", told)
command("goto a node instead of the input", {"goto": "c"}, input={"value": 1})
command("null", None, input={"value": 1})
command("empty", {}, input={"value": 1})
NO_COMMAND = Difference(
    "a command without content is no command",
    {"names": ["a", "b"], "seen": [1, 1], "value": 1},
)
for name, told in {
    "a null resume": {"resume": None},
    "nulls": {"resume": None, "update": None, "goto": None},
    "no goto": {"goto": []},
    "an empty update": {"update": {}},
    "an empty list of updates": {"update": []},
    "an unknown name": {"nobody": 1},
}.items():
    command(name, told, NO_COMMAND, input={"value": 1})
MIXED = {"names": ["a", "b", "c", "b"], "seen": [None, None, 7, None]}
command(
    "goto a node and a send",
    {"goto": ["b", SEND]},
    Difference("a goto may mix names and sends", MIXED),
)
UPDATED = {"names": ["a", "b"], "seen": [3, 3], "value": 3}
command("update alone", {"update": {"value": 3}}, Difference("an update alone works", UPDATED))
UNKNOWN_NODE = "an unknown node is refused"
command("goto an unknown node", {"goto": "nobody"}, refused(UNKNOWN_NODE))
command("goto __start__", {"goto": "__start__"}, refused(UNKNOWN_NODE))
command("a send to an unknown node", {"goto": {**SEND, "node": "nobody"}}, refused(UNKNOWN_NODE))
UNKNOWN_TO_FACTORY = error(
    UNKNOWN_NODE, "UnknownNode", "command.goto: the graph has no node 'nobody'"
)
wait(
    "command: goto an unknown node of a factory's graph",
    "factory",
    UNKNOWN_TO_FACTORY,
    command={"goto": "nobody"},
)
command("resume without a thread", {"resume": "yes"})
THREADLESS = refused("every resume but null needs a thread", 400)
command("resume false without a thread", {"resume": False}, THREADLESS)
for name, told in {
    "a string": "x",
    "a list": [],
    "a number": 5,
    "an update that is a string": {"update": "x"},
    "an update that is a number": {"update": 5},
    "a goto that is a number": {"goto": 5},
    "a send without input": {"goto": {"node": "c"}},
    "a send without node": {"goto": {"input": 1}},
}.items():
    command(name, told)
command("an update of half a pair", {"update": [["value"]]}, MALFORMED)

# What the graph sees: config, context, metadata

IDS = {
    "run_id": "<run_id>",
    "thread_id": "<thread_id>",
    "graph_id": "who",
    "assistant_id": "743b9d55-13ac-5261-8ee5-953dd7975439",
}


GIVEN = {"a": 1}


def seen(
    reason: str, *, given: Mapping[str, Any] = GIVEN, metadata: Mapping[str, Any] = {}, **more: Any
) -> Difference:
    """What `who` sees of a run with this context, metadata of its own, and what more differs."""
    document = {
        "configurable": {
            **IDS,
            **given,
            "langgraph_request_id": "<uuid>",
            "checkpoint_id": None,
            "checkpoint_map": {"": "<uuid>"},
            "checkpoint_ns": "who:<uuid>",
        },
        "context": given,
        "execution_info": {"run_id": "<run_id>", "thread_id": "<thread_id>"},
        "has_store": True,
        "max_concurrency": None,
        "metadata": {
            **IDS,
            "created_by": "system",
            "langgraph_checkpoint_ns": "who:<uuid>",
            "langgraph_node": "who",
            "langgraph_path": ["__pregel_pull", "who"],
            "langgraph_step": 1,
            "langgraph_triggers": ["branch:to:who"],
            **metadata,
        },
        "recursion_limit": None,
        "run_name": None,
        "server_info": {"assistant_id": IDS["assistant_id"], "graph_id": "who"},
        "tags": None,
    }
    return Difference(reason, {"seen": {**document, **more}})


def who(name: str, difference: Difference | None = None, **fields: Any) -> None:
    wait(f"seen: {name}", "who", difference, **{"input": {}, "context": GIVEN, **fields})


for name, request_id in (("X-Request-ID", "request 1"), ("a long X-Request-ID", "~" * 255)):
    who(name, headers=(("X-Request-ID", request_id),))
PRINTABLE = "an X-Request-ID is printable ASCII of 1 to 255 characters"
for name, odd in (("empty", ""), ("too long", "~" * 256), ("tab", "a\tb"), ("é", "é".encode())):
    who(f"X-Request-ID: {name}", seen(PRINTABLE), headers=(("X-Request-ID", odd),))
who("context", context={"user": "ada", "level": 2})
DEEP = {"user": "ada", "n": None, "list": [1], "deep": {"a": 1.5}}
who("configurable", context={}, config={"configurable": DEEP})
who("both context and configurable", config={"configurable": DEEP})
LIMITS = {"recursion_limit": 7, "run_name": "my run", "max_concurrency": 3}
who("tags, limits and names", config={"tags": ["one", "two", "one"], **LIMITS})
who(
    "metadata",
    metadata={"source": "test", "n": None, "deep": {"a": [1]}},
    config={"metadata": {"source": "config", "more": 1}},
)
OURS = {"run_id": "mine", "thread_id": "mine", "assistant_id": "mine"}
who("metadata with the server's names", metadata={**OURS, "created_by": "me"})
who(
    "metadata with a graph's id",
    seen("the ids in the metadata are the run's"),
    metadata={"graph_id": "mine"},
)
MINE = {**GIVEN, **OURS, "graph_id": "mine", "checkpoint_id": "mine", "__mine": 1}
who(
    "configurable with the server's names",
    seen("names of LangGraph's own do not come from callers", context=GIVEN),
    context={},
    config={"configurable": MINE},
)
who(
    "other names in config",
    seen("other names in config are ignored"),
    config={"callbacks": [], "run_id": UNKNOWN_ID, "nobody": 1},
)
who(
    "a whole float as limit",
    seen("a whole float is given on as an integer", recursion_limit=5),
    config={"recursion_limit": 5.0},
)
ITS_OWN = "the server's facts about itself are its own"
who("the server", seen(ITS_OWN, metadata={"langgraph_request_id": "<uuid>"}), facts=True)
who("nothing given", seen("a context is never None", given={}), context={})


def context(name: str, schema: str, difference: Difference | None = None, **fields: Any) -> None:
    wait(f"context: {schema}, {name}", f"context_{schema}", difference, input={}, **fields)


for schema in ("dataclass", "pydantic"):
    context("declared names", schema, context={"user": "ada"})
    context("undeclared names", schema, context={"user": "ada", "x": 1})
    context("configurable", schema, config={"configurable": {"user": "ada", "x": 1}})
context("nothing given", "dataclass")
NO_CONTEXT = "a schema with required keys gets None where no context is given"
context("nothing given", "pydantic", Difference(NO_CONTEXT, {"context": None}))
REFUSED_CONTEXT = refused("a context that its schema refuses is refused")
context("wrong type", "pydantic", REFUSED_CONTEXT, context={"user": "ada", "age": "old"})
context("key missing", "pydantic", REFUSED_CONTEXT, config={"configurable": {"age": 36}})
wait("context: leaks nothing", "context_leak", input={})

# The other fields, right

for name, values in {
    "stream_mode": ["values", ["values"], [], ["values", "updates"]],
    "stream_subgraphs": [True],
    "stream_resumable": [True],
    "feedback_keys": [[]],
    "on_disconnect": ["continue", "cancel"],
    "after_seconds": [-5, 0],
    "checkpoint_during": [True, False],
    "durability": ["async", "exit"],
    "multitask_strategy": ["enqueue", "reject", "interrupt", "rollback"],
    "if_not_exists": ["create", "reject"],
    "langsmith_tracer": [{"project_name": "p"}],
    "checkpoint": [{}],
    "checkpoint_id": [UNKNOWN_ID],
    "strict_resume": [True],
    "an unknown field": [1],
}.items():
    for value in values:
        wait(f"{name}: {value}", input=HELLO, **{name: value})
for seconds in (0.5, 1):
    wait(f"after_seconds: {seconds}", input=HELLO, after_seconds=seconds)
OTHER_MODES = "messages messages-tuple tasks checkpoints updates events debug custom"
send("a query", Request("/runs/wait?x=1", {"assistant_id": "echo", "input": HELLO}))
for name, values, reason in (
    (
        "stream_mode",
        OTHER_MODES.split(),
        "every stream_mode answers with the output",
    ),
    ("durability", ["sync"], "durability sync works without a thread"),
    ("feedback_keys", [["liked"]], "feedback_keys without LangSmith change nothing"),
):
    for value in values:
        wait(f"{name}: {value}", "echo", Difference(reason, HELLO), input=HELLO, **{name: value})
KEYED = Request(
    body={"assistant_id": "echo", "input": HELLO}, headers=(("Idempotency-Key", "one"),)
)
SAME_AGAIN = Difference("an Idempotency-Key leads to the same run again", HELLO)
send("Idempotency-Key: twice", KEYED, KEYED, difference=SAME_AGAIN)
KEPT: dict[str, Any] = {"on_completion": "keep"}
wait("durability: sync, kept", input=HELLO, durability="sync", **KEPT)

# Breakpoints and interrupts


def stop(side: str, nodes: Any, difference: Difference | None = None) -> None:
    wait(f"{side}: {nodes}", "breakpoints", difference, input={}, **{side: nodes})


for side in ("interrupt_before", "interrupt_after"):
    for nodes in (["b"], ["a", "c"], ["__end__"], "*", []):
        stop(side, nodes)
    for nodes in (["nobody"], ["__start__"]):
        stop(side, nodes, refused(UNKNOWN_NODE))
    for nodes in (5, [1], "b"):
        stop(side, nodes, MALFORMED)
ASKED = [
    {"id": "<id>", "response_schema": None, "value": {"ask": side}} for side in ("left", "right")
]
TWO = {"value": "begun", "answers": [], "__interrupt__": ASKED}
BESIDE = Difference("the values stay beside several interrupts", TWO)
wait("interrupts: two", "two_interrupts", BESIDE, input={})

# A run's record and result, while it works and afterwards


def record(
    reason: str, assistant: str, status: str, kwargs: Mapping[str, Any], **more: Any
) -> Difference:
    """The record of a run that was asked for with little more than these."""
    document = {
        "run_id": "<run_id>",
        "thread_id": "<thread_id>",
        "assistant_id": assistant,
        "metadata": {"created_by": "system", "assistant_id": assistant, **more},
        "status": status,
        "kwargs": {
            "input": None,
            "command": None,
            "config": {},
            "context": {},
            "stream_mode": ["values"],
            "interrupt_before": None,
            "interrupt_after": None,
            "webhook": None,
            "feedback_keys": None,
            "temporary": True,
            "subgraphs": False,
            "resumable": False,
            "durability": "async",
            **kwargs,
        },
        "multitask_strategy": "enqueue",
        "created_at": "<time>",
        "updated_at": "<time>",
    }
    return Difference(reason, document)


SLEEP = "d7d366dc-04b6-5bbf-aef3-f7d3c587be53"
AS_SENT = "a run's record tells what was sent"
NAP: dict[str, Any] = {"input": {"seconds": 3}}
MUCH = {
    **NAP,
    "config": {"tags": ["t"], "configurable": {"a": 1}, "metadata": {"b": 2}},
    "interrupt_before": [],
    "interrupt_after": "*",
    "durability": "exit",
}
for name, difference, fields in (
    ("record: of little", record(AS_SENT, SLEEP, "running", NAP), NAP),
    (
        "record: of much",
        record(AS_SENT, SLEEP, "running", MUCH, m=1),
        {**MUCH, "metadata": {"m": 1}},
    ),
):
    wait(name, "sleep_async", difference, **fields, then=[RUN], meanwhile=True)
wait("join: while the run works", "sleep_sync", **NAP, then=[JOIN], meanwhile=True)

wait("deleted: the thread", input=HELLO, on_completion="delete", then=[THREAD])
RESULT_STAYS = "the result of a deleted run can be had for a while"
wait("deleted: join", "echo", Difference(RESULT_STAYS, HELLO), input=HELLO, then=[JOIN])
ENDED = record(RESULT_STAYS, ECHO, "success", {"input": HELLO})
wait("deleted: the run", "echo", ENDED, input=HELLO, then=[RUN])

# Fields that break their type

WRONG: dict[str, list[Any]] = {
    "config": [
        *("x", None, []),
        *({"tags": tags} for tags in ("x", [1], None)),
        *({"recursion_limit": limit} for limit in ("5", 5.5, True, None)),
        *({"configurable": configurable} for configurable in ([], None)),
    ],
    "metadata": ["x", None, []],
    "context": ["x", None, []],
    "webhook": [
        *("", 5, None, "no address", "/relative", "ftp://example.com/x", "http://[::1]/x"),
        *("http://127.0.0.1:9/x", "http://user:secret@127.0.0.1/x"),
    ],
    "stream_mode": ["nobody", ["values", "nobody"], 5, None],
    "feedback_keys": ["x", [1], None],
    "stream_subgraphs": ["true", 1, None],
    "stream_resumable": ["x", None],
    "on_completion": ["x", None, 5],
    "on_disconnect": ["x", None, 5],
    "after_seconds": ["5", None, True],
    "checkpoint_during": ["x", 1, None],
    "durability": ["x", None, 5],
    "checkpoint_id": ["x"],
}
WRONG_ONLY_HERE: dict[str, list[Any]] = {
    "config": [
        *({"recursion_limit": limit} for limit in (0, -1)),
        *({"max_concurrency": limit} for limit in (0, "x")),
        {"run_name": 5},
        {"metadata": "x"},
    ],
    "langsmith_tracer": ["x", None],
    "multitask_strategy": ["x", None],
    "if_not_exists": ["x", None],
    "checkpoint": ["x"],
    "strict_resume": ["x"],
}
for table, difference in ((WRONG, None), (WRONG_ONLY_HERE, MALFORMED)):
    for name, values in table.items():
        for value in values:
            wait(f"refused: {name} {value!r}", "echo", difference, input=HELLO, **{name: value})
wait("refused: two fields at once", input=HELLO, config=5, on_completion="x")

# Bodies that are no JSON object

ENTRY = b'{"assistant_id": "entry", "input": %b}'
for name, body in {
    "not JSON": b"{nobody",
    "empty": b"",
    "a list": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "NaN": ENTRY % b"NaN",
    "beyond a double": ENTRY % b"1e999",
    "not UTF-8": ENTRY % b'"\xff"',
    "a lone surrogate": ENTRY % rb'"\ud800"',
    "text behind it": ENTRY % b"1" + b" x",
    "nested 150 deep": ENTRY % (b"[" * 150 + b"]" * 150),
    "nested 1,100 deep": ENTRY % (b"[" * 1100 + b"]" * 1100),
}.items():
    send(f"body: {name}", Request(body=body))
DEEP_BODY = ENTRY % (b"[" * 300 + b"]" * 300)
send("body: nested 300 deep", Request(body=DEEP_BODY), difference=MALFORMED)
TWICE = refused("a name twice in one object is refused")
send("body: a name twice", Request(body=ENTRY % b'1, "input": 2'), difference=TWICE)
wait("body: as text/plain", input=HELLO, headers=(("Content-Type", "text/plain"),))

# Other paths

for method in ("GET", "HEAD", "PUT", "OPTIONS"):
    send(f"path: {method} of /runs/wait", Request(method=method))
UNKNOWN_THREAD = f"/threads/{UNKNOWN_ID}"
UNKNOWN_RUN = f"{UNKNOWN_THREAD}/runs/{UNKNOWN_ID}"
send("path: unknown", get("/nobody"))
send("path: a thread that is no UUID", get("/threads/nobody"))
send("path: a run that is no UUID", get(f"{UNKNOWN_THREAD}/runs/nobody"))
send("path: an unknown thread", get(UNKNOWN_THREAD))
send("path: an unknown run", get(UNKNOWN_RUN))
NO_JOIN = refused("the join of an unknown run is a 404", 404)
send("path: join of an unknown run", get(f"{UNKNOWN_RUN}/join"), difference=NO_JOIN)
send("path: cancel of an unknown run", Request(f"{UNKNOWN_RUN}/cancel"))
send(
    "path: a run on an unknown thread",
    Request(f"{UNKNOWN_THREAD}/runs/wait", {"assistant_id": "echo", "input": HELLO}),
)
WHAT_THERE_IS = "/ok and /info say what there is"
send("path: ok", get("/ok"), difference=Difference(WHAT_THERE_IS, {"ok": True}))
send("path: info", get("/info"), difference=Difference(WHAT_THERE_IS, ...))

# The examples

ASK_OSLO = {"messages": [{"role": "user", "content": "Oslo?", "id": "m1"}]}
for graph, fields in (
    ("chat", {"input": {"messages": "What is 6 * 7?"}}),
    ("chat", {"input": ASK_OSLO, "context": {"name": "Ada", "tone": "cheerful"}}),
    ("mapreduce", {"input": {"documents": ["the cat", "the end"]}}),
    ("async_only", {"input": {"item": "lamp", "budget": 25}}),
    ("slow", {"input": {"seconds": 0.5}}),
    # Past the first newline.
    ("slow", {"input": {"seconds": 6}}),
):
    wait(f"example: {graph}, {fields}", graph, project="examples", **fields)
REPLIES = [{"approved": False, "feedback": "friendlier"}, {"approved": True}]
wait(
    "example: approval",
    "approval",
    input={"request": "lunch"},
    then=[run("approval", command={"resume": reply}) for reply in REPLIES],
    project="examples",
    **KEPT,
)

# The Python SDK


def sdk(
    name: str, call: Callable[[SyncLangGraphClient], Any], difference: Difference | None = None
) -> None:
    CASES.append(Case(name=f"sdk: {name}", call=call, difference=difference))


def sdk_wait(name: str, graph: str, **given: Any) -> None:
    sdk(name, lambda client: client.runs.wait(None, graph, **given))


def created(client: SyncLangGraphClient) -> Any:
    """What the SDK reads from the answer's headers."""
    told: list[Any] = []
    client.runs.wait(None, "echo", input=HELLO, on_run_created=told.append)
    return told


sdk("the run's ids", created)
sdk_wait("a run", "echo", input=HELLO)
sdk_wait(
    "a run with every argument",
    "two_nodes",
    input={},
    config={"tags": ["a"], "recursion_limit": 9, "configurable": {}},
    context={"u": 1},
    metadata={"m": 1},
    interrupt_before=[],
    interrupt_after="*",
    multitask_strategy="reject",
    if_not_exists="create",
    on_disconnect="cancel",
    on_completion="delete",
    after_seconds=0,
    durability="async",
)
sdk_wait("a command", "gotos", command={"goto": "c"})
sdk_wait("a run that fails", "fails", input={})
sdk_wait("a run that fails, not raised", "fails", input={}, raise_error=False)
sdk_wait("an unknown graph", "nobody", input={})
sdk_wait("an unknown assistant", UNKNOWN_ID, input={})
sdk_wait("a resume without a thread", "two_interrupts", command={"resume": "yes"})
sdk_wait("a field that breaks its type", "echo", input={}, metadata="x")
sdk("an unknown run", lambda client: client.runs.get(UNKNOWN_ID, UNKNOWN_ID))
sdk(
    "join of an unknown run",
    lambda client: client.runs.join(UNKNOWN_ID, UNKNOWN_ID),
    Difference(NO_JOIN.reason, "raised HTTPStatusError", 404),
)
