"""What is sent to both servers: every field of the body, right and wrong, and what comes after.

A case whose answers are known to differ says why, in words that docs/differences.md repeats, and
what Runwait answers instead. All else must be equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# The graphs: each project's folder, from the repository's root.
PROJECTS = {"zoo": "tests/projects/zoo", "examples": "examples"}

# The reference does not start with these graphs, or does not survive them.
NOT_ON_THE_REFERENCE = {"compiled_with_saver", "exits", "exits_async"}

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Request:
    """One request. `<thread_id>` and `<run_id>` in its path are those of the case's first answer.

    The body is sent as it is where it is bytes, else as JSON.
    """

    path: str = "/runs/wait"
    body: Any = None
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Difference:
    """Why the last answers of a case differ, and what Runwait's is.

    Ids in the document are named, e.g. `<run_id>`; `...` allows any document.
    """

    reason: str
    status: int = 200
    document: Any = ...


@dataclass(frozen=True)
class Case:
    """`server_facts` keeps what the server says of itself in a run's metadata in the comparison."""

    name: str
    requests: tuple[Request, ...]
    difference: Difference | None = None
    project: str = "zoo"
    server_facts: bool = False


CASES: list[Case] = []

REFUSED = {"detail": "<text>"}


def refused(reason: str, status: int = 422) -> Difference:
    return Difference(reason, status, REFUSED)


def wait(
    name: str,
    graph: str = "echo",
    *,
    then: Iterable[Request] = (),
    difference: Difference | None = None,
    project: str = "zoo",
    headers: Mapping[str, str] | None = None,
    **fields: Any,
) -> None:
    """Adds a run of a graph, with what is to be asked after it."""
    body = {"assistant_id": graph, **fields}
    first = Request(body=body, headers=tuple((headers or {}).items()))
    CASES.append(Case(name, (first, *then), difference, project))


def raw(name: str, body: bytes, difference: Difference | None = None) -> None:
    CASES.append(Case(name, (Request(body=body),), difference))


def get(path: str) -> Request:
    return Request(path, method="GET")


def call(name: str, request: Request, difference: Difference | None = None) -> None:
    CASES.append(Case(name, (request,), difference))


HELLO = {"value": "hello"}
MALFORMED = refused("malformed fields are refused, not run")

# assistant_id

wait("assistant: a graph's name", input=HELLO)
wait("assistant: its UUID", "046b5dc7-2108-582c-9c6c-31d556d138f0", input=HELLO)
wait("assistant: its UUID in capitals", "046B5DC7-2108-582C-9C6C-31D556D138F0", input=HELLO)
wait("assistant: an unknown UUID", UNKNOWN_ID)
wait("assistant: an unknown name", "nobody")
wait("assistant: an empty name", "")
wait("assistant: a number", 5)  # type: ignore[arg-type]
wait("assistant: null", None)  # type: ignore[arg-type]
call("assistant: missing", Request(body={"input": HELLO}))

# input, and what graphs return

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
wait("input: missing")
wait(
    "input: an integer over 64 bits",
    input={"value": 2**70},
    difference=Difference("integers of any size are kept exactly", 200, {"value": 2**70}),
)
wait(
    "input: the character NUL",
    input={"value": "a\0b"},
    difference=Difference("the character NUL is kept", 200, {"value": "a\0b"}),
)
for graph in ("entry", "aentry"):
    wait(f"output of {graph}: a list", graph, input=[1, [2]])
    wait(f"output of {graph}: an empty list", graph, input=[])
    wait(f"output of {graph}: a string", graph, input="text")
    wait(f"output of {graph}: a number", graph, input=0)
    wait(f"output of {graph}: false", graph, input=False)
    wait(f"output of {graph}: an object", graph, input={"a": 1})
wait(
    "output: None",
    "none_output",
    input=1,
    difference=Difference("a graph that returns None answers an empty object", 200, {}),
)
wait("output: no update", "no_update", input={"value": 1})
wait("graph: two nodes", "two_nodes", input={})
wait("graph: a subgraph", "subgraph", input={"names": ["zero"]})
wait("graph: a subgraph with its own checkpointer", "ckpt_true_subgraph", input={})
wait("graph: an async branch", "async_branch", input={"value": "left"})
wait("graph: a tool with a coroutine only", "mcp_like", input={"messages": [["user", "hi"]]})
wait("graph: messages as a string", "mcp_like", input={"messages": "hi"})
wait(
    "graph: a message of an unknown role",
    "mcp_like",
    input={"messages": [{"role": "nobody", "content": "hi"}]},
)
wait("graph: a lambda with a coroutine only", "lambda_only_async", input=HELLO)
for graph in ("factory", "factory_config", "factory_async", "uncompiled"):
    wait(f"graph: {graph}", graph, input=HELLO)
for graph in ("factory_runtime", "factory_both"):
    wait(f"graph: {graph}", graph, input=HELLO)
wait(
    "graph: a factory given a configurable",
    "factory_both",
    input={},
    config={"configurable": {"flavour": "sour"}},
)
wait("graph: a store", "memory", input={"user": "ada", "fact": "likes tea"})

# Odd values

PLAIN_VALUES = """
    messages datetime date time timedelta decimal decimal_nan uuid set frozenset tuple bytes enum
    nan infinities pydantic dataclass namedtuple exception
"""
for name in PLAIN_VALUES.split():
    wait(f"value: {name}", "odd_values", input={"only": [name]})

TEXT_FOR_OTHERS = "values of other types become their repr"
NEVER_FAIL = "a value never fails a run that ended well"
for name, reason, value in (
    ("opaque", TEXT_FOR_OTHERS, "<opaque>"),
    ("unprintable", TEXT_FOR_OTHERS, ...),
    ("path", TEXT_FOR_OTHERS, ...),
    ("beyond_64_bits", NEVER_FAIL, 2**64),
    ("huge", NEVER_FAIL, ...),
    ("odd_names", NEVER_FAIL, ...),
    ("surrogate", "lone surrogates are told", ...),
):
    document = ... if value is ... else {"only": [name], name: value}
    wait(
        f"value: {name}",
        "odd_values",
        input={"only": [name]},
        difference=Difference(reason, 200, document),
    )

# Runs that fail

for graph in ("fails", "fails_async"):
    wait(f"failure: {graph}", graph, input={})
    wait(
        f"failure: {graph}, kept",
        graph,
        input={},
        on_completion="keep",
        then=[get("/threads/<thread_id>/runs/<run_id>/join")],
    )
wait(
    "failure: a node that raises CancelledError",
    "cancels_itself",
    input={},
    difference=Difference("the graph's own errors keep their message"),
)
wait("failure: recursion limit", "recursion", input={}, config={"recursion_limit": 5})

# command

wait("command: null", "gotos", input={"value": 1}, command=None)
wait("command: empty", "gotos", input={"value": 1}, command={})
NO_COMMAND = "a command without content is no command"
NO_COMMAND_ANSWER = {"names": ["a", "b"], "seen": [1, 1], "value": 1}
for name, command in {
    "a null resume": {"resume": None},
    "nulls": {"resume": None, "update": None, "goto": None},
    "no goto": {"goto": []},
    "an empty update": {"update": {}},
    "an empty list of updates": {"update": []},
    "an unknown name": {"nobody": 1},
}.items():
    wait(
        f"command: {name}",
        "gotos",
        input={"value": 1},
        command=command,
        difference=Difference(NO_COMMAND, 200, NO_COMMAND_ANSWER),
    )
wait("command: goto a node", "gotos", command={"goto": "c"})
wait("command: goto and input", "gotos", input={"value": 1}, command={"goto": "c"})
wait("command: goto a list", "gotos", command={"goto": ["b", "c"]})
wait("command: send", "gotos", command={"goto": {"node": "c", "input": {"value": 7}}})
wait(
    "command: send twice",
    "gotos",
    command={"goto": [{"node": "c", "input": {"value": v}} for v in (1, 2)]},
)
wait("command: update and goto", "gotos", command={"update": {"value": 3}, "goto": "c"})
wait("command: update as pairs, and goto", "gotos", command={"update": [["value", 3]], "goto": "c"})
wait(
    "command: goto a node and a send",
    "gotos",
    command={"goto": ["b", {"node": "c", "input": {"value": 7}}]},
    difference=Difference("a goto may mix names and sends"),
)
wait(
    "command: update alone",
    "gotos",
    command={"update": {"value": 3}},
    difference=Difference("an update alone works"),
)
UNKNOWN_NODE = "an unknown node is refused"
for name, goto in {
    "an unknown node": "nobody",
    "a send to an unknown node": {"node": "nobody", "input": 1},
}.items():
    wait(f"command: {name}", "gotos", command={"goto": goto}, difference=refused(UNKNOWN_NODE))
wait("command: goto __end__", "gotos", command={"goto": "__end__"}, difference=None)
wait("command: resume without a thread", "two_interrupts", command={"resume": "yes"})
wait(
    "command: resume false without a thread",
    "two_interrupts",
    command={"resume": False},
    difference=refused("every resume but null needs a thread", 400),
)
for name, bad in {
    "a string": "x",
    "a list": [],
    "a number": 5,
    "an update that is a string": {"update": "x"},
    "an update that is a number": {"update": 5},
    "a goto that is a number": {"goto": 5},
    "a send without input": {"goto": {"node": "c"}},
    "a send without node": {"goto": {"input": 1}},
}.items():
    wait(f"command: {name}", "gotos", command=bad)
wait(
    "command: an update of half a pair",
    "gotos",
    command={"update": [["value"]]},
    difference=MALFORMED,
)

# What the graph sees: config, context, metadata

wait("seen: nothing given", "who", input={}, difference=Difference("a context is never None"))
wait("seen: X-Request-ID", "who", input={}, context={"a": 1}, headers={"X-Request-ID": "request 1"})
wait(
    "seen: configurable",
    "who",
    input={},
    config={"configurable": {"user": "ada", "n": None, "list": [1], "deep": {"a": 1.5}}},
)
wait("seen: context", "who", input={}, context={"user": "ada", "level": 2})
wait(
    "seen: configurable beside an empty context",
    "who",
    input={},
    context={},
    config={"configurable": {"user": "ada"}},
)
wait(
    "seen: both configurable and context",
    "who",
    input={},
    context={"user": "ada"},
    config={"configurable": {"user": "bob"}},
)
wait(
    "seen: tags, limits and names",
    "who",
    input={},
    context={"a": 1},
    config={
        "tags": ["one", "two", "one"],
        "recursion_limit": 7,
        "run_name": "my run",
        "max_concurrency": 3,
    },
)
wait(
    "seen: a whole float as limit",
    "who",
    input={},
    context={"a": 1},
    config={"recursion_limit": 5.0},
)
wait(
    "seen: metadata",
    "who",
    input={},
    context={"a": 1},
    metadata={"source": "test", "n": None, "deep": {"a": [1]}},
    config={"metadata": {"source": "config", "more": 1}},
)
wait(
    "seen: metadata with the server's names",
    "who",
    input={},
    context={"a": 1},
    metadata={"run_id": "mine", "thread_id": "mine", "assistant_id": "mine"},
)
OWN_NAMES = "names of LangGraph's own do not come from callers"
wait(
    "seen: configurable with the server's names",
    "who",
    input={},
    config={
        "configurable": {
            "user": "ada",
            "run_id": "mine",
            "thread_id": "mine",
            "graph_id": "mine",
            "assistant_id": "mine",
            "langgraph_request_id": "mine",
            "checkpoint_id": "mine",
            "checkpoint_ns": "mine",
            "__mine": 1,
        }
    },
    difference=Difference(OWN_NAMES),
)
wait(
    "seen: other names in config",
    "who",
    input={},
    context={"a": 1},
    config={"callbacks": [], "run_id": UNKNOWN_ID, "nobody": 1},
    difference=Difference("other names in config are ignored"),
)
wait("context: a dataclass, nothing given", "context_dataclass", input={})
wait("context: a dataclass", "context_dataclass", input={}, context={"user": "ada"})
wait(
    "context: a dataclass, undeclared names",
    "context_dataclass",
    input={},
    context={"user": "ada", "x": 1},
)
wait(
    "context: a dataclass from configurable",
    "context_dataclass",
    input={},
    config={"configurable": {"user": "ada", "x": 1}},
)
wait("context: a pydantic model", "context_pydantic", input={}, context={"user": "ada", "age": 36})
wait(
    "context: a pydantic model, undeclared names",
    "context_pydantic",
    input={},
    context={"user": "ada", "x": 1},
)
wait(
    "context: a pydantic model, nothing given",
    "context_pydantic",
    input={},
    difference=Difference(
        "a schema with required keys gets None where no context is given", 200, {"context": None}
    ),
)
wait(
    "context: a pydantic model, wrong type",
    "context_pydantic",
    input={},
    context={"user": "ada", "age": "old"},
    difference=refused("a context that its schema refuses is refused"),
)
wait("context: leaks nothing", "context_leak", input={})

# The other fields, right

for mode in ("values", ["values"], [], ["values", "updates"]):
    wait(f"stream_mode: {mode}", input=HELLO, stream_mode=mode)
OTHER_MODES = "messages messages-tuple tasks checkpoints updates events debug custom"
for mode in OTHER_MODES.split():
    wait(
        f"stream_mode: {mode}",
        input=HELLO,
        stream_mode=mode,
        difference=Difference("every stream_mode answers with the output", 200, HELLO),
    )
wait("stream_subgraphs", input=HELLO, stream_subgraphs=True)
wait("stream_resumable", input=HELLO, stream_resumable=True)
wait("feedback_keys: none", input=HELLO, feedback_keys=[])
wait(
    "feedback_keys",
    input=HELLO,
    feedback_keys=["liked"],
    difference=Difference("feedback_keys without LangSmith change nothing", 200, HELLO),
)
wait("on_disconnect: continue", input=HELLO, on_disconnect="continue")
wait("on_disconnect: cancel", input=HELLO, on_disconnect="cancel")
for seconds in (-5, 0, 0.5, 1):
    wait(f"after_seconds: {seconds}", input=HELLO, after_seconds=seconds)
wait("checkpoint_during: true", input=HELLO, checkpoint_during=True)
wait("checkpoint_during: false", input=HELLO, checkpoint_during=False)
wait("durability: async", input=HELLO, durability="async")
wait("durability: exit", input=HELLO, durability="exit")
wait(
    "durability: sync",
    input=HELLO,
    durability="sync",
    difference=Difference("durability sync works without a thread", 200, HELLO),
)
wait("durability: sync, kept", input=HELLO, durability="sync", on_completion="keep")
for name in ("enqueue", "reject", "interrupt", "rollback"):
    wait(f"multitask_strategy: {name}", input=HELLO, multitask_strategy=name)
for name in ("create", "reject"):
    wait(f"if_not_exists: {name}", input=HELLO, if_not_exists=name)
wait("langsmith_tracer", input=HELLO, langsmith_tracer={"project_name": "p"})
wait("checkpoint: empty", input=HELLO, checkpoint={})
wait("checkpoint_id", input=HELLO, checkpoint_id=UNKNOWN_ID)
wait("strict_resume", input=HELLO, strict_resume=True)
wait("an unknown field", input=HELLO, nobody=1)
for path in ("/runs/wait?x=1",):
    call("a query", Request(path, {"assistant_id": "echo", "input": HELLO}))

# Breakpoints and interrupts


def stop(side: str, nodes: Any, difference: Difference | None = None) -> None:
    wait(f"{side}: {nodes}", "breakpoints", input={}, difference=difference, **{side: nodes})


for side in ("interrupt_before", "interrupt_after"):
    for nodes in (["b"], ["a", "c"], "*", []):
        stop(side, nodes)
    stop(side, ["nobody"], refused(UNKNOWN_NODE))
    for bad in (5, [1], "b"):
        stop(side, bad, MALFORMED)
wait(
    "interrupts: two",
    "two_interrupts",
    input={},
    difference=Difference("the values stay beside several interrupts"),
)

# on_completion, and what is there afterwards

THREAD = get("/threads/<thread_id>")
RUN = get("/threads/<thread_id>/runs/<run_id>")
JOIN = get("/threads/<thread_id>/runs/<run_id>/join")
wait("on_completion: delete, then the thread", input=HELLO, on_completion="delete", then=[THREAD])
RESULT_STAYS = "the result of a deleted run can be had for a while"
wait(
    "on_completion: delete, then join",
    input=HELLO,
    on_completion="delete",
    then=[JOIN],
    difference=Difference(RESULT_STAYS, 200, HELLO),
)
wait(
    "on_completion: delete, then the run",
    input=HELLO,
    on_completion="delete",
    then=[RUN],
    difference=Difference(RESULT_STAYS),
)
wait("on_completion: keep, then join", input=HELLO, on_completion="keep", then=[JOIN])
wait(
    "on_completion: keep, then the next run on the thread",
    "two_nodes",
    input={"names": ["zero"]},
    on_completion="keep",
    then=[Request("/threads/<thread_id>/runs/wait", {"assistant_id": "two_nodes", "input": {}})],
)
wait(
    "on_completion: keep, stopped, then on with null",
    "breakpoints",
    input={},
    interrupt_before=["b"],
    on_completion="keep",
    then=[
        Request("/threads/<thread_id>/runs/wait", {"assistant_id": "breakpoints", "input": None})
    ],
)
wait(
    "on_completion: keep, then the state",
    "breakpoints",
    input={},
    interrupt_before=["b"],
    on_completion="keep",
    then=[get("/threads/<thread_id>/state")],
    difference=Difference("the server's facts about itself are its own"),
)

# Fields that break their type

WRONG: dict[str, list[Any]] = {
    "config": [
        "x",
        None,
        [],
        *({"tags": tags} for tags in ("x", [1], None)),
        *({"recursion_limit": limit} for limit in ("5", 5.5, True, None)),
        {"configurable": []},
        {"configurable": None},
    ],
    "metadata": ["x", None, []],
    "context": ["x", None, []],
    "webhook": [
        "",
        5,
        None,
        "no address",
        "/relative",
        "ftp://example.com/x",
        "http://127.0.0.1:9/x",
        "http://user:secret@127.0.0.1/x",
        "http://[::1]/x",
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
for name, values in WRONG.items():
    for value in values:
        wait(f"refused: {name} {value!r}", input=HELLO, **{name: value})
wait("refused: two fields at once", input=HELLO, config=5, on_completion="x")
REFUSED_HERE: dict[str, list[Any]] = {
    "config": [
        {"recursion_limit": 0},
        {"recursion_limit": -1},
        {"run_name": 5},
        {"max_concurrency": 0},
        {"max_concurrency": "x"},
        {"metadata": "x"},
    ],
    "langsmith_tracer": ["x", None],
    "multitask_strategy": ["x", None],
    "if_not_exists": ["x", None],
    "checkpoint": ["x"],
    "strict_resume": ["x"],
}
for name, values in REFUSED_HERE.items():
    for value in values:
        wait(
            f"refused: {name} {value!r}",
            input=HELLO,
            difference=MALFORMED,
            **{name: value},
        )

# Bodies that are no JSON object

ENTRY = b'{"assistant_id": "entry", "input": %b}'
raw("body: not JSON", b"{nobody")
raw("body: empty", b"")
raw("body: a list", b"[]")
raw("body: a string", b'"x"')
raw("body: null", b"null")
raw("body: NaN", ENTRY % b"NaN")
raw("body: beyond a double", ENTRY % b"1e999")
raw("body: not UTF-8", ENTRY % b'"\xff"')
raw("body: a lone surrogate", ENTRY % rb'"\ud800"')
raw("body: text behind it", ENTRY % b"1" + b" x")
raw("body: nested 150 deep", ENTRY % (b"[" * 150 + b"]" * 150))
raw("body: nested 1,100 deep", ENTRY % (b"[" * 1100 + b"]" * 1100))
raw(
    "body: nested 300 deep",
    ENTRY % (b"[" * 300 + b"]" * 300),
    MALFORMED,
)
raw(
    "body: a name twice",
    b'{"assistant_id": "entry", "input": 1, "input": 2}',
    refused("a name twice in one object is refused"),
)
CASES.append(
    Case(
        "body: as text/plain",
        (
            Request(
                body={"assistant_id": "echo", "input": HELLO},
                headers=(("Content-Type", "text/plain"),),
            ),
        ),
    )
)

# Other paths

call("path: unknown", get("/nobody"))
call("path: the wrong method", get("/runs/wait"))
call("path: a thread that is no UUID", get("/threads/nobody"))
call("path: an unknown thread", get(f"/threads/{UNKNOWN_ID}"))
call("path: a run that is no UUID", get(f"/threads/{UNKNOWN_ID}/runs/nobody"))
call("path: an unknown run", get(f"/threads/{UNKNOWN_ID}/runs/{UNKNOWN_ID}"))
call(
    "path: join of an unknown run",
    get(f"/threads/{UNKNOWN_ID}/runs/{UNKNOWN_ID}/join"),
    refused("the join of an unknown run is a 404", 404),
)
call("path: cancel of an unknown run", Request(f"/threads/{UNKNOWN_ID}/runs/{UNKNOWN_ID}/cancel"))
call(
    "path: a run on an unknown thread",
    Request(f"/threads/{UNKNOWN_ID}/runs/wait", {"assistant_id": "echo", "input": HELLO}),
)
call(
    "path: ok",
    get("/ok"),
    Difference("/ok and /info say what there is", 200, {"ok": True}),
)
call("path: info", get("/info"), Difference("/ok and /info say what there is"))

# The examples

wait("example: chat", "chat", input={"messages": "What is 6 * 7?"}, project="examples")
wait(
    "example: chat with a context",
    "chat",
    input={"messages": [{"role": "user", "content": "Oslo?", "id": "m1"}]},
    context={"name": "Ada", "tone": "cheerful"},
    project="examples",
)
wait(
    "example: mapreduce",
    "mapreduce",
    input={"documents": ["the cat", "the end"]},
    project="examples",
)
wait("example: async_only", "async_only", input={"item": "lamp", "budget": 25}, project="examples")
wait("example: slow", "slow", input={"seconds": 0.5}, project="examples")
wait("example: slow, past the first newline", "slow", input={"seconds": 6}, project="examples")
ON_THREAD = "/threads/<thread_id>/runs/wait"
wait(
    "example: approval",
    "approval",
    input={"request": "lunch"},
    on_completion="keep",
    then=[
        Request(ON_THREAD, {"assistant_id": "approval", "command": {"resume": answer}})
        for answer in ({"approved": False, "feedback": "friendlier"}, {"approved": True})
    ],
    project="examples",
)
