"""The least that answers with a graph's output: a Flask route that calls `graph.invoke`."""

from flask import Flask, request

from benchmarks.graph import graph

app = Flask(__name__)


@app.post("/runs/wait")
def wait() -> object:
    """No validation, no contract, no Redis."""
    return graph.invoke(request.get_json()["input"])
