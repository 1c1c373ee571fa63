"""The least that answers with what a graph gives: Flask routes around `invoke` and `stream`."""

import json
from collections.abc import Iterator

from flask import Flask, request

from benchmarks.graph import graph, tokens

app = Flask(__name__)


@app.post("/runs/wait")
def wait() -> object:
    """No validation, no contract, no Redis."""
    return graph.invoke(request.get_json()["input"])


@app.post("/runs/stream")
def stream() -> object:
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
