"""A graph that returns values which JSON has no words for."""

import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall, ToolMessage
from langgraph.graph import START, StateGraph
from pydantic import BaseModel

from zoo.states import Value


class Colour(Enum):
    RED = "red"


class Inner(BaseModel):
    at: datetime
    amount: Decimal


class Outer(BaseModel):
    name: str
    inner: Inner


@dataclass
class Point:
    x: int
    label: Colour


class Pair(NamedTuple):
    left: int
    right: str


class Opaque:
    def __repr__(self) -> str:
        return "<opaque>"


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


NOON = datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC)


class Values(TypedDict, total=False):
    only: list[str]
    messages: list[AnyMessage]
    datetime: datetime
    date: date
    time: time
    timedelta: timedelta
    decimal: Decimal
    decimal_nan: Decimal
    uuid: uuid.UUID
    set: set[int]
    frozenset: frozenset[str]
    tuple: tuple[int, ...]
    bytes: bytes
    enum: Colour
    nan: float
    infinities: list[float]
    huge: int
    beyond_64_bits: int
    pydantic: Outer
    dataclass: Point
    namedtuple: Pair
    exception: Exception
    opaque: Opaque
    unprintable: Unprintable
    path: PurePosixPath
    odd_names: dict[Any, str]
    surrogate: str


VALUES: Values = {
    "messages": [
        HumanMessage("hello", id="m1"),
        AIMessage("", id="m2", tool_calls=[ToolCall(name="look", args={"at": 1}, id="c1")]),
        ToolMessage("seen", id="m3", tool_call_id="c1"),
    ],
    "datetime": NOON,
    "date": NOON.date(),
    "time": NOON.time(),
    "timedelta": timedelta(hours=1, milliseconds=500),
    "decimal": Decimal("12.345"),
    "decimal_nan": Decimal("NaN"),
    "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    "set": {1},
    "frozenset": frozenset({"one"}),
    "tuple": (1, 2),
    "bytes": b"\x00\xff",
    "enum": Colour.RED,
    "nan": float("nan"),
    "infinities": [float("inf"), float("-inf")],
    "huge": 10**5000,
    "beyond_64_bits": 2**64,
    "pydantic": Outer(name="outer", inner=Inner(at=NOON, amount=Decimal("0.10"))),
    "dataclass": Point(1, Colour.RED),
    "namedtuple": Pair(1, "two"),
    "exception": ValueError("no luck"),
    "opaque": Opaque(),
    "unprintable": Unprintable(),
    "path": PurePosixPath("a/b"),
    "odd_names": {1: "one", Colour.RED: "red", (2, 3): "pair", None: "none"},
    "surrogate": "\ud800",
}


def _odd(state: Values) -> dict[str, Any]:
    return {name: VALUES[name] for name in state.get("only") or VALUES}  # type: ignore[literal-required]


odd_values = StateGraph(Values).add_node("odd", _odd).add_edge(START, "odd").compile()


def _lock(state: Value) -> Value:
    return {"value": threading.Lock()}


unstorable = (
    StateGraph(Value).add_node("lock", _lock).add_edge(START, "lock").compile(name="unstorable")
)
