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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.load import gives, post, rush
from benchmarks.servers import BARE, ROOT, RUNWAIT, VALUE, Server, ratio, served

CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
# For how many seconds they ask, for each number of clients and each round.
SECONDS = 3.0
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
                    got = rush(server.port, request, is_right, clients, SECONDS)
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


# The picture. Colours that can be read on white and on black.
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, BETWEEN = 960, 360, 60, 56, 48, 80
COLOURS = {"bare route": "#b0721e", "Runwait": "#2b7de0", REFERENCE: "#8a6fd1"}
GREY = "#848b93"


@dataclass(frozen=True)
class _Panel:
    """One of the two.

    Attributes:
        title: what it shows.
        left, right: where its axis begins and ends.
        ticks: figures beside it, from the lowest to the highest that is drawn.
        is_log: whether each tick is as far from the one before.
    """

    title: str
    left: float
    right: float
    ticks: Sequence[float]
    is_log: bool

    def x(self, clients: float) -> float:
        share = math.log(clients / CLIENTS[0]) / math.log(CLIENTS[-1] / CLIENTS[0])
        return self.left + share * (self.right - self.left)

    def y(self, figure: float) -> float:
        lowest, highest = self.ticks[0], self.ticks[-1]
        if self.is_log:
            share = math.log(figure / lowest) / math.log(highest / lowest)
        else:
            share = (figure - lowest) / (highest - lowest)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    def drawn(self, lines: dict[str, dict[int, float]]) -> Iterator[str]:
        """Its elements; of each line, the figures by the number of clients."""
        yield _text(self.left, TOP - 16, self.title, "start")
        for tick in self.ticks:
            y = self.y(tick)
            yield f'<path d="M{self.left:.0f} {y:.1f}H{self.right:.0f}" class="grid"/>'
            yield _text(self.left - 8, y + 4, f"{tick:,g}", "end")
        for clients in CLIENTS:
            yield _text(self.x(clients), HEIGHT - BOTTOM + 18, f"{clients:,}")
        yield _text((self.left + self.right) / 2, HEIGHT - 8, "clients at once")
        for name, figures in lines.items():
            points = [(self.x(clients), self.y(figure)) for clients, figure in figures.items()]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            yield f'<polyline points="{path}" stroke="{COLOURS[name]}"/>'
            for x, y in points:
                yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[name]}"/>'


def _drawn(rates: dict[str, dict[int, float]], p99s: dict[str, dict[int, float]]) -> str:
    """The picture, as SVG."""
    most = max(max(each.values()) for each in rates.values())
    step = 10 ** math.floor(math.log10(most)) / 5
    while most / step > 6:
        step *= 2
    slowest = [figure for each in p99s.values() for figure in each.values()]
    lowest, highest = math.floor(math.log10(min(slowest))), math.floor(math.log10(max(slowest))) + 1
    middle = (WIDTH + LEFT) / 2
    panels = (
        _Panel(
            "runs a second",
            LEFT,
            middle - BETWEEN / 2,
            [step * n for n in range(math.ceil(most / step) + 1)],
            False,
        ),
        _Panel(
            "99 of 100 answers within, ms",
            middle + BETWEEN / 2,
            WIDTH - 20,
            [10.0**n for n in range(lowest, highest + 1)],
            True,
        ),
    )
    elements = [*panels[0].drawn(rates), *panels[1].drawn(p99s)]
    for number, name in enumerate(rates):
        x = LEFT + number * 130
        elements.append(f'<path d="M{x} 14h22" stroke="{COLOURS[name]}"/>')
        elements.append(_text(x + 28, 18, name, "start"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n'
        f"<title>{' and '.join(panel.title for panel in panels)}: {', '.join(rates)}</title>\n"
        f"<style>text{{font:12px sans-serif;fill:{GREY}}}path,polyline{{fill:none;stroke-width:2}}"
        f".grid{{stroke:{GREY};stroke-width:1;opacity:.3}}</style>\n"
        + "\n".join(elements)
        + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
