"""`make bench`: all measurements; `python -m benchmarks bare steps`: those that are named."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import (
    background,
    bare,
    crons,
    crowd,
    idle,
    lateness,
    picture,
    schedule,
    search,
    steps,
    store,
    stream,
)

SECTIONS = {
    "bare": bare,
    "stream": stream,
    "background": background,
    "steps": steps,
    "search": search,
    "store": store,
    "schedule": schedule,
    "lateness": lateness,
    "crons": crons,
    "idle": idle,
    "crowd": crowd,
    "picture": picture,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=9, help="of what is measured in turns")
    parser.add_argument(
        "--against", type=Path, help="a checkout of an earlier version, for the section bare"
    )
    parser.add_argument(
        "--only", default="", help="rows of the section bare with this in their names"
    )
    parser.add_argument(
        "--reference", type=Path, help="an environment with langgraph dev, for the section picture"
    )
    options = parser.parse_args()
    if unknown := set(options.sections) - SECTIONS.keys():
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    for name in options.sections or SECTIONS:
        print(f"\n{name}", flush=True)
        if name == "bare":
            bare.measure(options.rounds, options.against, options.only)
        elif name == "picture":
            picture.measure(options.rounds, options.reference)
        else:
            SECTIONS[name].measure(options.rounds)


if __name__ == "__main__":
    main()
