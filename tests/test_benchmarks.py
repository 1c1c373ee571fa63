"""What measures works: each section of the benchmarks, and the soak, with next to nothing to do.

No figure is looked at. All of them have one server of Runwait, and one of bare routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import idle, picture, servers, soak
from benchmarks.__main__ import SECTIONS
from benchmarks.crowd import Crowd
from benchmarks.load import gives, load, post
from benchmarks.servers import BARE, Server, served

LITTLE: dict[str, dict[str, Any]] = {
    "bare": {
        "COUNT": 2,
        "LARGE_COUNT": 1,
        "STREAMS": 1,
        "SECONDS": 0.1,
        "TOKENS": 3,
        "SETTLING": 0.0,
    },
    "stream": {"JOINED": 2, "JOINED_EVENTS": 2, "OPEN": 3, "OPEN_EVENTS": 2, "OPEN_SECONDS": 0.01},
    "background": {"SECONDS": 0.05, "QUEUED": 20, "CLAIMS": 2},
    "steps": {"THREADS": {"10 checkpoints": (2, 0), "3 messages": (2, 3)}, "STEPS": 2},
    "search": {"THREADS": 20, "COUNT": 2},
    "store": {"ITEMS": (3,), "DIMS": 4},
    "schedule": {"WAITING": 5, "COUNT": 2},
    "lateness": {"RUNS": 2, "SECONDS": 0.1, "LEAD": 5.0},
    "crons": {"CRONS": 2, "LEAD_MS": 500},
    "idle": {},
    "crowd": {
        "CROWDS": (Crowd("sleep_async", 4, 0.01, 0, 0, 0),),
        "IDLE": 3,
        "TRICKLING": 2,
        "REQUESTS": 2,
    },
    "picture": {"CLIENTS": (1, 2), "SECONDS": 0.05},
}


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Server, Server]]:
    """A server of Runwait, and one of bare routes."""
    with served(**soak.SETTINGS) as runwait, served(BARE, WEB_CONCURRENCY=1) as bare:
        yield runwait, bare


@pytest.fixture
def shared(running: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch) -> None:
    """Has all that is measured use these servers."""

    def of_one(command: Any = servers.RUNWAIT, *_: Any, **__: Any) -> Any:
        return contextlib.nullcontext(running[command == BARE])

    for module in (*SECTIONS.values(), soak):
        if hasattr(module, "served"):
            monkeypatch.setattr(module, "served", of_one)
    # The crons are idle too.
    monkeypatch.setattr(idle, "SETTLING", 0.0)
    monkeypatch.setattr(idle, "SECONDS", 0.1)


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_measures_and_prints(name, monkeypatch, capsys, tmp_path):
    for constant, little in LITTLE[name].items():
        monkeypatch.setattr(SECTIONS[name], constant, little)
    monkeypatch.setattr(picture, "FILE", tmp_path / "picture.svg")
    SECTIONS[name].measure(1)
    assert capsys.readouterr().out


def test_the_picture_is_svg_with_a_line_for_each_server():
    lines = {name: dict.fromkeys(picture.CLIENTS, 10.0) for name in picture.COLOURS}
    drawn = ElementTree.fromstring(picture._drawn(lines, lines))
    assert len(drawn.findall("{http://www.w3.org/2000/svg}polyline")) == 2 * len(lines)


@pytest.mark.usefixtures("shared")
def test_the_soak_does_each_errand_and_says_what_grows(capsys):
    # In so short a time, what is to be flat need not look flat.
    wrong = asyncio.run(soak.soak(1.0, patience=0.0))
    printed = capsys.readouterr().out
    assert (" times " in printed, "errands failed" in str(wrong)) == (False, False), printed
    assert "worker 2, descriptors" in printed


@pytest.mark.parametrize(("each", "slope"), [([5.0, 5.0, 99.0, 5.0], 0.0), ([1, 2, 3, 4], 0.1)])
def test_a_slope_is_that_of_most_looks(each, slope):
    assert soak._slope([0, 10, 20, 30], each) == pytest.approx(slope)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2",
    ],
    ids=["refused", "broken off", "wrong"],
)
def test_a_load_with_an_answer_that_is_not_right_fails(answer):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        with pytest.raises(RuntimeError):
            load(listening.getsockname()[1], post("/", {}), gives(1))
        serving.join()
