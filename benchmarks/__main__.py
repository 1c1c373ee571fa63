"""`make bench`: all measurements; `python -m benchmarks kept steps`: those that are named."""

from __future__ import annotations

import argparse

from benchmarks import idle, kept, lateness, schedule, search, steps, wait

SECTIONS = {
    "wait": wait,
    "kept": kept,
    "steps": steps,
    "search": search,
    "schedule": schedule,
    "lateness": lateness,
    "idle": idle,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=7, help="of what is measured in turns")
    options = parser.parse_args()
    if unknown := set(options.sections) - SECTIONS.keys():
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    for name in options.sections or SECTIONS:
        print(f"\n{name}", flush=True)
        SECTIONS[name].measure(options.rounds)


if __name__ == "__main__":
    main()
