"""Crons, across real processes that also die."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError

from tests.e2e.calls import Sdk, detail, fresh_get, patiently, pause, resume
from tests.receiver import Receiver
from tests.servers import PATIENCE, PROJECTS, RedisServer, Server, eventually

ZOO = PROJECTS / "zoo" / "langgraph.json"
DAY = 86_400_000
NEVER = "0 0 1 1 *"
EVERY_SECOND = "* * * * * *"


@pytest.fixture(params=["sync", "async"])
def sdk(request: pytest.FixtureRequest, zoo: Server) -> Sdk:
    return Sdk(zoo.url, request.param)


@contextlib.contextmanager
def cron(server: Server, assistant_id: str, path: str = "", **fields: Any) -> Iterator[str]:
    """The id of a cron that is there for a while."""
    body = {"assistant_id": assistant_id, "schedule": NEVER, **fields}
    made = httpx.post(f"{server.url}{path}/runs/crons", json=body, timeout=PATIENCE)
    assert made.status_code == 200, made.text
    cron_id: str = made.json()["cron_id"]
    try:
        yield cron_id
    finally:
        patiently(lambda: httpx.delete(f"{server.url}/runs/crons/{cron_id}", timeout=PATIENCE))


def get(server: Server, cron_id: str) -> dict[str, Any]:
    answer = patiently(lambda: fresh_get(server, f"/runs/crons/{cron_id}"))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def come_due(valkey: RedisServer, cron_id: str, ago: int = 0) -> None:
    """As if a cron had been due so many ms ago, or at once."""
    seconds, microseconds = valkey.client.time()
    due = seconds * 1000 + microseconds // 1000 - ago
    valkey.client.hset(f"{{runwait}}:cron:{cron_id}", "next", due)
    valkey.client.zadd("{runwait}:crons:due", {cron_id: due})
    valkey.client.publish("{runwait}:told:all", "cron")


def threads_of(server: Server, cron_id: str) -> list[dict[str, Any]]:
    """The kept threads of a cron's runs, the first one first."""
    query = {"metadata": {"cron_id": cron_id}, "limit": 1000, "sort_order": "asc"}
    url = f"{server.url}/threads/search"
    found: list[dict[str, Any]] = patiently(
        lambda: httpx.post(url, json=query, timeout=PATIENCE)
    ).json()
    return found


def runs_on(server: Server, thread_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = patiently(
        lambda: fresh_get(server, f"/threads/{thread_id}/runs?limit=100")
    ).json()
    return found


def test_the_sdk_makes_finds_changes_and_deletes_crons(sdk: Sdk) -> None:
    mark = {"mark": str(uuid4())}
    end = datetime(2100, 1, 1, tzinfo=UTC)
    made = sdk(
        "crons.create",
        "echo",
        schedule="30 2 * * *",
        timezone="Europe/Berlin",
        input={"value": 1},
        metadata=mark,
        end_time=end,
        on_run_completed="keep",
        stream_mode="updates",
    )
    due = datetime.fromisoformat(made["next_run_date"])
    assert timedelta(0) < due - datetime.now(UTC) <= timedelta(hours=25)
    assert due.minute == 30
    assert datetime.fromisoformat(made["end_time"]) == end
    assert made["payload"]["input"] == {"value": 1}
    assert (made["thread_id"], made["user_id"], made["missed_runs"]) == (None, None, 0)
    try:
        assert sdk("crons.search", metadata=mark) == [made]
        assert sdk("crons.search", metadata=mark, enabled=False) == []
        assert sdk("crons.count", assistant_id=made["assistant_id"], metadata=mark) == 1
        names = ["cron_id", "schedule"]
        (found,) = sdk("crons.search", metadata=mark, select=names, sort_by="end_time")
        assert found == {name: made[name] for name in names}

        changed = sdk("crons.update", made["cron_id"], schedule="@yearly", metadata={"n": 1})
        assert (changed["schedule"], changed["metadata"]) == ("@yearly", mark | {"n": 1})
        assert changed["next_run_date"] != made["next_run_date"]
        assert changed["end_time"] == made["end_time"]
        assert sdk("crons.update", made["cron_id"], end_time=None)["end_time"] is None

        stopped = sdk("crons.update", made["cron_id"], enabled=False)
        assert (stopped["enabled"], stopped["next_run_date"]) == (False, None)
        going = sdk("crons.update", made["cron_id"], enabled=True)
        assert going["next_run_date"] == changed["next_run_date"]
        over = sdk("crons.update", made["cron_id"], end_time=datetime(2020, 1, 1, tzinfo=UTC))
        assert over["next_run_date"] is None
    finally:
        sdk("crons.delete", made["cron_id"])
    assert sdk("crons.count", metadata=mark) == 0
    with pytest.raises(NotFoundError):
        sdk("crons.delete", made["cron_id"])


def test_what_its_runs_could_never_be_is_refused(zoo: Server) -> None:
    body = {"assistant_id": "echo", "schedule": NEVER}
    refused = [
        ({"assistant_id": "nothing"}, 422, "assistant_id"),
        ({"assistant_id": str(uuid4())}, 404, "assistant"),
        ({"interrupt_before": ["nowhere"]}, 422, "interrupt_before"),
        ({"webhook": "http://127.0.0.1/"}, 422, "webhook"),
        ({"context": {"a": 1}, "config": {"configurable": {"a": 1}}}, 400, "configurable"),
        ({"command": {"resume": 1}}, 400, "command.resume"),
        ({"assistant_id": "context_pydantic", "context": {"age": "x"}}, 422, "context"),
    ]
    for fields, status, names in refused:
        answer = zoo.http.post("/runs/crons", json={**body, **fields})
        assert detail(answer, status).startswith(names)
    answer = zoo.http.post(f"/threads/{uuid4()}/runs/crons", json=body)
    assert detail(answer, 404).startswith("thread")
    with cron(zoo, "echo") as cron_id:
        change = {"interrupt_after": ["nowhere"]}
        answer = zoo.http.patch(f"/runs/crons/{cron_id}", json=change)
        assert detail(answer, 422).startswith("interrupt_after")
        assert "interrupt_after" not in get(zoo, cron_id)["payload"]
    with pytest.raises(UnprocessableEntityError):
        Sdk(zoo.url, "sync")("crons.create", "echo", schedule="0 0 31 2 *")


def test_runs_start_by_the_clock_and_know_their_cron(zoo: Server) -> None:
    fields = {
        "schedule": EVERY_SECOND,
        "on_run_completed": "keep",
        "input": {},
        "metadata": {"colour": "red"},
        "context": {"who": "ada"},
    }
    with cron(zoo, "who", **fields) as cron_id:
        first = get(zoo, cron_id)
        found = eventually(
            lambda: [each for each in threads_of(zoo, cron_id) if each["status"] == "idle"]
        )
    seen = found[0]["values"]["seen"]
    assert seen["configurable"]["cron_id"] == seen["metadata"]["cron_id"] == cron_id
    assert seen["context"] == {"who": "ada"}
    assert found[0]["metadata"]["colour"] == "red"
    (run,) = runs_on(zoo, found[0]["thread_id"])
    assert (run["metadata"]["colour"], run["metadata"]["cron_id"]) == ("red", cron_id)
    created = datetime.fromisoformat(run["created_at"])
    assert created >= datetime.fromisoformat(first["created_at"])
    assert created.replace(microsecond=0) >= datetime.fromisoformat(first["next_run_date"])


def test_a_run_leaves_no_thread_unless_it_is_to_be_kept_and_its_webhook_is_told(
    serve: Any, valkey: RedisServer
) -> None:
    server = serve(LANGGRAPH_CONFIG=ZOO, REDIS_URL=valkey.url, WEBHOOK_ALLOWED_HOSTS="127.0.0.1")
    with (
        contextlib.closing(Receiver()) as receiver,
        cron(server, "echo", webhook=receiver.url, input={"value": 1}) as cron_id,
    ):
        come_due(valkey, cron_id)
        told = eventually(lambda: receiver.received)[0].json
    assert told["metadata"]["cron_id"] == cron_id
    assert told["status"] == "success"
    assert threads_of(server, cron_id) == []


def test_on_a_busy_thread_at_most_one_run_of_a_cron_waits(zoo: Server, gate: Any) -> None:
    thread = zoo.http.post("/threads", json={}).json()["thread_id"]
    with cron(zoo, "sleep_async", f"/threads/{thread}", input=gate.input) as cron_id:
        for number in range(1, 5):
            come_due(zoo.valkey, cron_id)
            eventually(
                lambda number=number: (
                    len(runs_on(zoo, thread)) + get(zoo, cron_id)["missed_runs"] == number
                )
            )
        assert len(runs_on(zoo, thread)) == 2
        assert get(zoo, cron_id)["on_run_completed"] is None
        gate.open()
        eventually(lambda: {each["status"] for each in runs_on(zoo, thread)} == {"success"})
        zoo.http.delete(f"/threads/{thread}")
        assert fresh_get(zoo, f"/runs/crons/{cron_id}").status_code == 404


def test_crons_go_with_their_assistant(zoo: Server) -> None:
    mine = zoo.http.post("/assistants", json={"graph_id": "echo"}).json()["assistant_id"]
    with cron(zoo, mine) as cron_id:
        assert zoo.http.delete(f"/assistants/{mine}").status_code == 204
        assert fresh_get(zoo, f"/runs/crons/{cron_id}").status_code == 404


def test_after_a_downtime_the_latest_missed_run_starts_once(
    serve: Any, valkey: RedisServer
) -> None:
    settings = {"LANGGRAPH_CONFIG": ZOO, "REDIS_URL": valkey.url}
    idle = serve(CRON_ENABLED="false", **settings)
    assert fresh_get(idle, "/info").json()["flags"]["crons"] is False
    body = {"schedule": "@daily", "on_run_completed": "keep"}
    with cron(idle, "echo", **body) as cron_id:
        seconds, _ = valkey.client.time()
        since_midnight = seconds % 86_400 * 1000
        come_due(valkey, cron_id, 3 * DAY + since_midnight)
        idle.stop()
        server = serve(**settings)
        eventually(lambda: get(server, cron_id)["missed_runs"] == 3)
        (thread,) = threads_of(server, cron_id)
        assert len(runs_on(server, thread["thread_id"])) == 1
        due = datetime.fromisoformat(get(server, cron_id)["next_run_date"])
        assert timedelta(0) < due - datetime.now(UTC) <= timedelta(days=1)
        patch = httpx.patch(
            f"{server.url}/runs/crons/{cron_id}", json={"enabled": False}, timeout=PATIENCE
        )
        assert patch.status_code == 200
        # What idle would do at the end of the `with`.
        idle.url = server.url


def test_each_time_starts_one_run_whatever_dies_is_paused_or_restarts(
    serve: Any, valkey: RedisServer
) -> None:
    server = serve(LANGGRAPH_CONFIG=ZOO, REDIS_URL=valkey.url, RUN_LEASE_SECONDS="2")
    body = {"schedule": EVERY_SECOND, "on_run_completed": "keep", "input": {"value": 1}}

    def times() -> list[int]:
        """The seconds for which there is a thread: its id begins with the time."""
        found = threads_of(server, cron_id)
        return [(UUID(each["thread_id"]).int >> 80) // 1000 for each in found]

    def more(number: int = 2) -> None:
        before = len(times())
        eventually(lambda: len(times()) >= before + number)

    with cron(server, "echo", **body) as cron_id:
        more()
        first, second = server.workers()
        os.kill(first, signal.SIGKILL)
        more()
        pause(second)
        more()
        resume(second)
        os.kill(second, signal.SIGKILL)
        more()
        for each in server.workers():
            pause(each)
        valkey.kill()
        valkey.start()
        for each in server.workers():
            resume(each)
        more()
        url = f"{server.url}/runs/crons/{cron_id}"
        patiently(lambda: httpx.patch(url, json={"enabled": False}, timeout=PATIENCE))
        missed = get(server, cron_id)["missed_runs"]
        found = times()
        assert len(found) == len(set(found))
        assert len(found) + missed == max(found) - min(found) + 1
        for each in threads_of(server, cron_id):
            assert len(runs_on(server, each["thread_id"])) == 1
        eventually(lambda: {each["status"] for each in threads_of(server, cron_id)} == {"idle"})
