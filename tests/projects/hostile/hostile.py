"""Graphs whose names, states, questions and errors are full of markup; a large one; odd inputs."""

from typing import Any, Literal

from langchain_core.messages import AIMessage
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

MARKUP = "<img src=x onerror=alert(1)><script>alert(1)</script><a href='javascript:alert(1)'>a</a>"
NODE = "<svg onload=alert(1)>"


class State(MessagesState, total=False):
    value: Any


def _speak(state: State) -> dict[str, Any]:
    get_stream_writer()({MARKUP: MARKUP})
    call = {"name": MARKUP, "args": {MARKUP: [MARKUP]}, "id": MARKUP}
    said = AIMessage(MARKUP, tool_calls=[call], name=MARKUP)
    return {"messages": [said], "value": {MARKUP: {"__proto__": MARKUP, "long": MARKUP * 500}}}


def _ask(state: State) -> dict[str, Any]:
    raise ValueError(MARKUP + str(interrupt({MARKUP: MARKUP})))


graph = (
    StateGraph(State)
    .add_node(NODE, _speak)
    .add_node(f"{MARKUP} asks".replace(":", ""), _ask)
    .add_edge(START, NODE)
    .add_edge(NODE, f"{MARKUP} asks".replace(":", ""))
    .compile()
)


class Large(TypedDict, total=False):
    size: int
    many: list[dict[str, int]]
    text: str


def _grow(state: Large) -> Large:
    size = state.get("size", 1000)
    return {"many": [{"number": each} for each in range(size)], "text": "x" * size * 100}


large = StateGraph(Large).add_node("grow", _grow).add_edge(START, "grow").compile(name="large")


class Inner(TypedDict, total=False):
    name: str
    weights: list[float]


class Shapes(TypedDict, total=False):
    words: str
    number: int
    share: float
    sure: bool
    tone: Literal["plain", "cheerful"]
    list: list[str]
    inner: Inner
    anything: Any
    __proto__: str


def _take(state: Shapes) -> Shapes:
    return {}


shapes = StateGraph(Shapes).add_node("take", _take).add_edge(START, "take").compile(name="shapes")
