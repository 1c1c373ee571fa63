"""The /store endpoints: what they take, and what they answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from flask import Flask
from flask.testing import FlaskClient
from langgraph.store.base import TTLConfig
from langgraph.store.base.embed import ensure_embeddings

from runwait.api import errors
from runwait.api.store import blueprint
from runwait.storage.connection import Storage, StorageUnavailable
from runwait.storage.embedding import Embedder, EmbeddingTimedOut
from runwait.storage.store import RedisStore
from runwait.storage.vectors import Index
from tests.servers import RedisServer

ITEMS, SEARCH, NAMESPACES = "/store/items", "/store/items/search", "/store/namespaces"


def client_of(store: RedisStore) -> FlaskClient:
    app = Flask("store")
    app.extensions["runwait"] = SimpleNamespace(
        access=None,
        settings=SimpleNamespace(max_request_bytes=10_000),
        service=SimpleNamespace(store=store),
    )
    app.register_blueprint(blueprint)
    errors.register(app)
    return app.test_client()


@pytest.fixture
def client(shared_valkey: RedisServer) -> Iterator[FlaskClient]:
    """A client of a store in Redis."""
    storage = Storage(shared_valkey.url, 1)
    storage.start()
    with client_of(RedisStore(storage, "test")) as client:
        yield client


class Untouchable:
    """A storage that no request may reach."""

    def call(self, *args: Any) -> NoReturn:
        raise AssertionError(args)


@pytest.fixture
def closed() -> FlaskClient:
    """A client whose every request has to be refused before anything is asked of Redis."""
    return client_of(RedisStore(Untouchable(), "test"))  # type: ignore[arg-type]


def put(client: FlaskClient, namespace: list[str], key: str, **value: Any) -> None:
    answer = client.put(ITEMS, json={"namespace": namespace, "key": key, "value": value})
    assert (answer.status_code, answer.data) == (204, b"")


def keys(answer: Any) -> list[str]:
    assert answer.status_code == 200
    return [each["key"] for each in answer.json["items"]]


class TestItem:
    def test_is_answered_as_it_was_put(self, client):
        value = {"text": "ü\0", "n": 2**70, "none": None, "deep": [[{}]]}
        put(client, ["users", "ada b"], "a/b.c", **value)
        answer = client.get(ITEMS, query_string={"namespace": "users.ada b", "key": "a/b.c"})
        assert answer.status_code == 200
        assert answer.content_type == "application/json"
        item = answer.json
        created, updated = item.pop("created_at"), item.pop("updated_at")
        assert item == {"namespace": ["users", "ada b"], "key": "a/b.c", "value": value}
        assert datetime.fromisoformat(created).utcoffset() == timedelta(0)
        assert created == updated

    def test_that_is_not_there_is_null(self, client):
        answer = client.get(ITEMS, query_string={"namespace": "users", "key": "none"})
        assert (answer.status_code, answer.json) == (200, None)

    def test_keeps_the_time_of_its_creation_when_it_is_replaced(self, client):
        asked = {"namespace": "users", "key": "k"}
        put(client, ["users"], "k", n=1)
        first = client.get(ITEMS, query_string=asked).json
        put(client, ["users"], "k", n=2)
        second = client.get(ITEMS, query_string=asked).json
        assert second["value"] == {"n": 2}
        assert first["created_at"] == second["created_at"] < second["updated_at"]

    def test_may_have_an_empty_key(self, client):
        put(client, ["users"], "", n=1)
        assert client.get(f"{ITEMS}?namespace=users&key=").json["value"] == {"n": 1}

    @pytest.mark.parametrize(
        ("namespace", "key"),
        [
            (["n"], "k" * 3900),
            (["n"], "/" * 1300),
            (["n"], "ü" * 650),
            (["n" * 1950] * 2, ""),
        ],
        ids=["plain", "escaped", "not ascii", "namespace"],
    )
    def test_that_no_query_could_name_is_refused(self, closed, namespace, key):
        answer = closed.put(ITEMS, json={"namespace": namespace, "key": key, "value": {}})
        assert (answer.status_code, answer.json) == (
            422,
            {"detail": "key: must be, with its namespace and URL-encoded, at most 3900 bytes"},
        )

    def test_so_deep_that_it_would_be_listed_everywhere_is_refused(self, client, closed):
        put(client, ["n"] * 100, "k")
        answer = closed.put(ITEMS, json={"namespace": ["n"] * 101, "key": "k", "value": {}})
        assert answer.status_code == 422
        assert answer.json["detail"].startswith("namespace: must be a list of up to 100 ")

    def test_is_deleted_and_deleted_again(self, client):
        put(client, ["users"], "k", n=1)
        for _ in range(2):
            answer = client.delete(ITEMS, json={"namespace": ["users"], "key": "k"})
            assert (answer.status_code, answer.data) == (204, b"")
        assert client.get(f"{ITEMS}?namespace=users&key=k").json is None

    @pytest.mark.parametrize(
        "options",
        [{"index": False}, {"index": ["a.b"]}, {"index": None}, {"ttl": None}, {"more": 1}],
        ids=str,
    )
    def test_may_be_put_with_options(self, client, options):
        body = {"namespace": ["users"], "key": "k", "value": {}, **options}
        assert client.put(ITEMS, json=body).status_code == 204
        assert client.get(f"{ITEMS}?namespace=users&key=k").json["value"] == {}

    def test_lives_as_long_as_its_ttl_in_minutes_says_from_its_last_read(
        self, client, shared_valkey
    ):
        def left() -> float:
            ((_, expiry),) = shared_valkey.client.zrange(
                "{test}:store:expiry", 0, -1, withscores=True
            )
            return expiry / 1000 - shared_valkey.client.time()[0]

        def age() -> None:
            soon = shared_valkey.client.time()[0] * 1000 + 60_000
            shared_valkey.client.zadd("{test}:store:expiry", {"users\0\0k": soon})

        body = {"namespace": ["users"], "key": "k", "value": {}, "ttl": 5}
        assert client.put(ITEMS, json=body).status_code == 204
        assert 290 < left() < 301
        for refresh, expected in (("false", 61), ("0", 61), (None, 301), ("true", 301), ("1", 301)):
            query = {"namespace": "users", "key": "k"}
            age()
            client.get(ITEMS, query_string=query | ({"refresh_ttl": refresh} if refresh else {}))
            assert expected - 11 < left() < expected
        for flag, expected in ((False, 61), (None, 301), (True, 301)):
            age()
            body = {"namespace_prefix": [], "refresh_ttl": flag}
            assert keys(client.post(SEARCH, json=body)) == ["k"]
            assert expected - 11 < left() < expected

    @pytest.mark.parametrize(
        ("given", "lives"), [({}, True), ({"ttl": None}, True), ({"ttl": 90}, False)], ids=repr
    )
    def test_lives_as_long_as_the_project_says_unless_it_says_itself(
        self, shared_valkey, given, lives
    ):
        storage = Storage(shared_valkey.url, 1)
        storage.start()
        ttl = TTLConfig(default_ttl=5, refresh_on_read=False)
        client = client_of(RedisStore(storage, "test", ttl=ttl))

        def left() -> float:
            ((_, expiry),) = shared_valkey.client.zrange(
                "{test}:store:expiry", 0, -1, withscores=True
            )
            return expiry / 1000 - shared_valkey.client.time()[0]

        assert client.put(ITEMS, json={**ITEM, "value": {}, **given}).status_code == 204
        assert (left() < 301) is lives
        soon = shared_valkey.client.time()[0] * 1000 + 60_000
        shared_valkey.client.zadd("{test}:store:expiry", {"a\0\0k": soon})
        assert client.get(f"{ITEMS}?namespace=a&key=k").json
        assert keys(client.post(SEARCH, json={})) == ["k"]
        assert left() < 61
        assert client.get(f"{ITEMS}?namespace=a&key=k&refresh_ttl=true").json
        assert left() > 61


class TestSearch:
    @pytest.fixture(autouse=True)
    def items(self, client):
        for i in range(12):
            put(client, ["s", str(i % 2)], f"k{i}", n=i, who={"name": "ada" if i < 3 else "bob"})
        put(client, ["other"], "k", n=0)

    def test_answers_items_with_a_score_that_is_null(self, client):
        (item,) = client.post(SEARCH, json={"namespace_prefix": ["other"]}).json["items"]
        assert item.keys() == {"namespace", "key", "value", "created_at", "updated_at", "score"}
        assert (item["namespace"], item["value"], item["score"]) == (["other"], {"n": 0}, None)

    def test_gives_ten_unless_told_otherwise(self, client):
        whole = keys(client.post(SEARCH, json={"namespace_prefix": ["s"], "limit": 100}))
        assert whole == [f"k{i}" for i in (*range(0, 12, 2), *range(1, 12, 2))]
        assert keys(client.post(SEARCH, json={"namespace_prefix": ["s"]})) == whole[:10]
        page = {"namespace_prefix": ["s"], "limit": 2.0, "offset": 5}
        assert keys(client.post(SEARCH, json=page)) == whole[5:7]

    @pytest.mark.parametrize("body", [{}, {"namespace_prefix": []}, {"namespace_prefix": None}])
    def test_without_a_namespace_goes_through_all(self, client, body):
        assert len(keys(client.post(SEARCH, json={**body, "limit": 50}))) == 13

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            ({"n": 3}, ["k3"]),
            ({"n": {"$gt": 9}}, ["k10", "k11"]),
            ({"who": {"name": "ada"}}, ["k0", "k2", "k1"]),
            ({"n": {"$gte": 1}, "who": {"name": {"$ne": "bob"}}}, ["k2", "k1"]),
            ({"n": {"$gt": "text"}}, []),
        ],
    )
    def test_filters(self, client, wanted, expected):
        body = {"namespace_prefix": ["s"], "filter": wanted, "query": None}
        assert keys(client.post(SEARCH, json=body)) == expected


class TestIndex:
    """The model counts the letters a and b; an exclamation mark makes it fail."""

    @staticmethod
    def embed(texts: Sequence[str]) -> list[list[float]]:
        if any("!" in text for text in texts):
            raise RuntimeError("key sk-1 is wrong")
        return [[float(text.count(letter)) for letter in "ab"] for text in texts]

    @pytest.fixture
    def client(self, shared_valkey: RedisServer) -> FlaskClient:
        storage = Storage(shared_valkey.url, 1)
        storage.start()
        index = Index(Embedder(ensure_embeddings(self.embed), 2), "letters", 2, ["text"])
        return client_of(RedisStore(storage, "test", index, most_at_once=1))

    def test_gives_items_by_their_score(self, client):
        for key in ("b", "ab", "a", ""):
            put(client, ["s"], key, text=key)
        client.put(ITEMS, json={**ITEM, "namespace": ["s"], "value": {"text": "a"}, "index": False})
        more = {"namespace": ["s"], "key": "other", "value": {"x": "a"}, "index": ["x"]}
        client.put(ITEMS, json=more)
        answer = client.post(SEARCH, json={"namespace_prefix": ["s"], "query": "a"})
        found = {each["key"]: each["score"] for each in answer.json["items"]}
        assert list(found) == ["a", "other", "ab", "b", "", "k"]
        assert found == {
            "a": 1.0,
            "other": 1.0,
            "ab": pytest.approx(0.7071, abs=1e-4),
            "b": 0.0,
            "": None,
            "k": None,
        }

    def test_that_fails_is_a_502_that_tells_no_secrets_and_changes_nothing(self, client):
        put(client, ["a"], "k", text="a")
        for answer in (
            client.put(ITEMS, json={**ITEM, "value": {"text": "!"}}),
            client.post(SEARCH, json={"query": "!"}),
        ):
            assert answer.status_code == 502
            detail = "the store's embedding function failed: RuntimeError"
            assert answer.json == {"detail": detail}
        item = client.get(f"{ITEMS}?namespace=a&key=k").json
        assert item["value"] == {"text": "a"}

    def test_that_hangs_is_a_504(self, monkeypatch):
        def hang(text: str) -> NoReturn:
            raise EmbeddingTimedOut("it took more than 25 seconds")

        embedder = SimpleNamespace(query=hang)
        index = Index(embedder, "letters", 2)  # type: ignore[arg-type]
        client = client_of(RedisStore(Untouchable(), "test", index))  # type: ignore[arg-type]
        answer = client.post(SEARCH, json={"query": "a"})
        assert (answer.status_code, answer.json["detail"]) == (504, "it took more than 25 seconds")

    def test_without_room_is_a_503_that_may_be_tried_again(self, client):
        store = client.application.extensions["runwait"].service.store
        with store._places:
            for answer in (
                client.put(ITEMS, json={**ITEM, "value": {"text": "a"}}),
                client.post(SEARCH, json={"query": "a"}),
            ):
                assert answer.status_code == 503
                assert answer.headers["Retry-After"]
            assert client.post(SEARCH, json={}).status_code == 200


class TestNamespaces:
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({}, [["a"], ["a", "b", "c"], ["a", "b", "d"], ["e", "d"]]),
            ({"prefix": ["a", "b"]}, [["a", "b", "c"], ["a", "b", "d"]]),
            ({"suffix": ["d"]}, [["a", "b", "d"], ["e", "d"]]),
            ({"prefix": ["*", "b"], "suffix": ["*", "c"]}, [["a", "b", "c"]]),
            ({"max_depth": 2}, [["a"], ["a", "b"], ["e", "d"]]),
            ({"limit": 2, "offset": 1}, [["a", "b", "c"], ["a", "b", "d"]]),
            ({"prefix": ["x"]}, []),
        ],
    )
    def test_are_listed(self, client, body, expected):
        for namespace in (["e", "d"], ["a", "b", "d"], ["a"], ["a", "b", "c"]):
            put(client, namespace, "k")
        answer = client.post(NAMESPACES, json=body)
        assert (answer.status_code, answer.json) == (200, {"namespaces": expected})

    def test_that_are_empty_are_not(self, client):
        put(client, ["a"], "k")
        client.delete(ITEMS, json={"namespace": ["a"], "key": "k"})
        client.get(f"{ITEMS}?namespace=b&key=k")
        assert client.post(NAMESPACES, json={}).json == {"namespaces": []}


ITEM = {"namespace": ["a"], "key": "k"}
BAD_NAMESPACES: list[Any] = [None, "a.b", {"a": 1}, [1], [None], [""], ["a.b"], ["a\0"], [["a"]]]


class TestRefusals:
    @staticmethod
    def assert_names(answer: Any, *fields: str) -> None:
        assert answer.status_code == 422
        assert answer.json.keys() == {"detail"}
        named = [each.partition(": ")[0] for each in answer.json["detail"].split("; ")]
        assert named == list(fields)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *(("namespace", each) for each in [*BAD_NAMESPACES, [], ["langgraph"]]),
            *(("key", each) for each in (None, 1, ["k"])),
            *(("value", each) for each in (None, [], "x", 1)),
            *(("index", each) for each in (True, 0, "a", [1], {})),
            *(("ttl", each) for each in (0, -1, "5", True, [], 1e300, 10**400)),
        ],
        ids=repr,
    )
    def test_of_an_item_name_the_field(self, closed, field, value):
        body = {**ITEM, "value": {}, field: value}
        self.assert_names(closed.put(ITEMS, json=body), field)

    def test_name_every_field_that_is_missing(self, closed):
        self.assert_names(closed.put(ITEMS, json={}), "namespace", "key", "value")
        self.assert_names(closed.delete(ITEMS, json={}), "namespace", "key")
        self.assert_names(closed.get(ITEMS), "namespace", "key")

    @pytest.mark.parametrize("value", [*BAD_NAMESPACES, []], ids=repr)
    def test_of_a_deletion_name_the_field(self, closed, value):
        self.assert_names(closed.delete(ITEMS, json={**ITEM, "namespace": value}), "namespace")

    @pytest.mark.parametrize("value", ["", ".", "a.", "a..b", "a\0"], ids=repr)
    def test_of_a_query_name_the_field(self, closed, value):
        query = {"namespace": value, "key": "k"}
        self.assert_names(closed.get(ITEMS, query_string=query), "namespace")

    @pytest.mark.parametrize("value", ["", "yes", "2"])
    def test_of_a_flag_in_the_query_name_it(self, closed, value):
        query = {"namespace": "a", "key": "k", "refresh_ttl": value}
        self.assert_names(closed.get(ITEMS, query_string=query), "refresh_ttl")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *(("namespace_prefix", each) for each in BAD_NAMESPACES[1:]),
            *(
                ("filter", each)
                for each in ([], "x", {"n": {"$in": []}}, {"n": {"$gt": 1, "a": 1}})
            ),
            *(("limit", each) for each in (0, -1, None, "5", 1.5, True)),
            *(("offset", each) for each in (-1, None, "5", 1.5)),
            *(("query", each) for each in (5, "tea")),
            ("refresh_ttl", "true"),
        ],
        ids=repr,
    )
    def test_of_a_search_name_the_field(self, closed, field, value):
        self.assert_names(closed.post(SEARCH, json={field: value}), field)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *((field, each) for field in ("prefix", "suffix") for each in BAD_NAMESPACES),
            *(("max_depth", each) for each in (0, -1, None, "1", 1.5, True)),
            *(("limit", each) for each in (0, -1, None, "5", 1.5)),
            *(("offset", each) for each in (-1, None, "5")),
        ],
        ids=repr,
    )
    def test_of_a_listing_name_the_field(self, closed, field, value):
        self.assert_names(closed.post(NAMESPACES, json={field: value}), field)

    @pytest.mark.parametrize(
        ("method", "path"),
        [("PUT", ITEMS), ("DELETE", ITEMS), ("POST", SEARCH), ("POST", NAMESPACES)],
    )
    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"key": NaN}'], ids=repr)
    def test_of_what_is_no_json_object_say_so(self, closed, method, path, body):
        answer = closed.open(path, method=method, data=body)
        assert answer.status_code == 422
        assert answer.json["detail"].startswith("the body ")

    def test_of_a_body_that_is_too_large_are_413(self, closed):
        body = {**ITEM, "value": {"x": "x" * 10_000}}
        assert closed.put(ITEMS, json=body).status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", ITEMS, {**ITEM, "value": {}}),
        ("DELETE", ITEMS, ITEM),
        ("GET", f"{ITEMS}?namespace=a&key=k", None),
        ("POST", SEARCH, {}),
        ("POST", NAMESPACES, {}),
    ],
)
def test_without_redis_everything_is_a_503_that_may_be_tried_again(method, path, body):
    class Away:
        def call(self, *args: Any) -> NoReturn:
            raise StorageUnavailable("Redis is away")

    client = client_of(RedisStore(Away(), "test"))  # type: ignore[arg-type]
    answer = client.open(path, method=method, json=body)
    assert (answer.status_code, answer.json) == (503, {"detail": "Redis is away"})
    assert answer.headers["Retry-After"]
