"""The least that answers with what a graph gives: Flask routes around `invoke` and `stream`.

No validation, no contract, no records, no Redis.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from flask import Flask, request
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from benchmarks.graph import State, echo_async, graph, tokens, two_nodes

app = Flask(__name__)
kept = two_nodes.builder.compile(checkpointer=InMemorySaver())


@app.post("/runs/wait")
def wait() -> Any:
    """The output of a graph, of one node for nearly all that is measured."""
    body = request.get_json()
    return (two_nodes if body["assistant_id"] == "two_nodes" else graph).invoke(body["input"])


@app.post("/async/runs/wait")
def wait_async() -> Any:
    """The output of an asynchronous one."""
    given: State = request.get_json()["input"]
    return asyncio.run(echo_async.ainvoke(given))


@app.post("/kept/runs/wait")
@app.post("/threads/<thread_id>/runs/wait")
def wait_kept(thread_id: str = "") -> Any:
    """The output of a graph of two nodes, whose thread is kept in memory."""
    config: RunnableConfig = {"configurable": {"thread_id": thread_id or str(uuid4())}}
    return kept.invoke(request.get_json()["input"], config)


@app.post("/runs/stream")
def stream() -> Any:
    """Server-sent events, as `graph.stream` gives them."""
    body = request.get_json()
    mode = body["stream_mode"]
    streamed = tokens if body["assistant_id"] == "tokens" else graph

    def events() -> Iterator[str]:
        for chunk in streamed.stream(body["input"], stream_mode=mode):
            data = chunk
            if mode == "messages":
                data = [chunk[0].model_dump(), chunk[1]]
            yield f"event: {mode}\r\ndata: {json.dumps(data, default=str)}\r\n\r\n"

    return events(), {"Content-Type": "text/event-stream"}
