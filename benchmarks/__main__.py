"""`make bench`: Runwait against a bare Flask route that calls `graph.invoke`, in one run.

Both serve the same graph of one node under the same gunicorn settings on this machine, and are
asked in turns by the same client, so that what else the machine does strikes both. What counts
are the ratios, the medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BODY = json.dumps({"assistant_id": "echo", "input": {"value": {"a": 1, "b": "x"}}}).encode()
ANSWER = {"value": {"a": 1, "b": "x"}}
PORTS = {"bare": 8211, "runwait": 8212}
CONFIGS = {"bare": "benchmarks/bare_gunicorn.py", "runwait": "config/gunicorn.py"}


def ask(connection: http.client.HTTPConnection) -> float:
    """Have the graph run once; the seconds it took."""
    began = time.perf_counter()
    connection.request("POST", "/runs/wait", BODY, {"Content-Type": "application/json"})
    content = connection.getresponse().read()
    took = time.perf_counter() - began
    if json.loads(content) != ANSWER:
        raise RuntimeError(f"a wrong answer: {content!r}")
    return took


def p50(port: int, count: int) -> float:
    """One client's median, in seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    return statistics.median(ask(connection) for _ in range(count))


def throughput(port: int, clients: int, seconds: float) -> float:
    """Runs a second that so many clients get done at once."""
    deadline = time.perf_counter() + seconds
    counts = [0] * clients

    def work(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while time.perf_counter() < deadline:
            ask(connection)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


@contextlib.contextmanager
def server(name: str, folder: Path) -> Iterator[None]:
    """One of the two, until the block ends."""
    environment = {
        **os.environ,
        "PORT": str(PORTS[name]),
        "DATA_DIR": str(folder / "data"),
        "LANGGRAPH_CONFIG": str(ROOT / "benchmarks" / "langgraph.json"),
        "LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "gunicorn", "-c", CONFIGS[name]]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                # More than there are workers, so that each has run the graph before it counts.
                for _ in range(50):
                    ask(http.client.HTTPConnection("127.0.0.1", PORTS[name]))
                break
            except ConnectionError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / f"{name}.log").read_text()) from None
                time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=400, help="runs of one client a round")
    parser.add_argument("--seconds", type=float, default=3, help="of the clients' rush, a round")
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    alone: dict[str, list[float]] = {name: [] for name in PORTS}
    rush: dict[str, list[float]] = {name: [] for name in PORTS}
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        for name in PORTS:
            stack.enter_context(server(name, Path(temporary)))
        for _ in range(options.rounds):
            for name, port in PORTS.items():
                alone[name].append(p50(port, options.count))
            for name, port in PORTS.items():
                rush[name].append(throughput(port, options.clients, options.seconds))
    slower = statistics.median(
        ours / bare for ours, bare in zip(alone["runwait"], alone["bare"], strict=True)
    )
    share = statistics.median(
        ours / bare for ours, bare in zip(rush["runwait"], rush["bare"], strict=True)
    )
    print(f"{'':24}{'bare':>10}{'Runwait':>10}{'ratio':>8}   reach")
    print(
        f"{'one client, p50':24}{statistics.median(alone['bare']) * 1000:>7.2f} ms"
        f"{statistics.median(alone['runwait']) * 1000:>7.2f} ms{slower:>8.2f}   at most 2.5"
    )
    print(
        f"{f'{options.clients} clients, runs/s':24}{statistics.median(rush['bare']):>10.0f}"
        f"{statistics.median(rush['runwait']):>10.0f}{share:>8.2f}   at least 0.6"
    )


if __name__ == "__main__":
    main()
