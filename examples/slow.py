"""A run that takes its time, to watch the newlines that keep the connection open.

It sleeps in short supersteps, since a run can be stopped between two of them, but never in the
middle of a synchronous node. `-N` makes curl show each byte as it comes.

    curl -N http://localhost:8000/runs/wait -d '{"assistant_id": "slow", "input": {"seconds": 12}}'
"""

import operator
import time
from typing import Annotated, Literal, TypedDict

from langgraph.graph import START, StateGraph

SLICE_SECONDS = 0.25


class State(TypedDict):
    seconds: float
    slept: Annotated[float, operator.add]


def nap(state: State) -> dict[str, float]:
    duration = min(SLICE_SECONDS, state["seconds"] - state["slept"])
    time.sleep(duration)
    return {"slept": duration}


def tired(state: State) -> Literal["nap", "__end__"]:
    return "nap" if state["slept"] < state["seconds"] else "__end__"


builder = StateGraph(State)
builder.add_node(nap)
builder.add_conditional_edges(START, tired)
builder.add_conditional_edges("nap", tired)
graph = builder.compile(name="slow")
