"""An app beside the API."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from flask import Flask, Response, request

app = Flask(__name__)
PIECE = b"x" * 65_536


@app.get("/own/where")
def where() -> dict[str, str | None]:
    """Where it is, and who asks."""
    return {"root": request.script_root, "url": request.url, "client": request.remote_addr}


@app.post("/own/length")
def length() -> dict[str, int]:
    """How long the body is."""
    return {"length": len(request.get_data())}


@app.get("/own/page")
def page() -> str:
    """A page of whatever origin it is asked for at."""
    return "<!doctype html><title>a page</title>"


@app.get("/ok")
@app.get("/info")
def hidden() -> str:
    """Never asked: the API has these."""
    return "mine"


@app.get("/own/fault")
def fault() -> NoReturn:
    """Raise."""
    raise ValueError("what went wrong here")


@app.get("/own/large")
def large() -> Response:
    """Many pieces, and in the file that is named how many were made."""
    number = int(request.args["pieces"])
    made = Path(request.args["made"])

    def pieces() -> Iterator[bytes]:
        try:
            for each in range(number):
                made.write_text(str(each + 1))
                yield PIECE
        finally:
            logging.getLogger("own").warning("the pieces end")

    return Response(pieces(), mimetype="application/octet-stream")


@app.get("/own/wait")
def wait() -> Response:
    """A piece at once, and another one when a file is there."""
    gate = Path(request.args["gate"])

    def pieces() -> Iterator[bytes]:
        yield b"first "
        while not gate.exists():
            time.sleep(0.01)
        if gate.read_text() == "break":
            raise ValueError("half an answer")
        yield b"second"

    return Response(pieces(), mimetype="text/plain")
