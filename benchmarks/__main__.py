"""`make bench`: all measurements; `python -m benchmarks kept steps`: those that are named."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import (
    background,
    crons,
    crowd,
    idle,
    kept,
    lateness,
    schedule,
    search,
    steps,
    store,
    stream,
    wait,
)

SECTIONS = {
    "wait": wait,
    "stream": stream,
    "background": background,
    "kept": kept,
    "steps": steps,
    "search": search,
    "store": store,
    "schedule": schedule,
    "lateness": lateness,
    "crons": crons,
    "idle": idle,
    "crowd": crowd,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=7, help="of what is measured in turns")
    parser.add_argument(
        "--against", type=Path, help="a checkout of an earlier version, for the section wait"
    )
    options = parser.parse_args()
    if unknown := set(options.sections) - SECTIONS.keys():
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    for name in options.sections or SECTIONS:
        print(f"\n{name}", flush=True)
        if name == "wait":
            wait.measure(options.rounds, options.against)
        else:
            SECTIONS[name].measure(options.rounds)


if __name__ == "__main__":
    main()
