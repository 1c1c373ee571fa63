"""A record that 0.2 wrote is taken over: all that it holds is finished, joined, delivered, found.

0.2 was killed while it had runs of every kind; takeover/make.py says how the record was made.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.calls import fresh_get, lines
from tests.e2e.takeover.make import CONFIG, RECORD, restore
from tests.receiver import Receiver
from tests.servers import PATIENCE, ROOT, RedisServer, Server, eventually

RECORDED = json.loads(RECORD.read_text())
IDS: dict[str, dict[str, str]] = RECORDED["ids"]


class Taken(Server):
    """The server that has taken over, with what it needs besides."""

    valkey: RedisServer
    receiver: Receiver
    notes: Path
    joined: dict[str, Any]

    def get(self, path: str) -> Any:
        """What a GET that goes well answers."""
        response = fresh_get(self, path)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """The answer to a POST."""
        return httpx.post(self.url + path, json=body, headers=headers, timeout=PATIENCE)

    def join(self, name: str) -> Any:
        """The document of a run, once it has ended; a client that has it is to ask no more."""
        if name not in self.joined:
            path = "/threads/{thread_id}/runs/{run_id}/join".format(**IDS[name])
            self.joined[name] = self.get(path)
        return self.joined[name]

    def run(self, name: str) -> Any:
        """A run as the API shows it."""
        return self.get("/threads/{thread_id}/runs/{run_id}".format(**IDS[name]))

    def state(self, name: str) -> Any:
        """The state of a run's thread."""
        return self.get("/threads/{thread_id}/state".format(**IDS[name]))

    def thread(self, name: str) -> Any:
        """A run's thread."""
        return self.get("/threads/{thread_id}".format(**IDS[name]))

    def wait(self, name: str, **body: Any) -> Any:
        """The document of another run on a run's thread."""
        path = "/threads/{thread_id}/runs/wait".format(**IDS[name])
        response = self.post(path, body)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taken]:
    """The current version, two workers of it, on what 0.2 left."""
    folder = tmp_path_factory.mktemp("taken")
    (folder / "valkey").mkdir()
    valkey = RedisServer(folder / "valkey")
    valkey.start()
    restore(valkey.client, RECORDED["keys"])
    receiver = Receiver()
    notes = folder / "notes"
    server = Taken(
        folder,
        {
            "REDIS_URL": valkey.url,
            "LANGGRAPH_CONFIG": str(CONFIG),
            "RUN_LEASE_SECONDS": "1",
            "WEBHOOK_BASE_URL": receiver.url,
            "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
            "RESULT_TTL_SECONDS": "3600",
            "NOTES": str(notes),
        },
    )
    server.valkey, server.receiver, server.notes, server.joined = valkey, receiver, notes, {}
    server.start()
    yield server
    server.stop()
    receiver.close()
    valkey.stop()


def test_the_record_is_of_0_2() -> None:
    assert RECORDED["made_by"]["version"] == "0.2.0"


def test_a_run_whose_process_died_goes_on_from_its_last_checkpoint(taken: Taken) -> None:
    assert taken.join("died") == {"n": 4, "held": True, "steps": [1, 2, 3, 4]}
    assert taken.run("died")["status"] == "success"


def test_runs_that_waited_for_their_thread_have_it_in_their_order(taken: Taken) -> None:
    assert taken.join("queued") == {"n": 6, "held": True, "steps": [1, 2, 3, 4, 5, 6]}
    assert taken.join("queued last")["steps"] == [1, 2, 3, 4, 5, 6, 7]
    assert taken.state("queued last")["values"]["steps"] == [1, 2, 3, 4, 5, 6, 7]
    assert eventually(lambda: taken.thread("queued last")["status"] == "idle")


def test_a_run_on_a_thread_of_its_own_starts_again(taken: Taken) -> None:
    assert taken.join("died alone") == {"n": 4, "held": True, "steps": [1, 2, 3, 4]}


def test_runs_that_were_scheduled_start_when_they_are_due(taken: Taken) -> None:
    on_thread = taken.join("scheduled on a thread")
    assert on_thread == {"known": ["likes tea"], "who": "carol"}
    assert taken.join("scheduled") == {"n": 1, "steps": [1]}
    assert taken.join("scheduled and kept") == {"n": 3, "steps": [1, 2, 3]}
    assert taken.run("scheduled and kept")["kwargs"]["config"]["tags"] == ["late"]
    assert taken.state("scheduled and kept")["values"]["steps"] == [1, 2, 3]


def test_a_resume_that_was_scheduled_is_given(taken: Taken) -> None:
    assert taken.join("resumes later")["messages"][-1]["content"] == "Yes: 3 EUR, Paris 2026"


def test_no_step_that_was_finished_is_done_again(taken: Taken) -> None:
    expected = {
        "died": [3, 4],
        "queued": [5, 6],
        "queued last": [7],
        "died alone": [1, 2, 3, 4],
        "scheduled": [1],
        "scheduled and kept": [1, 2, 3],
    }
    for name, steps in expected.items():
        taken.join(name)
        noted = [each.split(":") for each in lines(taken.notes)]
        assert [int(step) for run, step in noted if run == IDS[name]["run_id"]] == steps, name


def test_an_interrupt_that_was_kept_is_answered(taken: Taken) -> None:
    thread = taken.thread("asking")
    assert (thread["status"], thread["metadata"]["user"]) == ("interrupted", "ada")
    (interrupts,) = thread["interrupts"].values()
    assert interrupts[0]["value"] == {"question": "Shall I?", "price": 3}
    values = taken.state("asking")["values"]
    assert (values["big"], values["seen"], values["price"]["amount"]) == (2**70, ["tea"], 3)

    answer = taken.wait("asking", assistant_id="asks", command={"resume": "No"})

    assert answer["messages"][-1]["content"] == "No: 3 EUR, Paris 2026"
    assert [each["id"] for each in answer["messages"]] == ["first", "asked", "answer"]


def test_a_breakpoint_that_was_kept_is_passed(taken: Taken) -> None:
    assert taken.state("stopped")["next"] == ["step"]
    assert taken.wait("stopped", assistant_id="steps", input=None)["steps"] == [1, 2]


def test_a_thread_whose_run_failed_goes_on(taken: Taken) -> None:
    thread = taken.thread("failed")
    assert (thread["status"], thread["error"]["message"]) == ("error", "not yet")
    assert taken.join("failed")["__error__"] == {"error": "ValueError", "message": "not yet"}

    assert taken.wait("failed", assistant_id="fails", input=None) == {
        "before": True,
        "mended": True,
    }


def test_a_thread_has_its_history_its_runs_and_goes_on(taken: Taken) -> None:
    path = "/threads/{thread_id}".format(**IDS["finished"])
    history = taken.get(f"{path}/history?limit=100")
    assert [len(each["values"].get("steps", [])) for each in history] == [4, 3, 2, 2, 2, 1, 0, 0]
    runs = taken.get(f"{path}/runs")
    assert [each["metadata"]["n"] for each in runs] == [4, 2]
    assert taken.join("finished")["steps"] == [1, 2, 3, 4]
    copied = taken.post(f"{path}/copy", None).json()["thread_id"]

    assert taken.wait("finished", assistant_id="steps", input={"n": 5})["steps"] == [1, 2, 3, 4, 5]

    assert taken.get(f"/threads/{copied}/state")["values"]["steps"] == [1, 2, 3, 4]


def test_threads_are_found_by_what_they_have(taken: Taken) -> None:
    def found(**query: Any) -> set[str]:
        answer = taken.post("/threads/search", {"limit": 100, **query})
        return {each["metadata"].get("case", "none") for each in answer.json()}

    assert found(metadata={"user": "ada"}) == {"finished", "asking"}
    assert found(metadata={"user": "bob"}) == {"failed", "stopped"}
    assert found(metadata={"case": "busy", "graph_id": "steps"}) == {"busy"}
    assert "resuming" in found(metadata={"graph_id": "asks"})


def test_results_are_joined_and_keys_are_answered(taken: Taken) -> None:
    assert taken.join("kept") == {"n": 1, "steps": [1]}
    body = {"assistant_id": "steps", "input": {"n": 1}}
    again = taken.post("/runs/wait", body, **{"Idempotency-Key": "ended-key"})
    assert (again.json(), again.headers["Idempotency-Replayed"]) == ({"n": 1, "steps": [1]}, "true")
    assert IDS["keyed"]["run_id"] in again.headers["Location"]

    taken.join("died alone")
    body = {"assistant_id": "steps", "input": {"n": 4, "held": True}}
    again = taken.post("/runs/wait", body, **{"Idempotency-Key": "died-key"})
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["steps"] == [1, 2, 3, 4]
    other = taken.post("/runs/wait", {**body, "input": {}}, **{"Idempotency-Key": "died-key"})
    assert other.status_code == 422


def test_webhooks_are_delivered(taken: Taken) -> None:
    def delivered(name: str) -> list[Any]:
        return [each.json for each in taken.receiver.received if each.path == f"/{name}"]

    for name, run in {
        "pending": "pending",
        "scheduled": "scheduled",
        "queued": "queued last",
    }.items():
        (told,) = eventually(lambda name=name: delivered(name))
        assert told["run_id"] == IDS[run]["run_id"]
        assert told["status"] == "success"
    assert delivered("dead") == []

    listed = webhooks(taken, "list")
    assert IDS["dead"]["run_id"] in listed
    assert len(listed.splitlines()) == 1
    webhooks(taken, "retry", IDS["dead"]["run_id"])
    (told,) = eventually(lambda: delivered("dead"))
    assert told["run_id"] == IDS["dead"]["run_id"]


def webhooks(taken: Taken, *arguments: str) -> str:
    """What `runwait webhooks` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "runwait.cli", "webhooks", *arguments],
        cwd=ROOT,
        env={**os.environ, "RUNWAIT_URL": taken.url},
        capture_output=True,
        check=True,
        text=True,
        timeout=PATIENCE,
    )
    return done.stdout


def test_assistants_have_their_versions(taken: Taken) -> None:
    assistant_id = IDS["assistant"]["assistant_id"]
    assistant = taken.get(f"/assistants/{assistant_id}")
    assert (assistant["name"], assistant["version"]) == ("Carol", 2)
    versions = taken.post(f"/assistants/{assistant_id}/versions", {}).json()
    assert [each["context"]["who"] for each in versions] == ["carol", "bob"]
    found = taken.post("/assistants/search", {"metadata": {"team": "red"}}).json()
    assert [each["assistant_id"] for each in found] == [assistant_id]
    answer = taken.post("/runs/wait", {"assistant_id": assistant_id, "input": {"known": []}})
    assert answer.json()["who"] == "carol"


def test_items_of_the_store_are_found(taken: Taken) -> None:
    item = taken.get("/store/items?namespace=shop.prices&key=tea")
    assert item["value"] == {"cents": 300, "é": None}
    found = taken.post("/store/items/search", {"namespace_prefix": ["people"]}).json()
    assert [each["value"] for each in found["items"]] == [{"text": "likes tea"}]
    names = taken.post("/store/namespaces", {}).json()
    assert {tuple(each) for each in names["namespaces"]} >= {("people", "ada"), ("shop", "prices")}
