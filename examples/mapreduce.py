"""Map and reduce: one `count` task a document, all in the same superstep, then one `total`.

Shows Send, a reducer that gathers what parallel tasks return, and an output schema that keeps the
partial counts out of the answer.

    curl http://localhost:8000/runs/wait -d '{
      "assistant_id": "mapreduce",
      "input": {"documents": ["the cat and the dog", "the end"]}
    }'
"""

import operator
from collections import Counter
from typing import Annotated, Literal, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import Send


class Input(TypedDict):
    documents: list[str]


class Output(TypedDict):
    words: dict[str, int]


class State(Input, Output):
    counts: Annotated[list[dict[str, int]], operator.add]


class Document(TypedDict):
    text: str


def split(state: State) -> list[Send] | Literal["total"]:
    return [Send("count", Document(text=text)) for text in state["documents"]] or "total"


def count(state: Document) -> dict[str, list[dict[str, int]]]:
    return {"counts": [Counter(state["text"].lower().split())]}


def total(state: State) -> Output:
    words: Counter[str] = Counter()
    for counts in state["counts"]:
        words.update(counts)
    return {"words": dict(words.most_common())}


builder = StateGraph(State, input_schema=Input, output_schema=Output)
builder.add_node(count)
builder.add_node(total)
builder.add_conditional_edges(START, split, ["count", "total"])
builder.add_edge("count", "total")
graph = builder.compile(name="mapreduce")
