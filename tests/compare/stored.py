"""The store's items, and assistants that users make."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from cases import (
    ASSISTANTS,
    CASES,
    KNOWN,
    UNKNOWN_ID,
    Difference,
    Request,
    get,
    know,
    refused,
    seen,
    send,
)
from kept import BY_TYPE, STRICT_QUERY, TOTAL

ECHO = str(uuid5(UUID(ASSISTANTS), "echo"))

# What is known to differ

know(
    STRICT_QUERY,
    "store: GET namespace=a&key=k&refresh_ttl=maybe",
    "assistants: subgraphs?recurse=maybe",
)


def item_of(reason: str, case: str, value: Any, key: str = "k") -> Difference:
    times = {"created_at": "<time>", "updated_at": "<time>"}
    return Difference(reason, {"namespace": [case], "key": key, "value": value, **times})


know(
    item_of("integers of any size are kept exactly", "big", {"n": 2**70}),
    "store: big integers",
)
know(item_of("the character NUL is kept", "nul", {"n": "a\0b"}), "store: NUL")
know(item_of("an item with an empty key can be read", "empty", {"n": 1}, ""), "store: an empty key")
know(
    refused("the store refuses as all else does"),
    "store: PUT an empty namespace",
    "store: PUT an empty label",
    "store: PUT a label with a period",
    "store: PUT the label langgraph",
    *(f"store: GET {query}" for query in ("", "key=k", "namespace=a", "namespace=&key=k")),
    "store: GET namespace=a..b&key=k",
    "store: search: an unknown operator",
)
know(refused("a query needs an index"), "store: search: a query")
know(refused("an item's time to live is above 0"), "store: PUT a ttl of 0")
know(
    refused("a deletion names a namespace"),
    "store: DELETE {'key': 'k'}",
    "store: DELETE {'namespace': [], 'key': 'k'}",
)
UNORDERED = "comparisons with what has no order do not match"
know(Difference(UNORDERED, {"items": [..., ...]}), "store: search: greater")
know(Difference(UNORDERED, {"items": [...]}), "store: search: texts greater")
know(
    Difference("a search without a namespace goes through all", {"items": []}),
    "store: search: no namespace",
    "store: search: a null namespace",
)
know(
    refused("a page of the store has at least one, and so has a depth"),
    "store: search: limit 0",
    "store: search: offset -1",
    "store: namespaces: limit 0",
    "store: namespaces: offset -1",
    "store: namespaces: a depth of 0",
)
know(
    Difference("reading leaves no namespace behind", {"namespaces": []}),
    "store: namespaces: one that was asked for",
)


def shown(reason: str, **more: Any) -> Difference:
    """An assistant as Runwait shows it."""
    document = {
        "assistant_id": "<assistant_id>",
        "graph_id": "echo",
        "config": {},
        "context": {},
        "metadata": {},
        "name": "Untitled",
        "description": None,
        "version": 1,
        "created_at": "<time>",
        "updated_at": "<time>",
        **more,
    }
    return Difference(reason, document)


BY_NAME = "a graph's name leads to its assistant"
know(
    shown(
        BY_NAME,
        assistant_id=ECHO,
        name="echo",
        description="Returns its value unchanged",
        metadata={"created_by": "system"},
    ),
    "assistants: by a graph's name",
)
know(Difference(BY_NAME, ...), "assistants: schemas by a graph's name")
know(Difference(BY_NAME, {}), "assistants: subgraphs by a graph's name")
know(refused("an assistant's UUID has dashes"), "assistants: a UUID without dashes")
CONFIG = "an assistant's fields are checked as a run's are"
know(shown(CONFIG), "assistants: made with other names in config")
know(
    refused(CONFIG),
    "assistants: made with a limit of 0",
    "assistants: made with description null",
)
CHANGES = "a change of an assistant is of what it names"
ADA = {"user": "ada"}
FULL: dict[str, Any] = {
    "name": "n",
    "description": "d",
    "metadata": {"a": 1},
    "config": {"tags": ["t"], "recursion_limit": 9, "configurable": ADA},
}
for name, config, user in (
    ("a config", {"tags": ["u"], "configurable": ADA}, ADA),
    ("an empty config", {"configurable": ADA}, ADA),
    ("a context", {**FULL["config"], "configurable": {"user": "eve"}}, {"user": "eve"}),
):
    know(
        shown(CHANGES, **{**FULL, "config": config, "context": user, "version": 2}),
        f"assistants: patched with {name}",
    )
know(
    refused("the system's assistants stay as they are", 403),
    "assistants: one of the system's patched",
    "assistants: one of the system's deleted",
)
know(Difference("an assistant's versions may be none", []), "assistants: versions, by metadata")
know(shown("a version comes back whole"), "assistants: back to another graph")
know(refused("the version to go back to is required"), "assistants: back to no version")
know(Difference(BY_TYPE, [..., ..., ...]), "assistants: search: a part of a list")
know(Difference(BY_TYPE, []), "assistants: search: 1 for true")
know(Difference(TOTAL, []), "assistants: search: an offset beyond")
know(
    Difference(
        "sort_order counts without sort_by",
        [
            {"graph_id": graph, "name": f"{letter} search sort_order alone"}
            for letter, graph in (("b", "echo"), ("C", "two_nodes"), ("a", "echo"))
        ],
    ),
    "assistants: search: sort_order alone",
)
DRAWN = (
    "two_nodes",
    "subgraph",
    "context_pydantic",
    "context_dataclass",
    "entry",
    "mcp_like",
    "factory",
)
SCHEMAS = "schemas are made of the graph's channels"
know(
    Difference(SCHEMAS, ...),
    *(f"assistants: schemas of {graph}" for graph in DRAWN),
    *(f"assistants: subgraphs{path}" for path in ("", "?recurse=true", "/child")),
)
SEEN: dict[str, Any] = seen("").document["seen"]
metadata = {name: value for name, value in SEEN["metadata"].items() if name != "created_by"}
know(
    Difference(
        "an assistant's config.metadata is seen in its runs",
        {
            "seen": {
                **dict.fromkeys(SEEN, ...),
                "metadata": {**metadata, "assistant_id": "<assistant_id>", "m": 1},
            }
        },
    ),
    "assistants: run of one with metadata in its config",
)

# The store. Each case has a namespace of its own.


def put(case: str, key: str = "k", value: Any = None, *labels: str, **fields: Any) -> Request:
    body = {"namespace": [case, *labels], "key": key, "value": {"n": 1} if value is None else value}
    return Request("/store/items", {**body, **fields}, "PUT")


def store(name: str, *requests: Request, difference: Difference | None = None) -> None:
    send(f"store: {name}", *requests, difference=difference)


def item(case: str, key: str = "k") -> Request:
    return get(f"/store/items?namespace={case}&key={key}")


def remove(body: Any) -> Request:
    return Request("/store/items", body, "DELETE")


def find(body: Any) -> Request:
    return Request("/store/items/search", body)


def spaces(body: Any) -> Request:
    return Request("/store/namespaces", body)


store("an item", put("one"), item("one"))
store(
    "an item twice", put("twice"), put("twice", value={"n": [2.5, None, {"a": "é"}]}), item("twice")
)
store(
    "a nested namespace",
    put("deep", "k", None, "a", "b"),
    item("deep.a.b"),
    item("deep.a"),
    item("deep"),
)
store("no item", item("nobody"))
store("an item deleted", put("gone"), remove({"namespace": ["gone"], "key": "k"}), item("gone"))
store("no item deleted", remove({"namespace": ["nobody"], "key": "k"}))
store("big integers", put("big", value={"n": 2**70}), item("big"))
store("NUL", put("nul", value={"n": "a\0b"}), item("nul"))
store("an empty key", put("empty", ""), item("empty", ""))
store(
    "a value of a graph",
    Request(body={"assistant_id": "memory", "input": {"user": "store-ada", "fact": "tea"}}),
    item("facts.store-ada", "tea"),
)
for name, body in {
    "nothing": {},
    "no key": {"namespace": ["bad"], "value": {}},
    "no value": {"namespace": ["bad"], "key": "k"},
    "a value that is none": {"namespace": ["bad"], "key": "k", "value": "x"},
    "a null value": {"namespace": ["bad"], "key": "k", "value": None},
    "a key that is none": {"namespace": ["bad"], "key": 5, "value": {}},
    "a text as namespace": {"namespace": "bad", "key": "k", "value": {}},
    "an empty namespace": {"namespace": [], "key": "k", "value": {}},
    "a number as label": {"namespace": [5], "key": "k", "value": {}},
    "an empty label": {"namespace": [""], "key": "k", "value": {}},
    "a label with a period": {"namespace": ["a.b"], "key": "k", "value": {}},
    "the label langgraph": {"namespace": ["langgraph"], "key": "k", "value": {}},
    "index false": {"namespace": ["index"], "key": "k", "value": {}, "index": False},
    "an index of names": {"namespace": ["index"], "key": "k", "value": {}, "index": ["a"]},
    "an index that is none": {"namespace": ["index"], "key": "k", "value": {}, "index": 5},
    "a ttl": {"namespace": ["ttl"], "key": "k", "value": {}, "ttl": 5},
    "a ttl of 0": {"namespace": ["ttl"], "key": "k", "value": {}, "ttl": 0},
    "a ttl that is none": {"namespace": ["ttl"], "key": "k", "value": {}, "ttl": "x"},
}.items():
    store(f"PUT {name}", Request("/store/items", body, "PUT"))
for query in (
    "",
    "key=k",
    "namespace=a",
    "namespace=&key=k",
    "namespace=a..b&key=k",
    "namespace=a&key=k&refresh_ttl=maybe",
    "namespace=a&key=k&refresh_ttl=true",
):
    store(f"GET {query}", get(f"/store/items?{query}"))
for body in (
    {},
    {"key": "k"},
    {"namespace": [], "key": "k"},
    {"namespace": ["a"]},
    {"namespace": "a", "key": "k"},
):
    store(f"DELETE {body}", remove(body))


def look(name: str, difference: Difference | None = None, **body: Any) -> None:
    """Adds a search in four items."""
    case = f"search {name}".replace(" ", "-").replace(".", "-")
    items = [
        put(case, f"k{n}", {"n": n, "t": "ab"[n % 2], "l": [n], "o": {"a": n}}) for n in range(3)
    ]
    under = put(case, "k", {"n": None, "t": 5}, "deeper")
    store(
        f"search: {name}",
        *items,
        under,
        find({"namespace_prefix": [case], **body}),
        difference=difference,
    )


look("all")
look("a value", filter={"n": 1})
look("two values", filter={"n": 1, "t": "b"})
look("nothing", filter={"n": 9})
look("an object", filter={"o": {"a": 1}})
look("a list", filter={"l": [1]})
look("null", filter={"n": None})
look("equal", filter={"n": {"$eq": 1}})
look("unequal", filter={"t": {"$ne": "a"}})
look("greater", filter={"n": {"$gt": 0}})
look("texts greater", filter={"t": {"$gte": "b"}})
look("an unknown operator", filter={"n": {"$nobody": 1}})
look("limit", limit=2)
look("limit and offset", limit=2, offset=1)
look("limit 0", limit=0)
look("offset -1", offset=-1)
look("limit x", limit="x")
look("a query", query="x")
look("a filter that is none", filter="x")
for name, body in {
    "no namespace": {},
    "a null namespace": {"namespace_prefix": None},
    "a text as namespace": {"namespace_prefix": "a"},
}.items():
    store(f"search: {name}", find({**body, "limit": 1, "filter": {"nobody": 1}}))


def listed(name: str, difference: Difference | None = None, **body: Any) -> None:
    case = f"list {name}".replace(" ", "-")
    items = [put(case, "k", None, *labels) for labels in ((), ("a",), ("a", "b"), ("c", "b"))]
    store(f"namespaces: {name}", *items, spaces({"prefix": [case], **body}), difference=difference)


listed("all")
listed("a suffix", suffix=["b"])
listed("a depth", max_depth=2)
listed("a depth of 0", max_depth=0)
listed("limit", limit=2)
listed("limit and offset", limit=2, offset=1)
listed("limit 0", limit=0)
listed("offset -1", offset=-1)
listed("a wild card", suffix=["*", "b"])
store("namespaces: of an unknown prefix", spaces({"prefix": ["nobody at all"]}))
store("namespaces: a text", spaces({"prefix": "x"}))
store("namespaces: one that was asked for", item("only-asked"), spaces({"prefix": ["only-asked"]}))

# Assistants

PATH = "/assistants/<assistant_id>"


def make(**body: Any) -> Request:
    return Request("/assistants", {"graph_id": "echo", **body})


def assistant(name: str, *requests: Request, difference: Difference | None = None) -> None:
    send(f"assistants: {name}", *requests, difference=difference)


def post(path: str, body: Any = None) -> Request:
    return Request(path, {} if body is None else body)


def patch(body: Any, path: str = PATH) -> Request:
    return Request(path, body, "PATCH")


THE = get(PATH)
VERSIONS = post(f"{PATH}/versions")
assistant("one of the system's", get(f"/assistants/{ECHO}"))
assistant("by a graph's name", get("/assistants/echo"))
assistant("an unknown one", get(f"/assistants/{UNKNOWN_ID}"))
assistant("a UUID without dashes", get(f"/assistants/{ECHO.replace('-', '')}"))
assistant("no UUID", get("/assistants/nobody"))
assistant("made", make(), THE)
assistant("made of much", make(**FULL), THE)
assistant("made with a context", make(context={"user": "ada"}), THE)
assistant("made with both", make(context={"user": "ada"}, config={"configurable": {"user": "eve"}}))
assistant("made twice", make(), make(assistant_id="<assistant_id>"))
assistant(
    "made twice, do_nothing",
    make(),
    make(assistant_id="<assistant_id>", if_exists="do_nothing", name="x"),
)
for name, body in {
    "an unknown graph": {"graph_id": "nobody"},
    "graph_id null": {"graph_id": None},
    "an id that is none": {"assistant_id": "x"},
    "name 5": {"name": 5},
    "metadata 'x'": {"metadata": "x"},
    "config 'x'": {"config": "x"},
    "context 'x'": {"context": "x"},
    "if_exists 'x'": {"if_exists": "x"},
    "other names in config": {"config": {"nobody": 1}},
    "a limit of 0": {"config": {"recursion_limit": 0}},
    "description null": {"description": None},
}.items():
    assistant(f"made with {name}", make(**body))
assistant("made of nothing", Request("/assistants", {}))
assistant("patched", make(**FULL), patch({"name": "m", "metadata": {"b": 2}}), THE, VERSIONS)
assistant("patched with nothing", make(**FULL), patch({}))
assistant("patched with a config", make(**FULL), patch({"config": {"tags": ["u"]}}))
assistant("patched with an empty config", make(**FULL), patch({"config": {}}))
assistant("patched with a context", make(**FULL), patch({"context": {"user": "eve"}}))
assistant("patched with another graph", make(), patch({"graph_id": "two_nodes"}), THE)
assistant("patched with an unknown graph", make(), patch({"graph_id": "nobody"}))
assistant("patched wrongly", make(), patch({"name": 5}))
assistant("an unknown one patched", patch({"name": "n"}, f"/assistants/{UNKNOWN_ID}"))
assistant("deleted", make(), Request(PATH, method="DELETE"), THE)
assistant("an unknown one deleted", Request(f"/assistants/{UNKNOWN_ID}", method="DELETE"))
OWN = f"/assistants/{uuid5(UUID(ASSISTANTS), 'hang')}"
assistant("one of the system's patched", patch({"metadata": {"a": 1}}, OWN))
assistant(
    "one of the system's deleted",
    Request(f"/assistants/{uuid5(UUID(ASSISTANTS), 'factory_cm')}", method="DELETE"),
)
TWO = (make(**FULL), patch({"name": "m"}))
assistant("versions", *TWO, VERSIONS)
assistant("versions, a page", *TWO, post(f"{PATH}/versions", {"limit": 1, "offset": 1}))
assistant("versions, by metadata", *TWO, post(f"{PATH}/versions", {"metadata": {"a": 2}}))
assistant("versions of an unknown one", post(f"/assistants/{UNKNOWN_ID}/versions"))
assistant("back to a version", *TWO, post(f"{PATH}/latest", {"version": 1}), THE, VERSIONS)
assistant("back, and patched", *TWO, post(f"{PATH}/latest", {"version": 1}), patch({"name": "o"}))
assistant(
    "back to another graph",
    make(),
    patch({"graph_id": "two_nodes"}),
    post(f"{PATH}/latest", {"version": 1}),
)
for version in (7, 0, "x", None):
    assistant(f"back to version {version}", *TWO, post(f"{PATH}/latest", {"version": version}))
assistant("back to no version", *TWO, post(f"{PATH}/latest"))


def search(
    name: str, difference: Difference | None = None, /, *, path: str = "search", **body: Any
) -> None:
    """Adds a search in three assistants."""
    case = {"case": f"{path} {name}"}
    made = [
        make(
            name=f"{letter} {path} {name}",
            graph_id=graph,
            metadata={**case, "n": n, "l": [n, 9], "yes": n == 1},
        )
        for n, (letter, graph) in enumerate((("b", "echo"), ("C", "two_nodes"), ("a", "echo")))
    ]
    body = {**body, "metadata": {**case, **body.get("metadata", {})}}
    assistant(f"{path}: {name}", *made, post(f"/assistants/{path}", body), difference=difference)


SELECT = {"select": ["name", "graph_id"]}
search("all")
search("metadata", metadata={"n": 1})
search("a part of a list", metadata={"l": [9]}, **SELECT)
search("1 for true", metadata={"yes": 1}, **SELECT)
search("a graph", graph_id="echo", **SELECT)
search("a name", name="a search", **SELECT)
search("limit", limit=2, **SELECT)
search("limit and offset", limit=1, offset=1, **SELECT)
search("an offset beyond", offset=7, **SELECT)
for by in ("name", "created_at", "updated_at"):
    search(f"by {by}", sort_by=by, sort_order="asc", **SELECT)
search("by graph_id", sort_by="graph_id", select=["graph_id"])
search("sort_order alone", sort_order="asc", **SELECT)
for name, wrong in {
    "limit 0": {"limit": 0},
    "limit 1001": {"limit": 1001},
    "offset -1": {"offset": -1},
    "sort_by 'x'": {"sort_by": "x"},
    "select 'x'": {"select": ["x"]},
}.items():
    assistant(f"search: {name}", post("/assistants/search", wrong))
search("all", path="count")
search("a graph", path="count", graph_id="echo")
for graph in DRAWN:
    path = f"/assistants/{uuid5(UUID(ASSISTANTS), graph)}"
    assistant(f"graph of {graph}", get(f"{path}/graph"))
    assistant(f"schemas of {graph}", get(f"{path}/schemas"))
SUBGRAPH = f"/assistants/{uuid5(UUID(ASSISTANTS), 'subgraph')}"
for query in ("xray=true", "xray=1", "xray=0", "xray=x"):
    assistant(f"graph with {query}", get(f"{SUBGRAPH}/graph?{query}"))
for path in ("", "?recurse=true", "?recurse=maybe", "/child", "/nobody"):
    assistant(f"subgraphs{path}", get(f"{SUBGRAPH}/subgraphs{path}"))
for path in ("graph", "schemas", "subgraphs"):
    assistant(f"{path} of an unknown one", get(f"/assistants/{UNKNOWN_ID}/{path}"))
    assistant(f"{path} by a graph's name", get(f"/assistants/echo/{path}"))

# Runs of them


def run_seen(
    name: str,
    difference: Difference | None = None,
    *,
    run: dict[str, Any] | None = None,
    **made: Any,
) -> None:
    assistant(
        f"run of one with {name}",
        make(graph_id="who", **made),
        Request(
            body={"assistant_id": "<assistant_id>", "input": {}, "context": {"a": 1}, **(run or {})}
        ),
        difference=difference,
    )


run_seen("nothing")
run_seen("metadata", metadata={"m": 1, "o": 1}, run={"metadata": {"o": 2}})
run_seen("tags and limits", config={"tags": ["t"], "recursion_limit": 9})
run_seen("a context", context={"b": 1, "a": 0})
run_seen("metadata in its config", config={"metadata": {"m": 1}})
assistant(
    "run of a deleted one",
    make(),
    Request(PATH, method="DELETE"),
    Request(body={"assistant_id": "<assistant_id>", "input": {}}),
)

assert KNOWN.keys() <= {case.name for case in CASES}, "a difference of no case"
