"""Runs a second and the slowest of a hundred answers, for one client to a thousand, as a picture.

Runwait, a bare route, and if asked for `langgraph dev`, in turns: docs/clients.svg.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.load import gives, load, post
from benchmarks.servers import BARE, ROOT, RUNWAIT, VALUE, Server, ratio, served

CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
# For how many seconds they ask, for each number of clients and each round. Long enough for a server
# that takes a second to notice that there is something to do, as `langgraph dev` does.
SECONDS = 5.0
# Among how many clients at most the best throughput is looked for, against `langgraph dev`.
BEST = 64
REFERENCE = "langgraph dev"
FILE = ROOT / "docs" / "clients.svg"


class Figures(NamedTuple):
    """What so many clients had in a round: answers a second, and ms until they had one."""

    rate: float
    p50: float
    p99: float


# By server, by the number of clients, of each round.
Found = dict[str, dict[int, list[Figures]]]


def measure(rounds: int, reference: Path | None = None) -> None:
    """Measure, print and draw; a third of the rounds, since there is much to ask.

    Args:
        rounds: how many are asked for.
        reference: a virtual environment with `langgraph dev` in it, to be measured too.
    """
    request, is_right = post("/runs/wait", {"assistant_id": "echo", "input": VALUE}), gives(VALUE)
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(served(each)) for name, each in _COMMANDS.items()}
        if reference is not None:
            servers[REFERENCE] = stack.enter_context(_developing(reference))
        found: Found = {name: {clients: [] for clients in CLIENTS} for name in servers}
        for _ in range(math.ceil(rounds / 3)):
            for clients in CLIENTS:
                for name, server in servers.items():
                    got = load(server.port, request, is_right, clients, seconds=SECONDS)
                    figures = Figures(got.rate, got.p50 * 1000, got.p99 * 1000)
                    found[name][clients].append(figures)
    rates, p99s = _medians(found, "rate"), _medians(found, "p99")
    print(f"{'clients':>8}" + "".join(f"{name:>16}, runs/s  p99, ms" for name in found))
    for clients in CLIENTS:
        each = (f"{rates[name][clients]:>24,.0f}{p99s[name][clients]:>9,.0f}" for name in found)
        print(f"{clients:>8}" + "".join(each))
    if reference is not None:
        _compare(found["Runwait"], found[REFERENCE])
    FILE.write_text(_drawn(rates, p99s))
    print(f"drawn: {FILE.name}")


def _medians(found: Found, figure: str) -> dict[str, dict[int, float]]:
    """A figure by server and number of clients."""
    return {
        name: {
            clients: statistics.median(getattr(each, figure) for each in rounds)
            for clients, rounds in by_clients.items()
        }
        for name, by_clients in found.items()
    }


def _compare(ours: dict[int, list[Figures]], theirs: dict[int, list[Figures]]) -> None:
    """Print how many times as good as `langgraph dev` we are, and what the reach is."""
    p50s = ([figures.p50 for figures in each[CLIENTS[0]]] for each in (theirs, ours))
    best = (
        [
            max(figures.rate for figures in together)
            for together in zip(*(each[count] for count in CLIENTS if count <= BEST), strict=True)
        ]
        for each in (ours, theirs)
    )
    for what, times, reach in (
        ("one client's p50", ratio(*p50s), 300),
        (f"best throughput, 1 to {BEST} clients", ratio(*best), 10),
    ):
        missed = "" if times >= reach else ": missed"
        print(f"{what}: {times:,.1f} times as good as {REFERENCE} (at least {reach}){missed}")


_COMMANDS = {"bare route": BARE, "Runwait": RUNWAIT}


@contextlib.contextmanager
def _developing(environment: Path) -> Iterator[Server]:
    """`langgraph dev` with the same graphs, until the block ends."""
    with tempfile.TemporaryDirectory() as temporary:
        # It writes into the folder that it serves.
        folder = Path(temporary)
        shutil.copy(ROOT / "benchmarks" / "graph.py", folder)
        config = json.loads((ROOT / "benchmarks" / "langgraph.json").read_text())
        config["dependencies"] = ["."]
        (folder / "langgraph.json").write_text(json.dumps(config))
        program = str(environment.resolve() / "bin" / "langgraph")
        options = ("--host", "127.0.0.1", "--port", "{port}", "--no-browser", "--no-reload")
        command = (program, "dev", *options)
        with served(command, folder, LANGGRAPH_CONFIG=None, LANGGRAPH_CLI_NO_ANALYTICS=1) as server:
            yield server


# Of the picture: its size, what is left free around a panel, and colours for white and for black.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 360, 60, 20, 56, 48
COLOURS = {"bare route": "#b0721e", "Runwait": "#2b7de0", REFERENCE: "#8a6fd1"}
GREY = "#848b93"
STYLE = (
    f"text{{font:12px sans-serif;fill:{GREY}}}path,polyline{{fill:none;stroke-width:2}}"
    f".grid{{stroke:{GREY};stroke-width:1;opacity:.3}}"
)


def _drawn(rates: dict[str, dict[int, float]], p99s: dict[str, dict[int, float]]) -> str:
    """The picture, as SVG: a panel for each of the two, with a line a server."""
    most = max(max(each.values()) for each in rates.values())
    step = 10 ** math.floor(math.log10(most)) / 5
    while most / step > 6:
        step *= 2
    slowest = [math.log10(figure) for each in p99s.values() for figure in each.values()]
    lowest, highest = math.floor(min(slowest)), math.floor(max(slowest)) + 1
    elements = [
        *_panel("runs a second", 0, rates, [step * n for n in range(math.ceil(most / step) + 1)]),
        *_panel(
            "99 of 100 answers within, ms",
            WIDTH // 2,
            p99s,
            [10.0**n for n in range(lowest, highest + 1)],
            scale=math.log10,
        ),
    ]
    for number, name in enumerate(rates):
        x = LEFT + number * 130
        elements += [f'<path d="M{x} 14h22" stroke="{COLOURS[name]}"/>']
        elements += [_text(x + 28, 18, name, "start")]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n'
        f"<title>Runs a second and p99: {', '.join(rates)}</title>\n<style>{STYLE}</style>\n"
        + "\n".join(elements)
        + "\n</svg>\n"
    )


def _panel(
    title: str,
    place: int,
    lines: dict[str, dict[int, float]],
    ticks: Sequence[float],
    scale: Callable[[float], float] = float,
) -> Iterator[str]:
    """The elements of one half of the picture, which begins at this place."""
    left, right, bottom = place + LEFT, place + WIDTH // 2 - RIGHT, HEIGHT - BOTTOM
    lowest, highest = scale(ticks[0]), scale(ticks[-1])

    def x(clients: float) -> float:
        share = math.log(clients / CLIENTS[0]) / math.log(CLIENTS[-1] / CLIENTS[0])
        return left + share * (right - left)

    def y(figure: float) -> float:
        return bottom - (scale(figure) - lowest) / (highest - lowest) * (bottom - TOP)

    yield _text(left, TOP - 16, title, "start")
    for tick in ticks:
        yield f'<path d="M{left} {y(tick):.1f}H{right}" class="grid"/>'
        yield _text(left - 8, y(tick) + 4, f"{tick:,g}", "end")
    for clients in CLIENTS:
        yield _text(x(clients), bottom + 18, f"{clients:,}")
    yield _text((left + right) / 2, HEIGHT - 8, "clients at once")
    for name, figures in lines.items():
        points = [f"{x(clients):.1f},{y(figure):.1f}" for clients, figure in figures.items()]
        yield f'<polyline points="{" ".join(points)}" stroke="{COLOURS[name]}"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
