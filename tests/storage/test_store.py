"""The store: what LangGraph's InMemoryStore promises, kept in a real Redis."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import math
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchOp,
)
from langgraph.store.base.embed import ensure_embeddings
from langgraph.store.memory import InMemoryStore

from runwait.storage.connection import AnyScript, Storage, StorageUnavailable
from runwait.storage.embedding import Embedder, EmbeddingFailed
from runwait.storage.store import (
    PAGE_BYTES,
    PAGE_ITEMS,
    SWEEP_ITEMS,
    InvalidQuery,
    RedisStore,
    StoreBusy,
    UnstorableItem,
)
from runwait.storage.vectors import Index
from tests.servers import ROOT, RedisServer

NS = ("memories", "ada")


class Witness:
    """A storage that keeps what was sent and answered, and may send everything twice."""

    def __init__(self, storage: Storage, *, twice: bool = False) -> None:
        self.storage = storage
        self.twice = twice
        self.sent: list[tuple[AnyScript, Sequence[Any], Sequence[Any]]] = []
        self.answers: list[Any] = []

    def call(self, script: AnyScript, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        self.sent.append((script, keys, args))
        self.answers.append(self.storage.call(script, keys, args))
        if self.twice:
            assert self.storage.call(script, keys, args) == self.answers[-1]
        return self.answers[-1]

    async def acall(self, script: AnyScript, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        return await asyncio.to_thread(self.call, script, keys, args)


@pytest.fixture
def storage(redis_server: RedisServer) -> Storage:
    storage = Storage(redis_server.url, 2)
    storage.start()
    return storage


@pytest.fixture(scope="module")
def any_storage(any_redis: RedisServer) -> Storage:
    storage = Storage(any_redis.url, 2)
    storage.start()
    return storage


@pytest.fixture
def witness(storage: Storage) -> Witness:
    return Witness(storage)


@pytest.fixture
def store(witness: Witness) -> RedisStore:
    return RedisStore(witness, "test")  # type: ignore[arg-type]


def names(items: Iterable[Any]) -> list[tuple[tuple[str, ...], str]]:
    return [(each.namespace, each.key) for each in items]


def keys_left(server: RedisServer) -> list[bytes]:
    """All keys but those that stay or go by themselves."""
    lasting = {b"{test}:store:sequence"}
    return [
        key
        for key in server.client.scan_iter()
        if key not in lasting and not key.startswith(b"{test}:store:done:")
    ]


def expire(server: RedisServer, *items: tuple[tuple[str, ...], str]) -> None:
    """Let the time of these items be over."""
    for namespace, key in items:
        member = "\0".join(namespace) + "\0\0" + key
        assert server.client.zscore("{test}:store:expiry", member) is not None
        server.client.zadd("{test}:store:expiry", {member: 1})


def remaining(server: RedisServer, namespace: tuple[str, ...], key: str) -> float | None:
    """Seconds that an item has yet to live."""
    score = server.client.zscore("{test}:store:expiry", "\0".join(namespace) + "\0\0" + key)
    seconds, microseconds = server.client.time()
    return None if score is None else score / 1000 - seconds - microseconds / 1e6


class TestAsTheModel:
    """The same operations on both stores have the same results."""

    class Model(InMemoryStore):
        """Without namespaces that are empty: it keeps them for ever, also those only asked for."""

        def forget(self) -> None:
            for namespace in [each for each, items in self._data.items() if not items]:
                del self._data[namespace]

        def _apply_put_ops(self, put_ops: dict[Any, PutOp]) -> None:
            self.forget()
            for address, op in put_ops.items():
                super()._apply_put_ops({address: op})
                self.forget()

        def _handle_list_namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
            self.forget()
            return super()._handle_list_namespaces(op)

    labels = st.sampled_from(["a", "b", "a\x01", "*", "é/ ", "\ud800"])
    namespaces = st.lists(labels, min_size=1, max_size=3).map(tuple)
    keys = st.sampled_from(["k", "", "\0", "a.b", "ü"])
    values = st.fixed_dictionaries(
        {"n": st.integers(0, 3)},
        optional={
            "t": st.sampled_from([None, "x", True]),
            "o": st.fixed_dictionaries({"p": st.integers(0, 1)}),
            "l": st.lists(st.integers(0, 2), max_size=2),
        },
    )
    filters = st.sampled_from(
        [
            None,
            {},
            {"n": 1},
            {"n": {"$gt": 1}},
            {"n": {"$gte": 1, "$lt": 3}},
            {"n": {"$lte": "2"}},
            {"n": {"$ne": 2}, "t": "x"},
            {"t": None},
            {"t": {"$eq": True}},
            {"o": {"p": 1}},
            {"o": {"p": {"$ne": 1}}},
            {"l": [1, {"$gte": 1}]},
            {"l": []},
            {"o": {}},
        ]
    )
    conditions = st.builds(
        MatchCondition,
        st.sampled_from(["prefix", "suffix"]),
        st.lists(labels, max_size=3).map(tuple),
    )
    ops = st.one_of(
        st.builds(GetOp, namespaces, keys, st.booleans()),
        *[st.builds(PutOp, namespaces, keys, values, st.none(), st.none())] * 2,
        st.builds(PutOp, namespaces, keys, st.none(), st.none(), st.none()),
        st.builds(
            SearchOp,
            st.lists(labels, max_size=2).map(tuple),
            filters,
            st.integers(0, 4),
            st.integers(0, 3),
            st.sampled_from([None, "words"]),
            st.booleans(),
        ),
        st.builds(
            ListNamespacesOp,
            st.lists(conditions, max_size=2).map(tuple),
            st.sampled_from([None, None, 0, 1, 2]),
            st.integers(0, 4),
            st.integers(0, 2),
        ),
    )

    @pytest.mark.parametrize("page", [2, PAGE_ITEMS], ids=["small pages", "pages"])
    @given(
        batches=st.lists(st.lists(ops, min_size=1, max_size=8), min_size=1, max_size=8),
        asynchronous=st.booleans(),
    )
    @settings(
        max_examples=100,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    def test_batches_have_the_same_results_also_when_every_script_is_sent_twice(
        self, any_storage, monkeypatch, page, batches, asynchronous
    ):
        monkeypatch.setattr("runwait.storage.store.PAGE_ITEMS", page)
        monkeypatch.setattr("runwait.storage.store.PAGE_NAMESPACES", page)
        model = self.Model()
        store = RedisStore(Witness(any_storage, twice=True), uuid4().hex)  # type: ignore[arg-type]

        def shown(results: list[Result]) -> list[Any]:
            return [
                [self.of(each) for each in result] if isinstance(result, list) else self.of(result)
                for result in results
            ]

        for batch in batches:
            expected = shown(model.batch(batch))
            found = asyncio.run(store.abatch(batch)) if asynchronous else store.batch(batch)
            assert shown(found) == expected
        everything = SearchOp((), limit=1000)
        assert shown(store.batch([everything])) == shown(model.batch([everything]))

    @staticmethod
    def of(result: Any) -> Any:
        """What must be the same of an item or a namespace."""
        if result is None or isinstance(result, tuple):
            return result
        return type(result), result.namespace, result.key, result.value


class TestItems:
    def test_are_found_by_another_process_as_they_were_put(self, store, storage):
        store.put(NS, "tea", {"text": "likes tea"})
        found = RedisStore(storage, "test").get(NS, "tea")
        assert (found.namespace, found.key, found.value) == (NS, "tea", {"text": "likes tea"})

    def test_that_are_not_there_are_none_and_may_be_deleted(self, store, redis_server):
        assert store.get(NS, "tea") is None
        store.delete(NS, "tea")
        assert keys_left(redis_server) == []

    def test_keep_the_time_of_their_creation_over_updates(self, store, redis_server):
        seconds, microseconds = redis_server.client.time()
        store.put(NS, "tea", {"n": 1})
        first = store.get(NS, "tea")
        store.put(NS, "tea", {"n": 2})
        second = store.get(NS, "tea")
        before = datetime.datetime.fromtimestamp(seconds + microseconds / 1e6, datetime.UTC)
        assert before - datetime.timedelta(milliseconds=1) <= first.created_at == first.updated_at
        assert second.created_at == first.created_at < second.updated_at
        assert store.search(NS)[0].updated_at == second.updated_at

    def test_that_were_deleted_and_put_again_are_new(self, store):
        store.put(NS, "tea", {})
        first = store.get(NS, "tea")
        store.delete(NS, "tea")
        store.put(NS, "tea", {})
        assert store.get(NS, "tea").created_at > first.created_at

    def test_leave_nothing_behind_once_all_are_deleted(self, store, redis_server):
        for namespace in (NS, NS[:1], (*NS, "deep", "er")):
            store.put(namespace, "a", {}, ttl=5)
            store.put(namespace, "b", {})
        for namespace in (NS, NS[:1], (*NS, "deep", "er")):
            store.delete(namespace, "a")
            store.delete(namespace, "b")
        assert store.list_namespaces() == []
        assert keys_left(redis_server) == []

    @pytest.mark.parametrize(
        "value",
        [
            {},
            {"": {"": [[]]}},
            {"i": 2**70, "j": -(10**5000), "big": 10**400, "f": 1e-300, "z": -0.0},
            {"u": "ü€😀\0", "half": "\ud800", "quotes": '"\\\n'},
            {"n": None, "b": [True, False], "one": 1, "float": 1.0},
            {str(i): "x" * i for i in range(500)},
        ],
        ids=["empty", "empty names", "numbers", "text", "constants", "large"],
    )
    def test_are_kept_without_loss(self, store, value):
        store.put(NS, "k", value)
        found = store.get(NS, "k").value
        assert found == value
        assert repr_of_small(found) == repr_of_small(value)

    def test_may_have_tuples_which_become_lists(self, store):
        store.put(NS, "k", {"t": (1, (2,))})
        assert store.get(NS, "k").value == {"t": [1, [2]]}

    def test_of_an_async_graph_are_those_of_all(self, store):
        async def graph() -> Any:
            await store.aput(NS, "tea", {"n": 1})
            await store.aput(NS, "milk", {"n": 2})
            await store.adelete(NS, "milk")
            return (
                await store.aget(NS, "tea"),
                await store.asearch(("memories",), filter={"n": 1}),
                await store.alist_namespaces(prefix=("*",)),
            )

        item, found, namespaces = asyncio.run(graph())
        assert item == store.get(NS, "tea")
        assert names(found) == [(NS, "tea")]
        assert namespaces == [NS]

    def test_of_services_with_other_prefixes_are_others(self, store, storage):
        store.put(NS, "tea", {})
        other = RedisStore(storage, "other")
        assert other.get(NS, "tea") is None
        assert other.search(()) == []

    def test_cannot_be_had_without_redis(self, valkey):
        storage = Storage(valkey.url, 1)
        storage.start()
        store = RedisStore(storage, "test")
        store.put(NS, "tea", {})
        valkey.stop()
        for ask in (
            lambda: store.get(NS, "tea"),
            lambda: store.put(NS, "tea", {}),
            lambda: store.search(NS),
            lambda: store.list_namespaces(),
            lambda: store.sweep(),
            lambda: asyncio.run(store.aget(NS, "tea")),
        ):
            with pytest.raises(StorageUnavailable):
                ask()


def repr_of_small(value: dict[str, Any]) -> str:
    """The repr tells 1, 1.0 and True apart."""
    return repr({k: v for k, v in value.items() if not isinstance(v, int) or abs(v) < 10**1000})


class Colour:
    """Nothing that JSON knows."""


class TestUnstorable:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"at": datetime.datetime(2026, 1, 1)}, r"value\.at is of type datetime\.datetime"),
            ({"a": [{"b": {1, 2}}]}, r"value\.a\[0\]\.b is of type set"),
            ({"c": Colour()}, r"value\.c is of type .*\.Colour"),
            ({"b": b"x"}, r"value\.b is of type bytes"),
            ({"f": float("nan")}, r"value\.f is nan"),
            ({"f": (1, float("-inf"))}, r"value\.f\[1\] is -inf"),
            ({"o": {1: 2}}, r"value\.o has a name of type int"),
            ({None: 1}, r"value has a name of type NoneType"),
            ([1], r"the value must be a dict, not list"),
            ("x", r"the value must be a dict, not str"),
        ],
    )
    def test_values_are_refused_with_their_place_and_type(self, store, witness, value, text):
        with pytest.raises(UnstorableItem, match=rf"^item 'k' of namespace .*'ada'\): {text}"):
            store.put(NS, "k", value)
        assert witness.sent == []

    def test_cycles_and_what_is_nested_too_deep_are_refused(self, store):
        cyclic: dict[str, Any] = {}
        cyclic["again"] = [cyclic]
        with pytest.raises(UnstorableItem, match="nested deeper than 200 levels"):
            store.put(NS, "k", cyclic)

    @pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), 1e10])
    def test_times_to_live_that_are_none_are_refused(self, store, ttl):
        with pytest.raises(UnstorableItem, match="ttl must be minutes above 0"):
            store.put(NS, "k", {}, ttl=ttl)

    def test_items_keep_the_rest_of_their_batch_from_being_written(self, store):
        with pytest.raises(UnstorableItem):
            store.batch([PutOp(NS, "good", {}), PutOp(NS, "bad", {"s": {1}})])
        assert store.search(NS) == []


class TestNamespaces:
    @pytest.mark.parametrize("namespace", [(), ("langgraph", "x"), ("a.b",), ("",), ("a", "\0")])
    def test_that_langgraph_does_not_allow_are_refused(self, store, namespace):
        with pytest.raises(InvalidNamespaceError):
            store.put(namespace, "k", {})

    @pytest.mark.parametrize(
        "op",
        [
            GetOp(("a.b",), "k"),
            PutOp(("a", ""), "k", {}),
            SearchOp(("a\0b",)),
            ListNamespacesOp((MatchCondition("suffix", ("a.b",)),)),
        ],
    )
    def test_are_checked_in_a_batch_too(self, store, witness, op):
        with pytest.raises(InvalidNamespaceError):
            store.batch([op])
        assert witness.sent == []

    def test_are_not_mistaken_for_others_whose_names_begin_alike(self, store):
        for namespace in (("a",), ("ab",), ("a", "b"), ("a\x01",), ("a", "bc")):
            store.put(namespace, "k", {})
        assert names(store.search(("a",))) == [
            (("a",), "k"),
            (("a", "b"), "k"),
            (("a", "bc"), "k"),
        ]
        assert store.list_namespaces(prefix=("a",)) == [("a",), ("a", "b"), ("a", "bc")]

    def test_of_thousands_of_users_are_listed_at_the_cost_of_what_is_shown(self, store, witness):
        users = [f"{i:04}" for i in range(5000)]
        for half in (users[:2500], users[2500:]):
            store.batch([PutOp(("memories", user), "k", {}) for user in half])
        store.put(("notes",), "k", {})
        witness.sent.clear()
        assert store.list_namespaces(max_depth=1) == [("memories",), ("notes",)]
        assert len(witness.sent) == 2
        assert store.list_namespaces(prefix=("memories",), limit=3, offset=4000) == [
            ("memories", user) for user in users[4000:4003]
        ]
        assert store.list_namespaces(suffix=("4999",)) == [("memories", "4999")]
        assert len(store.list_namespaces(limit=10_000)) == 5001


class TestSearch:
    def test_comes_in_the_order_of_creation_namespace_by_namespace(self, store):
        for namespace, key in [(("b",), "2"), (("a",), "9"), (("b",), "1"), (("a",), "3")]:
            store.put(namespace, key, {})
        store.put(("b",), "2", {"changed": True})
        assert names(store.search(())) == [
            (("b",), "2"),
            (("b",), "1"),
            (("a",), "9"),
            (("a",), "3"),
        ]

    def test_takes_a_query_for_nothing_more(self, store):
        store.put(NS, "tea", {"text": "likes tea"}, index=["text"])
        store.put(NS, "rain", {"text": "hates rain"}, index=False)
        found = store.search(NS, query="what does she like?")
        assert [(each.key, each.score) for each in found] == [("tea", None), ("rain", None)]

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            ({"n": {"$gt": 2**60}}, ["huge"]),
            ({"n": {"$gte": 2**60 + 1, "$lte": 2**60 + 1}}, ["huge"]),
            ({"n": {"$lt": 0}}, []),
            ({"n": {"$lt": 2}}, ["one", "half"]),
            ({"n": {"$gt": "0.5"}}, ["one", "huge", "digits"]),
            ({"at": {"$gte": "2026-02-01"}}, ["half"]),
            ({"at": {"$lt": "2026-02-01"}}, ["one"]),
            ({"n": {"$gt": None}}, []),
            ({"missing": {"$ne": 1}}, ["one", "half", "huge", "digits", "none"]),
            ({"missing": {"$lte": 1}}, []),
        ],
    )
    def test_compares_numbers_exactly_then_texts_and_nothing_else(self, store, wanted, expected):
        store.put(NS, "one", {"n": 1, "at": "2026-01-31"})
        store.put(NS, "half", {"n": 0.5, "at": "2026-02-01T00:00"})
        store.put(NS, "huge", {"n": 2**60 + 1})
        store.put(NS, "digits", {"n": "12"})
        store.put(NS, "none", {"n": None, "at": [1]})
        assert [each.key for each in store.search(NS, filter=wanted)] == expected

    @pytest.mark.parametrize(
        "wanted", [{"n": {"$in": [1]}}, {"n": {"$gt": 1, "x": 2}}, {"a": [{"b": {"$or": []}}]}]
    )
    def test_refuses_operators_that_it_does_not_know(self, store, witness, wanted):
        with pytest.raises(InvalidQuery, match=r"^filter: operators are \$eq, .*, not '"):
            store.search(NS, filter=wanted)
        assert witness.sent == []

    @pytest.mark.parametrize("page", [{"limit": -1}, {"offset": -1}])
    def test_refuses_negative_pages(self, store, page):
        for ask in (lambda: store.search(NS, **page), lambda: store.list_namespaces(**page)):
            with pytest.raises(InvalidQuery, match=rf"^{next(iter(page))}: must not be negative"):
                ask()
        with pytest.raises(InvalidQuery, match="max_depth"):
            store.list_namespaces(max_depth=-1)

    def test_beyond_the_end_is_empty_however_far(self, store):
        store.put(NS, "k", {})
        assert store.search(NS, offset=10**30) == []
        assert store.list_namespaces(offset=10**30) == []
        assert len(store.search(NS, limit=10**30)) == 1


def letters(texts: Sequence[str]) -> list[list[float]]:
    """A model: how often a text has each of three letters."""
    if any("!" in text for text in texts):
        raise RuntimeError("no")
    return [[float(text.count(letter)) for letter in "abc"] for text in texts]


def indexed(
    storage: Any, model: Any = letters, name: str = "letters", prefix: str = "test", **options: Any
) -> RedisStore:
    index = Index(Embedder(ensure_embeddings(model), 3), name, 3, ["text"])
    return RedisStore(storage, prefix, index, **options)


def scores(items: Iterable[Any]) -> list[tuple[str, float | None]]:
    return [(each.key, None if each.score is None else round(each.score, 3)) for each in items]


class TestIndex:
    @pytest.fixture
    def store(self, witness) -> RedisStore:
        return indexed(witness)

    @pytest.fixture
    def some(self, store) -> RedisStore:
        store.put(NS, "mixed", {"text": "ab", "n": 1})
        store.put(NS, "bare", {"n": 2})
        store.put(NS, "a", {"text": "aaa", "n": 3})
        store.put(NS, "b", {"text": "b", "n": 4})
        store.put(NS, "kept out", {"text": "a", "n": 5}, index=False)
        store.put(("elsewhere",), "a", {"text": "a"})
        return store

    def test_puts_the_nearest_first_and_what_has_no_vectors_last(self, some):
        assert scores(some.search(NS, query="a")) == [
            ("a", 1.0),
            ("mixed", 0.707),
            ("b", 0.0),
            ("bare", None),
            ("kept out", None),
        ]

    def test_is_without_effect_where_there_is_no_query(self, some):
        for query in (None, ""):
            assert [each.key for each in some.search(NS, query=query)][:2] == ["mixed", "bare"]

    def test_serves_event_loops_without_work_on_them(self, some):
        loops: list[Any] = []

        def see(texts: Sequence[str]) -> list[list[float]]:
            loops.append(asyncio._get_running_loop())
            return letters(texts)

        async def ask() -> Any:
            store = indexed(some._storage, see)
            await store.aput(NS, "c", {"text": "c"})
            return await store.asearch(NS, query="c", limit=1)

        assert scores(asyncio.run(ask())) == [("c", 1.0)]
        assert loops == [None, None]

    @pytest.mark.parametrize("offset", range(7))
    def test_is_paged_through_whatever_has_vectors(self, some, offset):
        whole = scores(some.search(NS, query="a"))
        assert scores(some.search(NS, query="a", limit=2, offset=offset)) == whole[offset:][:2]

    def test_ranks_only_what_the_filter_and_the_namespace_let_through(self, some):
        found = some.search(NS, query="a", filter={"n": {"$ne": 3}}, limit=2)
        assert scores(found) == [("mixed", 0.707), ("b", 0.0)]
        assert [each.namespace for each in some.search((), query="a", limit=2)] == [
            NS,
            ("elsewhere",),
        ]

    def test_follows_an_update_and_forgets_a_deletion(self, some, redis_server):
        some.put(NS, "a", {"text": "c"})
        assert scores(some.search(NS, query="c", limit=1)) == [("a", 1.0)]
        some.put(NS, "a", {"text": "c"}, index=False)
        assert ("a", None) in scores(some.search(NS, query="c"))
        for item in some.search((), query="a"):
            some.delete(item.namespace, item.key)
        assert keys_left(redis_server) == []

    def test_forgets_what_expires(self, store, redis_server):
        store.put(NS, "a", {"text": "a"}, ttl=10)
        expire(redis_server, (NS, "a"))
        assert store.search(NS, query="a") == []
        assert keys_left(redis_server) == []

    def test_lets_what_it_finds_live_anew_and_nothing_else(self, store, redis_server):
        for key in ("a", "b"):
            store.put(NS, key, {"text": key}, ttl=10)
        soon = redis_server.client.time()[0] * 1000 + 60_000
        members = {"\0".join(NS) + "\0\0" + key: soon for key in ("a", "b")}
        redis_server.client.zadd("{test}:store:expiry", members)
        assert store.search(NS, query="a", limit=1, refresh_ttl=False)
        assert remaining(redis_server, NS, "a") <= 61
        assert store.search(NS, query="a", limit=1)
        assert remaining(redis_server, NS, "a") > 590
        assert remaining(redis_server, NS, "b") <= 61

    def test_of_another_model_or_none_leaves_items_to_be_found(self, some, witness):
        other = indexed(witness, name="other")
        assert {each.score for each in other.search(NS, query="a")} == {None}
        other.put(NS, "b", {"text": "a"})
        assert scores(other.search(NS, query="a"))[0] == ("b", 1.0)
        plain = RedisStore(witness, "test")
        assert len(plain.search(NS, query="a")) == 5
        plain.put(NS, "b", {"text": "a"})
        assert ("b", None) in scores(other.search(NS, query="a"))

    def test_embeds_a_text_once_in_a_batch_and_an_item_by_its_nearest_text(self, witness):
        asked: list[str] = []

        def count(texts: Sequence[str]) -> list[list[float]]:
            asked.extend(texts)
            return letters(texts)

        store = indexed(witness, count)
        store.batch([PutOp(NS, str(i), {"x": ["a", "b"]}, ["x[*]"]) for i in range(3)])
        assert asked == ["a", "b"]
        assert [each.score for each in store.search(NS, query="b")] == [1.0] * 3

    def test_that_fails_changes_nothing(self, some, witness):
        before = some.search(NS)
        witness.sent.clear()
        for ask in (
            lambda: some.put(NS, "a", {"text": "!"}),
            lambda: some.batch([PutOp(NS, "new", {"text": "a"}), PutOp(NS, "b", {"text": "!"})]),
            lambda: some.search(NS, query="!"),
            lambda: asyncio.run(some.aput(NS, "a", {"text": "!"})),
        ):
            with pytest.raises(EmbeddingFailed):
                ask()
        assert witness.sent == []
        assert some.search(NS) == before

    def test_refuses_what_would_cost_too_much(self, store, witness, monkeypatch):
        with pytest.raises(UnstorableItem, match=r"^item 'k' .*: index: at most 100 texts"):
            store.put(NS, "k", {"x": list(range(101))}, index=["x[*]"])
        with pytest.raises(InvalidQuery, match=r"^query: must have at most 100000 characters"):
            store.search(NS, query="a" * 100_001)
        assert witness.sent == []
        monkeypatch.setattr("runwait.storage.store.RANKED_MAX", 3)
        store.batch([PutOp(NS, str(i), {}) for i in range(4)])
        with pytest.raises(InvalidQuery, match=r"^query: there are more than 3 items"):
            store.search(NS, query="a")
        other = ("others",)
        store.put(other, "k", {"x": ["a", "b", "c", "ab"]}, index=["x[*]"])
        with pytest.raises(InvalidQuery, match=r"^query: there are more than 3 items"):
            store.search(other, query="a")

    def test_is_refused_at_once_where_too_many_use_it(self, witness):
        began, go_on = threading.Event(), threading.Event()

        def wait(texts: Sequence[str]) -> list[list[float]]:
            began.set()
            go_on.wait()
            return letters(texts)

        store = indexed(witness, wait, most_at_once=1)
        first = threading.Thread(target=lambda: store.put(NS, "a", {"text": "a"}))
        first.start()
        began.wait()
        try:
            for ask in (
                lambda: store.put(NS, "b", {"text": "b"}),
                lambda: store.search(NS, query="b"),
            ):
                with pytest.raises(StoreBusy):
                    ask()
            store.put(NS, "c", {"text": "c"}, index=False)
            assert names(store.search(NS)) == [(NS, "c")]
        finally:
            go_on.set()
            first.join()
        assert scores(store.search(NS, query="a"))[0] == ("a", 1.0)

    @given(
        items=st.lists(
            st.tuples(
                st.sampled_from([("x",), ("x", "y"), ("z",)]),
                st.sampled_from(["", "a", "ab", "aab", "bc", "abc", "ccc"]),
                st.sampled_from([None, False, []]),
            ),
            max_size=20,
        ),
        query=st.sampled_from(["a", "ab", "c", "cab"]),
        limit=st.integers(0, 8),
        offset=st.integers(0, 8),
        odd=st.booleans(),
    )
    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    def test_finds_what_going_over_everything_would_find(
        self, any_storage, monkeypatch, items, query, limit, offset, odd
    ):
        monkeypatch.setattr("runwait.storage.store.PAGE_VECTORS", 100)
        twice = Witness(any_storage, twice=True)
        store = indexed(twice, prefix=uuid4().hex)
        for i, (namespace, text, index) in enumerate(items):
            value = {"text": text, "odd": i % 2 == 1}
            store.put(namespace, str(i), value, index=index)  # type: ignore[arg-type]
        (wanted,) = letters([query])

        def cosine(text: str) -> float:
            (vector,) = letters([text])
            both = sum(a * b for a, b in zip(wanted, vector, strict=True))
            return round(both / math.hypot(*wanted) / math.hypot(*vector), 5)

        everything = store.search(("x",), filter={"odd": True} if odd else None, limit=100)
        near = [
            (cosine(each.value["text"]), each.key)
            for each in everything
            if each.value["text"] and items[int(each.key)][2] is None
        ]
        ranked = [key for _, key in sorted(near, key=lambda each: each[0], reverse=True)]
        ranked += [each.key for each in everything if each.key not in ranked]
        found = store.search(
            ("x",), query=query, filter={"odd": True} if odd else None, limit=limit, offset=offset
        )
        by_key = {key: score for score, key in near}
        # Of those as near as others, any may come first.
        assert [each.score for each in found] == [
            by_key.get(key) and pytest.approx(by_key[key], abs=1e-4)
            for key in ranked[offset : offset + limit]
        ]
        assert len({each.key for each in found}) == len(found)


class TestLargeNamespaces:
    COUNT = 5000

    @pytest.fixture
    def full(self, store, witness) -> RedisStore:
        keys = [f"{i * 7919 % self.COUNT:04}" for i in range(self.COUNT)]
        store.batch([PutOp((*NS, str(i % 3)), key, {"n": i}) for i, key in enumerate(keys)])
        witness.sent.clear()
        witness.answers.clear()
        return store

    def test_are_paged_through_in_one_order(self, full):
        whole = names(full.search(NS, limit=self.COUNT * 2))
        assert len(set(whole)) == self.COUNT
        pages = [
            names(full.search(NS, limit=700, offset=start)) for start in range(0, self.COUNT, 700)
        ]
        assert list(itertools.chain(*pages)) == whole

    def test_cost_one_round_trip_for_a_page_at_any_offset(self, full, witness):
        assert len(full.search(NS, limit=10, offset=4900)) == 10
        assert len(witness.sent) == 1

    def test_are_filtered_in_pages_that_each_script_keeps_small(self, full, witness):
        found = full.search(NS, filter={"n": {"$gte": 4990}}, limit=100, offset=2)
        every = sorted(range(4990, 5000), key=lambda n: (n % 3, n))
        assert [each.value["n"] for each in found] == every[2:]
        assert len(witness.sent) == self.COUNT // PAGE_ITEMS + 1
        assert all(len(answer) <= 1 + 2 * PAGE_ITEMS for answer in witness.answers)

    def test_end_a_filtered_search_as_soon_as_there_is_enough(self, full, witness):
        assert len(full.search(NS, filter={"n": {"$gte": 0}}, limit=10)) == 10
        assert len(witness.sent) == 1

    def test_of_large_items_come_in_answers_that_are_not_much_larger_than_a_page(
        self, store, witness
    ):
        size = 300_000
        store.batch([PutOp(NS, str(i), {"x": "x" * size}) for i in range(20)])
        witness.answers.clear()
        assert [each.key for each in store.search(NS, limit=20)] == [str(i) for i in range(20)]
        for answer in witness.answers:
            assert sum(map(len, answer[2::2])) < PAGE_BYTES + 2 * size

    def test_go_item_by_item_without_a_trace(self, full, redis_server):
        for start in range(0, self.COUNT, 1000):
            full.batch(
                [PutOp(each.namespace, each.key, None) for each in full.search(NS, limit=1000)]
            )
            assert len(full.search(NS, limit=self.COUNT)) == self.COUNT - start - 1000
        assert keys_left(redis_server) == []


class TestBatches:
    def test_of_gets_and_puts_are_one_round_trip(self, store, witness):
        store.batch([PutOp(NS, str(i), {"n": i}) for i in range(200)])
        found = store.batch(
            [
                *(GetOp(NS, str(i)) for i in range(200)),
                *(PutOp(NS, str(i), {"n": -i}) for i in range(200)),
            ]
        )
        assert [each.value["n"] for each in found[:200]] == list(range(200))
        assert len(witness.sent) == 2
        assert asyncio.run(store.abatch([])) == []
        assert len(witness.sent) == 2

    def test_larger_than_a_script_may_be_read_everything_before_they_write(self, store, witness):
        count = PAGE_ITEMS * 2 + 1
        store.batch([PutOp(NS, str(i), {"n": 1}) for i in range(count)])
        witness.sent.clear()
        mixed: list[Op] = []
        for i in range(count):
            mixed += [PutOp(NS, str(i), {"n": 2}), GetOp(NS, str(i))]
        assert {each.value["n"] for each in store.batch(mixed)[1::2]} == {1}
        assert {each.value["n"] for each in store.search(NS, limit=count)} == {2}
        assert len(witness.sent) == 5 + 3

    def test_write_only_the_last_of_what_they_say_of_an_item(self, store):
        store.put(NS, "tea", {"n": 0})
        created = store.get(NS, "tea").created_at
        store.batch([PutOp(NS, "tea", None), PutOp(NS, "tea", {"n": 1})])
        assert store.get(NS, "tea").created_at == created
        store.batch([PutOp(NS, "tea", {"n": 2}), PutOp(NS, "tea", None)])
        assert store.get(NS, "tea") is None

    def test_refuse_what_is_no_operation(self, store):
        with pytest.raises(ValueError, match="Unknown operation type"):
            store.batch(["get"])


class TestSentTwice:
    def test_a_batch_changes_nothing_the_second_time(self, store, witness, redis_server):
        store.batch([PutOp(NS, "a", {"n": 1}), PutOp(NS, "b", {"n": 1}, ttl=5)])
        store.batch([PutOp(NS, "a", {"n": 2}), PutOp(NS, "b", None), GetOp(NS, "a", False)])
        store.batch([PutOp(NS, "c", {"n": 3}, ttl=7)])

        def everything() -> dict[bytes, bytes]:
            return {key: redis_server.client.dump(key) for key in redis_server.client.scan_iter()}

        before = everything()
        for sent, answer in zip(witness.sent, witness.answers, strict=True):
            assert witness.storage.call(*sent) == answer
        assert everything() == before

    def test_a_put_does_not_undo_what_another_process_did_in_between(self, store, witness, storage):
        other = RedisStore(storage, "test")
        store.put(NS, "tea", {"by": "one"})
        other.put(NS, "tea", {"by": "another"})
        storage.call(*witness.sent[-1])
        assert other.get(NS, "tea").value == {"by": "another"}
        store.delete(NS, "tea")
        other.put(NS, "tea", {"by": "another"})
        storage.call(*witness.sent[-1])
        assert other.get(NS, "tea").value == {"by": "another"}

    def test_the_mark_of_a_batch_goes_by_itself(self, store, redis_server):
        store.put(NS, "tea", {})
        (mark,) = redis_server.client.keys("{test}:store:done:*")
        assert 0 < redis_server.client.pttl(mark) <= 60_000


class TestTimeToLive:
    def test_is_given_in_minutes(self, store, redis_server):
        store.put(NS, "tea", {}, ttl=10)
        assert 590 < remaining(redis_server, NS, "tea") <= 600
        store.put(NS, "milk", {}, ttl=0.5)
        assert 20 < remaining(redis_server, NS, "milk") <= 30

    def test_that_is_over_takes_the_item_from_every_answer_and_from_redis(
        self, store, redis_server
    ):
        asks = [
            lambda: store.get(NS, "tea"),
            lambda: store.search(()),
            lambda: store.list_namespaces(),
            lambda: store.sweep() - 1,
            lambda: store.delete(NS, "tea"),
        ]
        for ask in asks:
            store.put(NS, "tea", {}, ttl=10)
            expire(redis_server, (NS, "tea"))
            assert not ask()
            assert keys_left(redis_server) == []

    def test_that_is_over_leaves_others_as_they_were(self, store, redis_server):
        store.put(NS, "tea", {}, ttl=10)
        store.put(NS, "milk", {})
        store.put(("memories",), "rain", {}, ttl=10)
        expire(redis_server, (NS, "tea"))
        assert names(store.search(("memories",))) == [(NS, "milk"), (("memories",), "rain")]
        assert store.list_namespaces() == [("memories",), NS]

    def test_that_is_over_makes_a_later_put_a_new_item(self, store, redis_server):
        store.put(NS, "tea", {}, ttl=10)
        store.put(NS, "milk", {})
        first = store.get(NS, "tea")
        expire(redis_server, (NS, "tea"))
        store.put(NS, "tea", {})
        assert store.get(NS, "tea").created_at > first.created_at
        assert [each.key for each in store.search(NS)] == ["milk", "tea"]

    def test_begins_anew_with_every_read_unless_told_otherwise(self, store, redis_server):
        def aged() -> None:
            member = "\0".join(NS) + "\0\0tea"
            soon = redis_server.client.time()[0] * 1000 + 60_000
            redis_server.client.zadd("{test}:store:expiry", {member: soon})

        store.put(NS, "tea", {"n": 1}, ttl=10)
        for read in (
            lambda **refresh: store.get(NS, "tea", **refresh),
            lambda **refresh: store.search(NS, **refresh),
            lambda **refresh: store.search((), filter={"n": 1}, **refresh),
        ):
            aged()
            assert read(refresh_ttl=False)
            assert remaining(redis_server, NS, "tea") <= 61
            assert read()
            assert remaining(redis_server, NS, "tea") > 590

    def test_begins_anew_only_for_what_a_search_returns(self, store, redis_server):
        for i in range(4):
            store.put(NS, str(i), {"even": i % 2 == 0}, ttl=10)
            member = "\0".join(NS) + f"\0\0{i}"
            soon = redis_server.client.time()[0] * 1000 + 60_000
            redis_server.client.zadd("{test}:store:expiry", {member: soon})
        assert len(store.search(NS, filter={"even": True}, limit=1, offset=1)) == 1
        renewed = [remaining(redis_server, NS, str(i)) > 61 for i in range(4)]
        assert renewed == [False, False, True, False]

    def test_is_that_of_the_last_put(self, store, redis_server):
        store.put(NS, "tea", {}, ttl=10)
        store.put(NS, "tea", {}, ttl=20)
        assert remaining(redis_server, NS, "tea") > 1190
        store.put(NS, "tea", {})
        assert remaining(redis_server, NS, "tea") is None
        store.get(NS, "tea")
        assert remaining(redis_server, NS, "tea") is None

    def test_of_thousands_that_end_at_once_is_swept_in_turns(self, store, redis_server, witness):
        gone = [(NS, f"{i:04}") for i in range(1200)]
        store.batch([PutOp(*each, {}, ttl=10) for each in gone])
        expire(redis_server, *gone)
        witness.answers.clear()
        assert store.sweep() == 1200
        assert max(witness.answers) == SWEEP_ITEMS
        assert store.sweep() == 0
        assert keys_left(redis_server) == []

    def test_of_thousands_that_end_at_once_misleads_no_search(self, store, redis_server, witness):
        gone = [(NS, f"{i:04}") for i in range(1200)]
        store.batch([PutOp(*each, {}, ttl=10) for each in gone])
        store.batch([PutOp(NS, f"left {i}", {}) for i in range(5)])
        expire(redis_server, *gone)
        assert [each.key for each in store.search((), limit=2, offset=1)] == ["left 1", "left 2"]
        assert redis_server.client.zcard("{test}:store:expiry") == 0


WRITER = """
import sys
from runwait.storage.connection import Storage
from runwait.storage.store import RedisStore

storage = Storage(sys.argv[1], 1)
storage.start()
store = RedisStore(storage, "test")
print("ready", flush=True)
sys.stdin.readline()
for i in range(100):
    store.put(("shared", str(i % 7)), f"{sys.argv[2]}-{i}", {"by": sys.argv[2], "n": i})
    store.put(("shared", "same"), "same", {"by": sys.argv[2], "n": i})
    store.put(("shared", "brief"), "brief", {})
    store.delete(("shared", "brief"), "brief")
print("done", flush=True)
"""


def test_two_processes_write_at_once_and_nothing_is_lost_or_found_twice(store, redis_server):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, redis_server.url, name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    try:
        for each in writers:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        for each in writers:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        for each in writers:
            assert each.communicate()[0] == "done\n"
    finally:
        for each in writers:
            each.kill()
            each.wait()
    found = names(store.search(("shared",), limit=2000))
    expected = {
        (("shared", str(i % 7)), f"{who}-{i}") for who in ("one", "two") for i in range(100)
    }
    assert len(found) == len(set(found)) == 201
    assert set(found) == expected | {(("shared", "same"), "same")}
    for who in ("one", "two"):
        order = [key for namespace, key in found if namespace[1] == "0" and who in key]
        assert order == [f"{who}-{i}" for i in range(0, 100, 7)]
    assert store.get(("shared", "same"), "same").value["n"] == 99
    assert ("shared", "brief") not in store.list_namespaces()
