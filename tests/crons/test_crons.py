"""Crons as clients change them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from runwait.crons.crons import Crons, at, due_of, ids_of, milliseconds, request_of
from runwait.graphs.assistants import Assistant
from runwait.runs.admission import UnfitRequest
from runwait.runs.request import RunRequest
from runwait.storage.connection import Storage
from runwait.storage.crons import CronRecord, CronRecords
from runwait.storage.records import RunRecords
from tests.servers import RedisServer

LONG_AGO = 1000


class Admits:
    """Takes the place of admission: finds every request right, unless it is told not to."""

    def __init__(self) -> None:
        self.asked: list[RunRequest] = []
        self.error: Exception | None = None

    def check_request(self, request: RunRequest) -> tuple[RunRequest, Assistant]:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        return request, Assistant.of_graph("g")


class World:
    def __init__(self, server: RedisServer) -> None:
        storage = Storage(server.url, 1)
        storage.start()
        self.server = server
        self.admits = Admits()
        self.records = CronRecords(storage, "test", RunRecords(storage, "test", "one", 300))
        self.crons = Crons(self.records, self.admits)  # type: ignore[arg-type]

    def create(self, **given: Any) -> str:
        fields: dict[str, Any] = {"assistant_id": "g", "schedule": "@yearly", "payload": {}}
        cron_id: str = self.crons.create(**fields | given)["cron_id"]
        return cron_id

    def next(self, cron_id: str) -> int | None:
        return self.records.get(cron_id).next

    def be_due_since(self, cron_id: str, ms: int) -> None:
        self.server.client.hset(f"{{test}}:cron:{cron_id}", "next", ms)
        self.server.client.zadd("{test}:crons:due", {cron_id: ms})

    @property
    def new_year(self) -> int:
        """The next one."""
        return milliseconds(datetime(at(self.records.now()).year + 1, 1, 1, tzinfo=UTC))


@pytest.fixture
def world(shared_valkey: RedisServer) -> World:
    return World(shared_valkey)


def test_a_new_one_is_due_after_now(world):
    assert world.next(world.create()) == world.new_year
    assert world.next(world.create(enabled=False)) is None
    assert world.next(world.create(end_time=LONG_AGO)) is None
    assert world.next(world.create(end_time=world.new_year)) == world.new_year


def test_its_runs_are_asked_what_was_sent(world):
    world.create(
        payload={"input": 1, "stream_mode": "updates"},
        metadata={"a": 1},
        on_run_completed="keep",
        user={"identity": "ada"},
    )
    (asked,) = world.admits.asked
    assert (asked.input, asked.stream_mode, asked.kept) == (1, ["updates"], True)
    assert asked.metadata == {"a": 1, "cron_id": asked.cron_id}
    assert asked.user == {"identity": "ada"}


def test_enabling_counts_from_now(world):
    cron_id = world.create()
    world.be_due_since(cron_id, LONG_AGO)
    assert world.crons.patch(cron_id, payload={}, enabled=False)["next_run_date"] is None
    world.crons.patch(cron_id, payload={}, enabled=True)
    assert world.next(cron_id) == world.new_year


@pytest.mark.parametrize("changed", [{"schedule": "0 0 1 1 *"}, {"timezone": "Africa/Abidjan"}])
def test_a_new_schedule_or_timezone_counts_from_now(world, changed):
    cron_id = world.create()
    world.be_due_since(cron_id, LONG_AGO)
    world.crons.patch(cron_id, payload={}, **changed)
    assert world.next(cron_id) == world.new_year


def test_what_is_due_stays_so_where_nothing_is_said_of_it(world):
    cron_id = world.create(metadata={"a": 1, "b": 1}, payload={"input": 1, "durability": "sync"})
    world.be_due_since(cron_id, LONG_AGO)
    world.crons.patch(
        cron_id,
        payload={"input": 2},
        metadata={"b": 2},
        schedule="@yearly",
        enabled=True,
        end_time=world.new_year,
    )
    found = world.records.get(cron_id)
    assert found.next == LONG_AGO
    assert found.metadata == {"a": 1, "b": 2}
    assert found.payload == {"input": 2, "durability": "sync"}


def test_an_end_that_is_moved_on_has_it_due_again(world):
    cron_id = world.create()
    for end, expected in ((LONG_AGO, None), (world.new_year + 1, world.new_year)):
        world.crons.patch(cron_id, payload={}, end_time=end)
        assert world.next(cron_id) == expected
    world.crons.patch(cron_id, payload={}, end_time=LONG_AGO)
    assert world.crons.patch(cron_id, payload={}, end_time=None)["end_time"] is None
    assert world.next(cron_id) == world.new_year


def test_a_change_that_its_runs_could_not_be_is_not_made(world):
    cron_id = world.create()
    before = world.crons.get(cron_id)
    world.admits.error = UnfitRequest("context: is wrong")
    with pytest.raises(UnfitRequest):
        world.crons.patch(cron_id, payload={"context": {"x": 1}})
    assert world.crons.get(cron_id) == before


def test_a_change_is_made_of_what_others_changed_meanwhile(world):
    cron_id = world.create()
    check = world.admits.check_request

    def others_come_between(request: RunRequest) -> tuple[RunRequest, Assistant]:
        world.admits.check_request = check
        world.crons.patch(cron_id, payload={"input": 1})
        return check(request)

    world.admits.check_request = others_come_between
    world.crons.patch(cron_id, payload={}, metadata={"a": 1})
    found = world.records.get(cron_id)
    assert (found.payload, found.metadata) == ({"input": 1}, {"a": 1})


def test_ids_are_made_of_the_cron_and_the_time():
    crons = [
        CronRecord(cron_id=str(UUID(int=n)), assistant_id="", graph_id="", schedule="")
        for n in range(2)
    ]
    ids = {each for cron in crons for ms in (0, 1_800_000_000_123) for each in ids_of(cron, ms)}
    assert len(ids) == 8
    assert {UUID(each).version for each in ids} == {7}
    assert {UUID(each).variant for each in ids} == {"specified in RFC 4122"}
    assert {due_of(each) for each in ids} == {0, 1_800_000_000_123}
    assert ids_of(crons[0], 5) == ids_of(crons[0], 5)


def test_the_headers_of_its_maker_are_its_runs_and_a_change_leaves_them(world):
    cron_id = world.create(headers={"x-user-id": "lovelace"})
    world.crons.patch(cron_id, payload={"input": {"x": 1}})
    cron = world.records.get(cron_id)
    assert request_of(cron).headers == {"x-user-id": "lovelace"}
    assert "lovelace" not in str(cron.public())
