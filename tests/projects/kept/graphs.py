"""Graphs whose threads hold what is not in their schemas, and what is not to be kept."""

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import kinds
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel, create_model


class Anything(TypedDict, total=False):
    value: Any
    seen: Any


def _chain(schema: Any, *nodes: Any, asynchronous: bool = False) -> Any:
    """A graph of these nodes, one after the other."""
    builder, before = StateGraph(schema), START
    for number, node in enumerate(nodes):
        name = "abc"[number]
        builder.add_node(name, _awaited(node) if asynchronous else node)
        builder.add_edge(before, name)
        before = name
    return builder.compile()


def _awaited(node: Any) -> Any:
    async def awaited(state: Any) -> Any:
        await asyncio.sleep(0)
        return node(state)

    return awaited


def _make(state: Anything) -> Anything:
    values = kinds.all_kinds()
    return {"value": values, "seen": kinds.shown(values)}


def _ask(state: Any) -> Any:
    interrupt("go on?")
    return {}


def _compare(state: Anything) -> Anything:
    now = kinds.shown(state["value"])
    pairs = zip(state["seen"], now, strict=True)
    return {"value": None, "seen": [(one, other) for one, other in pairs if one != other]}


holds = _chain(Anything, _make, _ask, _compare)
holds_async = _chain(Anything, _make, _ask, _compare, asynchronous=True)
asks = _chain(Anything, lambda state: {"seen": interrupt(kinds.Question(text="Who?"))})


def _local() -> Any:
    class Draft(BaseModel):
        text: str

    class Letter(TypedDict, total=False):
        draft: Draft
        again: str

    return _chain(
        Letter,
        lambda state: {"draft": Draft(text="Dear")},
        _ask,
        lambda state: {"again": f"{state['draft'].text} {isinstance(state['draft'], Draft)}"},
    )


local = _local()


def local_factory() -> Any:
    return _local()


# Of a class that nothing knows but the node that makes it.
hidden = _chain(
    Anything,
    lambda state: {"value": [create_model("Hidden", a=(int, 1))()]},
    _ask,
    lambda state: {},
)


class Counted(TypedDict, total=False):
    value: Any
    log: Annotated[list[str], operator.add]


_REFUSES = (
    lambda state: {"log": ["a"]},
    lambda state: {"log": ["b"], "value": [lambda: 1] if state.get("value") == "bad" else 1},
    lambda state: {"log": ["c"]},
)
refuses = _chain(Counted, *_REFUSES)
refuses_async = _chain(Counted, *_REFUSES, asynchronous=True)

# What is given as `value` is what the second node adds to the log.
_LISTS = (
    lambda state: {"log": ["a"]},
    lambda state: {"log": state.get("value") or ["b"]},
    lambda state: {"log": ["c"]},
)
lists = _chain(Counted, *_LISTS)
lists_async = _chain(Counted, *_LISTS, asynchronous=True)


class Strict(BaseModel):
    items: list[str] = []
    note: str = ""


strict = _chain(
    Strict, lambda state: {"items": [*state.items, None]}, lambda state: {"note": "seen"}
)


def _make_late(state: Anything) -> Anything:
    import late

    return {"value": late.Late(text="x")}


lately = _chain(Anything, _make_late)


def _fail(state: Anything) -> Anything:
    raise kinds.Unkept


fails = _chain(Anything, _fail)
