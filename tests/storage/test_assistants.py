"""Assistants in Redis: what the scripts promise, on real servers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from runwait.graphs.assistants import Assistant
from runwait.storage import assistants
from runwait.storage.assistants import AssistantQuery, AssistantRecords, VersionNotFound
from runwait.storage.connection import Storage
from tests.servers import RedisServer


class Twice(Storage):
    """Sends each call again, as if the first answer had been lost."""

    def call(self, *call: Any) -> Any:
        first = super().call(*call)
        again = super().call(*call)
        assert again == first
        return again


@pytest.fixture(params=[Storage, Twice], ids=["once", "twice"])
def records(request: pytest.FixtureRequest, redis_server: RedisServer) -> AssistantRecords:
    storage = request.param(redis_server.url, 1)
    storage.start()
    return AssistantRecords(storage, "test")


def an_id(number: int) -> str:
    return str(UUID(int=number))


def an_assistant(number: int = 1, graph_id: str = "echo", **given: Any) -> Assistant:
    return Assistant(an_id(number), graph_id, **{"metadata": {}, "name": "A", **given})


def numbers(found: list[Assistant]) -> list[int]:
    return [UUID(each.assistant_id).int for each in found]


def find(records: AssistantRecords, **query: Any) -> list[int]:
    total, found = records.search(AssistantQuery(**query), 0, 100)
    assert total == len(found)
    assert records.search(AssistantQuery(**query), 0, 0) == (total, [])
    return numbers(found)


class TestCreating:
    def test_what_was_made_is_read(self, records: AssistantRecords) -> None:
        given = {
            "config": {"tags": ["t"], "configurable": {"empty": [], "none": {}}},
            "context": {"big": 10**30, "half": 0.5, "nul": "\0", "e": "é😀"},
            "metadata": {"a": {"b": [1, None, True]}},
            "name": "Ä",
            "description": "d",
        }
        made, is_new = records.create(an_assistant(**given))
        assert is_new
        assert records.read(an_id(1)) == made
        assert made.created_at == made.updated_at
        assert replace(made, created_at="", updated_at="") == an_assistant(**given)

    def test_an_id_is_given_once(self, records: AssistantRecords) -> None:
        first, _ = records.create(an_assistant(name="first"))
        found, is_new = records.create(an_assistant(name="second"))
        assert (found, is_new) == (first, False)
        assert find(records, name="second") == []

    def test_an_unknown_one_is_none(self, records: AssistantRecords) -> None:
        assert records.read(an_id(1)) is None
        assert records.turn(an_id(1), 1) is None
        assert records.change(an_id(1), lambda old: old) is None
        assert records.versions(an_id(1), metadata={}, limit=1, offset=0) is None
        assert records.delete(an_id(1)) is False


class TestChanging:
    def test_each_change_is_a_version(self, records: AssistantRecords) -> None:
        made, _ = records.create(an_assistant())
        changed = records.change(an_id(1), lambda old: replace(old, name="B"))
        assert changed is not None
        assert (changed.name, changed.version) == ("B", 2)
        assert changed.created_at == made.created_at
        assert changed.updated_at > made.updated_at
        assert records.read(an_id(1)) == changed

    def test_a_change_that_comes_between_is_not_lost(self, records: AssistantRecords) -> None:
        records.create(an_assistant(metadata={}))
        others = iter([True])

        def change(old: Assistant) -> Assistant:
            if next(others, False):
                records.change(an_id(1), lambda o: replace(o, metadata={**o.metadata, "b": 2}))
            return replace(old, metadata={**old.metadata, "a": 1})

        changed = records.change(an_id(1), change)
        assert changed is not None
        assert changed.metadata == {"a": 1, "b": 2}
        assert changed.version == 3

    def test_an_earlier_version_comes_back_whole(self, records: AssistantRecords) -> None:
        first, _ = records.create(an_assistant(graph_id="echo", metadata={"v": 1}))
        records.change(
            an_id(1), lambda old: replace(old, graph_id="other", metadata={"v": 2}, name="B")
        )
        turned = records.turn(an_id(1), 1)
        assert turned is not None
        assert replace(turned, updated_at=first.updated_at) == first
        assert turned.updated_at > first.updated_at
        assert find(records, graph_id="echo", metadata={"v": 1}, name="a") == [1]
        assert find(records, graph_id="other") == find(records, metadata={"v": 2}) == []

    def test_the_change_after_a_return_gets_a_new_number(self, records: AssistantRecords) -> None:
        records.create(an_assistant())
        records.change(an_id(1), lambda old: replace(old, name="B"))
        records.turn(an_id(1), 1)
        changed = records.change(an_id(1), lambda old: replace(old, description="x"))
        assert changed is not None
        assert (changed.version, changed.name) == (3, "A")

    def test_returning_to_the_current_version_changes_nothing(
        self, records: AssistantRecords
    ) -> None:
        made, _ = records.create(an_assistant())
        assert records.turn(an_id(1), 1) == made

    def test_a_version_that_is_not_there_is_an_error(self, records: AssistantRecords) -> None:
        made, _ = records.create(an_assistant())
        for version in (0, 2):
            with pytest.raises(VersionNotFound, match=f"no version {version}"):
                records.turn(an_id(1), version)
        assert records.read(an_id(1)) == made


class TestVersions:
    @pytest.fixture
    def three(self, records: AssistantRecords) -> AssistantRecords:
        records.create(an_assistant(metadata={"v": [1, 2]}))
        for version in (2, 3):
            records.change(an_id(1), lambda old, v=version: replace(old, metadata={"v": [v]}))
        return records

    def listed(self, records: AssistantRecords, **given: Any) -> list[int]:
        found = records.versions(an_id(1), **{"metadata": {}, "limit": 9, "offset": 0, **given})
        assert found is not None
        return [each.version for each in found]

    def test_are_listed_newest_first(self, three: AssistantRecords) -> None:
        assert self.listed(three) == [3, 2, 1]

    def test_are_listed_by_the_page(self, three: AssistantRecords) -> None:
        assert self.listed(three, limit=1, offset=1) == [2]
        assert self.listed(three, offset=3) == self.listed(three, offset=9) == []

    def test_are_found_by_metadata(self, three: AssistantRecords) -> None:
        assert self.listed(three, metadata={"v": [2]}) == [2, 1]
        assert self.listed(three, metadata={"v": [2]}, limit=1, offset=1) == [1]

    def test_stay_when_another_one_is_current(self, three: AssistantRecords) -> None:
        three.turn(an_id(1), 1)
        assert self.listed(three) == [3, 2, 1]

    def test_were_created_when_they_were_made(self, three: AssistantRecords) -> None:
        found = three.versions(an_id(1), metadata={}, limit=9, offset=0)
        assert found is not None
        times = [each.created_at for each in found]
        assert times == sorted(set(times), reverse=True)


class TestDeleting:
    def test_nothing_is_left(self, records: AssistantRecords, redis_server: RedisServer) -> None:
        records.create(an_assistant(metadata={"a": 1}))
        records.change(an_id(1), lambda old: replace(old, name="B", metadata={"b": 1}))
        assert records.delete(an_id(1)) is True
        assert records.read(an_id(1)) is None
        left = redis_server.client.keys("*")
        assert left == [f"{{test}}:assistant:{an_id(1)}:deleted".encode()]
        assert 0 < redis_server.client.pttl(left[0]) <= 10_000

    def test_the_id_can_be_used_again(self, records: AssistantRecords) -> None:
        records.create(an_assistant(name="first"))
        records.delete(an_id(1))
        made, is_new = records.create(an_assistant(name="second"))
        assert is_new
        assert (made.name, made.version) == ("second", 1)
        assert records.delete(an_id(1)) is True


class TestSearching:
    @pytest.fixture(autouse=True, params=[5000, 2])
    def stretch(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """How many a call looks at: what is found is the same."""
        monkeypatch.setattr(assistants, "_STRETCH", request.param)

    @pytest.fixture
    def records(self, redis_server: RedisServer) -> AssistantRecords:
        storage = Storage(redis_server.url, 1)
        storage.start()
        return AssistantRecords(storage, "test")

    def test_the_newest_come_first(self, records: AssistantRecords) -> None:
        for number in (2, 1, 3):
            records.create(an_assistant(number))
        assert find(records) == [3, 1, 2]

    @pytest.mark.parametrize(
        ("sort_by", "ascending"),
        [
            ("created_at", [3, 1, 2, 4]),
            ("updated_at", [1, 2, 4, 3]),
            ("name", [2, 3, 1, 4]),
            ("graph_id", [4, 1, 3, 2]),
            ("assistant_id", [1, 2, 3, 4]),
        ],
    )
    @pytest.mark.parametrize("filtered", [False, True])
    def test_every_order_goes_both_ways(
        self, records: AssistantRecords, sort_by: Any, ascending: list[int], filtered: bool
    ) -> None:
        for number, name, graph_id in ((3, "b", "y"), (1, "B", "x"), (2, "a", "z"), (4, "c", "a")):
            records.create(an_assistant(number, graph_id, name=name, metadata={"in": 1, "a": 2}))
        records.change(an_id(3), lambda old: replace(old, name="B", description="changed"))
        # Equal names stand by id.
        ascending = [2, 1, 3, 4] if sort_by == "name" else ascending
        metadata = {"in": 1, "a": 2} if filtered else {}
        for order, expected in (("asc", ascending), ("desc", ascending[::-1])):
            found = find(records, sort_by=sort_by, sort_order=order, metadata=metadata)
            assert found == expected

    def test_a_page_is_where_it_says(self, records: AssistantRecords) -> None:
        for number in range(1, 8):
            records.create(an_assistant(number, name="aB"[number % 2]))
        query = AssistantQuery(sort_by="assistant_id", sort_order="asc")
        total, found = records.search(query, 2, 4)
        assert (total, numbers(found)) == (7, [3, 4])
        assert records.search(query, 7, 9) == (7, [])
        total, found = records.search(replace(query, name="b"), 1, 3)
        assert (total, numbers(found)) == (4, [3, 5])

    def test_metadata_is_contained(self, records: AssistantRecords) -> None:
        records.create(an_assistant(1, metadata={"a": 1, "deep": {"b": "x", "c": 1}}))
        records.create(an_assistant(2, metadata={"a": 1, "deep": {"c": None}, "long": "x" * 500}))
        records.create(an_assistant(3, metadata={"a": True, "list": [1, 2], "big": 10**30}))
        cases: list[tuple[dict[str, Any], list[int]]] = [
            ({}, [1, 2, 3]),
            ({"a": 1}, [1, 2]),
            ({"a": 1.0}, [1, 2]),
            ({"a": True}, [3]),
            ({"a": None}, []),
            ({"a": 1, "deep": {"b": "x"}}, [1]),
            ({"deep": {}}, [1, 2]),
            ({"deep": {"c": None}}, [2]),
            ({"list": [2]}, [3]),
            ({"list": [3]}, []),
            ({"a": 1, "long": "x" * 500}, [2]),
            ({"long": "x" * 501}, []),
            ({"big": 10**30}, [3]),
            ({"big": 10**30 + 1}, []),
        ]
        for metadata, expected in cases:
            query = {"metadata": metadata, "sort_by": "assistant_id", "sort_order": "asc"}
            assert find(records, **query) == expected, metadata

    def test_part_of_a_name_in_any_case_will_do(self, records: AssistantRecords) -> None:
        records.create(an_assistant(1, name="Die Straße"))
        records.create(an_assistant(2, name="100% so"))
        for name, expected in (("", [1, 2]), ("straSSE", [1]), ("%", [2]), (".", []), ("O", [2])):
            found = find(records, name=name, sort_by="assistant_id", sort_order="asc")
            assert found == expected, name

    def test_all_filters_must_fit(self, records: AssistantRecords) -> None:
        records.create(an_assistant(1, "echo", name="x", metadata={"a": 1}))
        records.create(an_assistant(2, "echo", name="y", metadata={"a": 1}))
        records.create(an_assistant(3, "other", name="x", metadata={"a": 1}))
        records.create(an_assistant(4, "echo", name="x", metadata={"a": 2}))
        assert find(records, graph_id="echo", name="x", metadata={"a": 1}) == [1]

    def test_a_query_knows_in_python_what_fits(self, records: AssistantRecords) -> None:
        made, _ = records.create(an_assistant(1, name="Straße", metadata={"a": [1, 2]}))
        for query in (
            {"graph_id": "echo", "name": "ASS", "metadata": {"a": [2]}},
            {"graph_id": "other"},
            {"name": "q"},
            {"metadata": {"a": [3]}},
        ):
            assert AssistantQuery(**query).fits(made) == bool(find(records, **query))

    def test_services_with_other_prefixes_see_nothing(self, redis_server: RedisServer) -> None:
        storage = Storage(redis_server.url, 1)
        storage.start()
        AssistantRecords(storage, "one").create(an_assistant())
        other = AssistantRecords(storage, "two")
        assert other.read(an_id(1)) is None
        assert find(other) == []


def test_a_page_of_many_is_found_without_looking_at_them_all(redis_server: RedisServer) -> None:
    storage = Storage(redis_server.url, 1)
    storage.start()
    records = AssistantRecords(storage, "test")
    for number in range(1, 301):
        records.create(
            Assistant(str(uuid4()), "echo", metadata={"n": number % 2}, name=str(number))
        )
    redis_server.client.config_resetstat()
    total, found = records.search(AssistantQuery(graph_id="echo"), 10, 15)
    assert (total, [each.name for each in found]) == (300, ["290", "289", "288", "287", "286"])
    commands = redis_server.client.info("commandstats")
    assert "cmdstat_keys" not in commands
    assert "cmdstat_scan" not in commands
    # Two for each assistant on the page.
    assert sum(commands[f"cmdstat_{name}"]["calls"] for name in ("hmget", "hget")) == 10


def test_what_redis_dropped_is_left_out(
    records: AssistantRecords, redis_server: RedisServer
) -> None:
    for number in (1, 2):
        records.create(an_assistant(number, metadata={"n": 1}))
    redis_server.client.delete(f"{{test}}:assistant:{an_id(1)}")
    for query in ({}, {"name": "a"}, {"metadata": {"n": 1}}, {"metadata": {"n": 1, "l": []}}):
        found = records.search(AssistantQuery(**query), 0, 100)[1]
        assert numbers(found) == ([] if "l" in query.get("metadata", {}) else [2])
