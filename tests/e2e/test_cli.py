"""The commands that ask a server, as a person calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from runwait.cli import main, resources
from tests.e2e.calls import Gate, given_up
from tests.servers import Server, eventually

Called = Callable[..., Result]


@pytest.fixture
def runwait(zoo: Server) -> Called:
    """Calls `runwait`, which asks the zoo."""

    def call(*arguments: str, code: int = 0, **options: Any) -> Result:
        environment = {"RUNWAIT_URL": zoo.url, "RUNWAIT_API_KEY": None}
        done = CliRunner().invoke(main, arguments, env=environment, **options)
        assert done.exit_code == code, done.output
        return done

    return call


def rows(done: Result) -> list[list[str]]:
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.fixture
def mark() -> dict[str, str]:
    """Metadata of nobody else's."""
    return {"cli": str(uuid4())}


@pytest.fixture
def threads(zoo: Server, mark: dict[str, str]) -> list[str]:
    made = [zoo.http.post("/threads", json={"metadata": mark}).json() for _ in range(3)]
    return [each["thread_id"] for each in made]


class TestGraphs:
    def test_are_listed_with_what_they_want(self, runwait: Called) -> None:
        found = {name: others for name, *others in rows(runwait("graphs"))}

        assert found["echo"] == ["graph", "value?", "-", "Returns its value unchanged"]
        assert found["entry"][:2] == ["graph", "array"]
        assert found["chat"][1] == "messages, gate?"
        assert found["context_pydantic"][2] == "user, age?"

    def test_are_shown_with_schemas_and_edges(self, runwait: Called) -> None:
        shown = json.loads(runwait("graphs", "chat").stdout)

        assert shown["assistant"]["graph_id"] == "chat"
        assert shown["schemas"]["input_schema"]["properties"].keys() == {"messages", "gate"}
        assert {"source": "ask", "target": "answer"} in shown["graph"]["edges"]

    def test_one_that_is_not_there_is_said_to_be_none(self, runwait: Called) -> None:
        assert "(422)" in runwait("graphs", "nobody's", code=1).stderr


class TestRuns:
    def test_are_scheduled_listed_shown_and_cancelled(
        self, runwait: Called, threads: list[str]
    ) -> None:
        thread = threads[0]
        given = ("--input", '{"value": 1}', "--thread", thread, "-m", "who=cli", "--json")
        run = json.loads(runwait("schedule", "echo", "--in", "3600", *given).stdout)
        assert (run["thread_id"], run["status"], run["metadata"]["who"]) == (
            thread,
            "pending",
            "cli",
        )

        (row,) = rows(runwait("runs", "list", "--thread", thread))
        assert row[:3] == [thread, run["run_id"], "pending"]
        assert run["run_id"] in [each[1] for each in rows(runwait("runs", "list"))]
        shown = json.loads(runwait("runs", "show", thread, run["run_id"]).stdout)
        assert shown["kwargs"]["input"] == {"value": 1}

        assert runwait("runs", "cancel", thread, run["run_id"]).stdout == "cancelled\n"
        (row,) = rows(runwait("runs", "list", "--thread", thread))
        assert row[2] == "interrupted"

    def test_all_of_a_thread_are_cancelled_once_that_is_sure(
        self, runwait: Called, threads: list[str], tmp_path: Path, zoo: Server
    ) -> None:
        with Gate(tmp_path) as gate:
            given = ("--thread", threads[0], "--input", json.dumps(gate.input))
            ((_, run),) = rows(runwait("schedule", "sleep_sync", *given))
            told = runwait("runs", "cancel", threads[0], "--all", code=1).stderr
            assert "--yes" in told
            runwait("runs", "cancel", threads[0], "--all", "--yes")
            path = f"/threads/{threads[0]}/runs/{run}"
            eventually(lambda: zoo.http.get(path).json()["status"] == "interrupted")

    def test_a_run_alone_gets_its_input_from_a_file_or_standard_input(
        self, runwait: Called, zoo: Server, tmp_path: Path
    ) -> None:
        file = tmp_path / "input.json"
        file.write_text('{"value": "file"}')
        ids = rows(runwait("schedule", "echo", "--keep", "--input", f"@{file}"))
        ids += rows(runwait("schedule", "echo", "--input", "-", input='{"value": "in"}'))
        for (thread, run), value in zip(ids, ["file", "in"], strict=True):
            joined = zoo.http.get(f"/threads/{thread}/runs/{run}/join").json()
            assert joined == {"value": value}
        assert zoo.http.get(f"/threads/{ids[0][0]}").status_code == 200

    @pytest.mark.parametrize(
        "arguments",
        [
            ["runs", "cancel"],
            ["runs", "cancel", "a"],
            ["runs", "cancel", "a", "b", "--all"],
            ["schedule", "echo", "--input", "{"],
            ["schedule", "echo", "--input", "@/nowhere"],
            ["schedule", "echo", "--in", "-1"],
            ["schedule", "echo", "--keep", "--thread", "a"],
            ["schedule", "echo", "-m", "novalue"],
            ["threads", "delete"],
            ["threads", "delete", "a", "--status", "idle"],
            ["webhooks", "retry"],
            ["webhooks", "retry", "a", "--all"],
            ["bury"],
        ],
    )
    def test_a_command_that_is_wrong_says_how_it_must_be(
        self, runwait: Called, arguments: list[str]
    ) -> None:
        assert "Usage: " in runwait(*arguments, code=2).stderr


class TestThreads:
    def test_are_found_by_metadata_shown_and_deleted(
        self, runwait: Called, threads: list[str], mark: dict[str, str]
    ) -> None:
        chosen = ("--metadata", f"cli={mark['cli']}")
        found = rows(runwait("threads", "list", *chosen))
        assert {each[0] for each in found} == {*threads}
        assert json.loads(found[0][4]) == mark
        whole = [
            json.loads(x)
            for x in runwait("threads", "list", *chosen, "--json").stdout.split("\n")[:-1]
        ]
        assert {each["thread_id"] for each in whole} == {*threads}
        assert json.loads(runwait("threads", "show", threads[0]).stdout)["metadata"] == mark

        assert runwait("threads", "delete", threads[0]).stdout == "1 deleted\n"
        assert "Give --yes" in runwait("threads", "delete", *chosen, code=1).stderr
        assert runwait("threads", "delete", *chosen, "--yes").stdout == "2 deleted\n"
        assert rows(runwait("threads", "list", *chosen)) == []
        assert "not found (404)" in runwait("threads", "show", threads[0], code=1).stderr


def test_crons_are_listed_run_and_deleted(runwait: Called, threads: list[str], zoo: Server) -> None:
    body = {"assistant_id": "echo", "schedule": "0 0 1 1 *", "input": {"value": 7}}
    cron = zoo.http.post(f"/threads/{threads[0]}/runs/crons", json=body).json()["cron_id"]
    (row,) = [each for each in rows(runwait("crons", "list", "--limit", "1000")) if each[0] == cron]
    assert (row[1], row[2], row[6]) == ("0 0 1 1 *", "UTC", threads[0])
    assert row[3].endswith("-01-01T00:00:00")

    ((thread, run),) = rows(runwait("crons", "run", cron))
    assert thread == threads[0]
    assert zoo.http.get(f"/threads/{thread}/runs/{run}/join").json() == {"value": 7}
    told = zoo.http.get(f"/threads/{thread}/runs/{run}").json()
    assert told["metadata"]["cron_id"] == cron

    assert runwait("crons", "delete", cron).stdout == "1 deleted\n"
    assert "(404)" in runwait("crons", "delete", cron, code=1).stderr


def test_webhooks_that_were_given_up_are_listed_and_retried(
    runwait: Called, zoo: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [str(uuid4()) for _ in range(3)]
    for each in ids:
        given_up(zoo.valkey, each, "the answer was 500")
    monkeypatch.setattr(resources, "PAGE", 2)

    found = rows(runwait("webhooks", "list"))

    assert {each[0] for each in found} == {*ids}
    assert found[0][2:] == ["4", "http://127.0.0.1:9/x", "the answer was 500"]
    assert runwait("webhooks", "retry", ids[0]).stdout == "1 to be tried again\n"
    assert runwait("webhooks", "retry", "--all").stdout == "2 to be tried again\n"
    assert rows(runwait("webhooks", "list")) == []
    assert "(404)" in runwait("webhooks", "retry", str(uuid4()), code=1).stderr
