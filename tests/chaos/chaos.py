"""`make chaos`: many runs of mixed kinds, while whatever can die does.

Two gunicorn masters share a Redis that keeps what it acknowledges. Workers are killed or paused
for longer than their leases, masters are ended and started, and Redis is restarted twice. Clients
are the Python SDK, and what its user does where it gives up: join the run at the other server if
it was accepted, else send it again. Some read streams, and join them again; some have runs in the
background, alone or in batches. In the end every answer must have come, be that of its own input,
and be the only one that anybody was ever given; every kept thread must be what its runs in their
order make of it; of every stream that can be resumed, everybody must have been told every event
once and in order; each time that a cron was due must have started one run, or be counted as missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.chaos import crons
from tests.chaos.clients import Clients
from tests.chaos.faults import Faults, House
from tests.chaos.plan import draw
from tests.chaos.verdict import Hooks, Verdict, judge
from tests.receiver import Answer, Receiver, status

# The share of the time for answers in which faults strike.
STORMY = 0.6


def hold(
    folder: Path,
    *,
    seed: int,
    runs: int,
    at_once: int,
    seconds: float,
    patience: float,
    lease: float = 2.0,
    webhooks: bool = True,
    calm: bool = False,
) -> Verdict:
    """Have the runs while the faults strike; prints what happened.

    Args:
        folder: for Redis's data and the logs.
        at_once: conversations under way at a time.
        seconds: after these, whatever has no answer is lost.
        patience: seconds that webhooks may take after that.
        lease: seconds after which a process counts as gone.
        calm: strike with nothing, to see what the runs take by themselves.
    """
    rng = random.Random(seed)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        hooks = receiver = None
        if webhooks:
            receiver = Receiver()
            stack.callback(receiver.close)
            hooks = Hooks(receiver.received, set())
        conversations = draw(rng, runs, receiver.url if receiver else None)
        asks = [ask for each in conversations for ask in each.asks]
        if receiver is not None and hooks is not None:
            for ask in asks:
                receiver.by_path[f"/{ask.number}"] = _moody(hooks, fails=rng.random() < 0.2)
        house = stack.enter_context(House(folder, lease))
        clients = Clients([server.url for server in house.servers], rng, time.monotonic() + seconds)
        started = time.monotonic()

        def progress() -> float:
            # Faults that never end could keep the last runs from it for ever.
            gone = (time.monotonic() - started) / (seconds * STORMY)
            return max(clients.ended / runs, gone)

        faults = Faults(house, random.Random(seed), progress)

        async def all_of_it() -> Verdict:
            await crons.begin(clients)
            if not calm:
                faults.start()
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await clients.talk(conversations, at_once)
            finally:
                if not calm:
                    await asyncio.to_thread(faults.stop)
            await crons.end(clients)
            print(f"all asked for after {time.monotonic() - began:.0f} s", flush=True)
            verdict = await judge(conversations, clients, hooks, house.redis.client, patience)
            await crons.judge(clients, verdict)
            if not calm and (not faults.struck["Redis restarted"] or len(faults.struck) < 2):
                verdict.calm = True
                verdict.notes.append("too little was struck for this to show anything")
            await clients.close()
            return verdict

        verdict = asyncio.run(all_of_it())
    kinds = Counter(ask.kind for ask in asks) + Counter(ask.way for ask in asks)
    kinds["with a key"] = sum(ask.key is not None for ask in asks)  # type: ignore[index]
    print(f"seed {seed}: {runs:,} runs in {time.monotonic() - began:.0f} s;", _list(kinds))
    print(_list(faults.struck) or "nothing struck")
    if faults.stuck:
        print(f"{faults.stuck} masters did not end when they were told to")
    print(
        f"{clients.refused} requests refused or broken before they were accepted, "
        f"{clients.joined} runs joined where the SDK could not, "
        f"{clients.repeated} requests repeated, {clients.resumed} streams joined by an event, "
        f"{clients.forgotten} runs forgotten"
    )
    print(verdict, flush=True)
    return verdict


def _moody(hooks: Hooks, *, fails: bool) -> Answer:
    """A receiver that may fail the first time."""
    left = 1 if fails else 0

    def answer(handler: BaseHTTPRequestHandler) -> None:
        nonlocal left
        if left:
            left -= 1
            status(500)(handler)
            return
        status(200)(handler)
        hooks.taken.add(handler.headers["webhook-id"])

    return answer


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))


def main() -> None:
    """What `make chaos` does; exits with 1 unless all is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--at-once", type=int, default=16, help="conversations at a time")
    parser.add_argument("--seconds", type=float, default=420, help="for all answers to come")
    parser.add_argument("--calm", action="store_true", help="without any faults")
    parser.add_argument("--without-webhooks", action="store_true")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    verdict = hold(
        folder,
        seed=options.seed,
        runs=options.runs,
        at_once=options.at_once,
        seconds=options.seconds,
        patience=120,
        webhooks=not options.without_webhooks,
        calm=options.calm,
    )
    if not verdict.good:
        print(*verdict.notes, sep="\n")
        print(f"logs and Redis's data: {folder}")
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
