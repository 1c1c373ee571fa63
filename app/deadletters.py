"""Lists webhooks that were given up, and has them tried again.

    python -m app.deadletters [list]          one line each, the last one first: run id, when it was
                                              given up, attempts, URL, why the last one failed
    python -m app.deadletters retry <run id>  has this one tried again, from now on for as long as a
                                              new one
    python -m app.deadletters retry --all     has all of them tried again

It takes REDIS_URL, REDIS_PREFIX and DATA_DIR from the environment, as the server does. The server
need not be running, unless it is the one that runs Redis. The exit code is 0, or 1 with a line that
says why.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence

from app.storage.connection import Storage, StorageUnavailable, StorageUnsuitable
from app.storage.outbox import DeadLetter, Outbox
from config.settings import Settings, SettingsError

# How many are read at a time.
PAGE = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m app.deadletters", description="Webhooks that were given up."
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="one line each, the last one first (the default)")
    retry = commands.add_parser("retry", help="have one, or all, tried again")
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("run_id", nargs="?", help="the run whose webhook it is")
    which.add_argument("--all", action="store_true", help="every one of them")
    given = parser.parse_args(arguments)
    try:
        settings = Settings.from_env()
        storage = Storage(settings.storage_url, 1)
        storage.start()
        outbox = Outbox(storage, settings.redis_prefix)
        if given.command != "retry":
            for letter in _all(outbox):
                print(_line(letter))
        elif given.all:
            retried = [outbox.retry(each.run_id) for each in list(_all(outbox))]
            print(f"{sum(retried)} to be tried again")
        elif outbox.retry(given.run_id):
            print("1 to be tried again")
        else:
            print(f"no webhook of run {given.run_id} is to be delivered", file=sys.stderr)
            return 1
    except (SettingsError, StorageUnavailable, StorageUnsuitable) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _all(outbox: Outbox) -> Iterator[DeadLetter]:
    offset = 0
    while page := outbox.dead(PAGE, offset):
        yield from page
        offset += PAGE


def _line(letter: DeadLetter) -> str:
    died = letter.died.isoformat(timespec="seconds")
    return f"{letter.run_id}  {died}  {letter.attempts} attempts  {letter.url}  {letter.error}"


if __name__ == "__main__":
    # What the server logs of Redis is about runs; here an error is one line.
    logging.disable()
    sys.exit(main())
