"""Crons, while whatever can die does: each time that one was due has started one run.

Two are due every other second, on threads of their own runs that are kept, whose ids begin with the
time that the run is for.
"""

from __future__ import annotations

from uuid import UUID

from tests.chaos.clients import Clients
from tests.chaos.verdict import Verdict

SCHEDULES = ("* * * * * */2", "* * * * * 1/2")
PERIOD_SECONDS = 2
GRAPH = "quick_async"


async def begin(clients: Clients) -> None:
    """Make them. One whose answer is lost may be there twice, which is as well."""
    for number, schedule in enumerate(SCHEDULES):
        asked = {"ticket": f"cron-{number}", "seconds": 0.2 * number}
        await clients.call(
            lambda c, schedule=schedule, asked=asked: c.crons.create(
                GRAPH, schedule=schedule, input=asked, on_run_completed="keep"
            )
        )


async def end(clients: Clients) -> None:
    """Have them start no more."""
    for cron in await clients.call(lambda c: c.crons.search(limit=100)):
        cron_id = cron["cron_id"]
        await clients.call(lambda c, cron_id=cron_id: c.crons.update(cron_id, enabled=False))


async def judge(clients: Clients, verdict: Verdict) -> None:
    """Look at what they started, once no run is under way."""
    crons = await clients.call(lambda c: c.crons.search(limit=100))
    verdict.crons = len(crons)
    for cron in crons:
        wanted = {"cron_id": cron["cron_id"]}
        threads = await clients.call(
            lambda c, wanted=wanted: c.threads.search(metadata=wanted, limit=1000)
        )
        times = [(UUID(each["thread_id"]).int >> 80) // 1000 for each in threads]
        due = (max(times) - min(times)) // PERIOD_SECONDS + 1 if times else -1
        problems = []
        if len(times) + cron["missed_runs"] != due or len(set(times)) != len(times):
            problems.append(
                f"{len(times)} threads, {len(set(times))} times, {cron['missed_runs']} missed "
                f"of {due}"
            )
        answer = f"to {cron['payload']['input']['ticket']}"
        for thread in threads:
            thread_id = thread["thread_id"]
            runs = await clients.call(lambda c, thread_id=thread_id: c.runs.list(thread_id))
            if [each["status"] for each in runs] != ["success"]:
                problems.append(f"thread {thread_id} has runs {runs}")
            elif thread["values"]["answer"] != answer:
                problems.append(f"thread {thread_id} has {thread['values']}")
        verdict.cron_times += max(due, 0)
        verdict.notes += [f"cron {cron['cron_id']}: {each}" for each in problems]
        verdict.crons_right += not problems
