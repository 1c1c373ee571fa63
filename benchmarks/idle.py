"""What a master and two workers cost that have nothing to do: CPU, and commands to Redis."""

from __future__ import annotations

import time

import redis

from benchmarks.servers import Server, cpu, served

SECONDS = 30.0
# What the runs that warmed the server leave to be done is done by then: beats come every 5 s.
SETTLING = 11.0


def measure(rounds: int) -> None:
    """Measure once, however many rounds are asked for, and print."""
    with served() as server, redis.Redis.from_url(server.redis_url) as client:
        used, sent, inner = idle(server, client)
    print(f"{'idle for 30 s':24}{'of a core':>10}   reach")
    for name, share in used.items():
        print(f"{name:24}{share:>10.2%}")
    ours = used["master"] + used["two workers"]
    print(f"{'master and workers':24}{ours:>10.2%}   under 0.5%")
    print(f"{'Redis commands a minute':24}{sent:>10.0f}   and {inner:.0f} inside scripts")


def idle(server: Server, client: redis.Redis) -> tuple[dict[str, float], float, float]:
    """What a server uses while it has nothing to do.

    Returns:
        Of a core: the master, its two workers, and Valkey; and how many commands Redis is sent a
        minute, and how many more its scripts have.
    """
    (master, *_), workers = server.processes(), server.workers()
    if len(workers) != 2:
        raise RuntimeError(f"{len(workers)} workers, not 2")
    valkey = [each for each in server.processes() if "valkey" in each.name()]
    groups = {"master": [master], "two workers": workers, "Valkey": valkey}
    time.sleep(SETTLING)
    calls, before = _calls(client), {name: cpu(each) for name, each in groups.items()}
    time.sleep(SECONDS)
    used = {name: (cpu(each) - before[name]) / SECONDS for name, each in groups.items()}
    minute = {
        name: (count - calls.get(name, 0)) * 60 / SECONDS
        for name, count in _calls(client).items()
        if count > calls.get(name, 0) and name != "info"
    }
    sent = sum(minute.pop(name, 0) for name in ("evalsha", "ping"))
    return used, sent, sum(minute.values())


def _calls(client: redis.Redis) -> dict[str, int]:
    """How often each command was called, by clients and by their scripts."""
    stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
