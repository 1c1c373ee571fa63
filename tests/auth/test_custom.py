"""The project's own auth, as people write it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from langgraph_sdk import Auth
from langgraph_sdk.auth.types import BaseUser
from pydantic import BaseModel

from runwait.auth import custom
from runwait.auth.custom import CacheOptions, CustomAccess
from runwait.auth.errors import AuthBusy, AuthFailed, Refused
from runwait.auth.keys import ApiKeys
from runwait.auth.request import URL, Address, Headers, QueryParams, Request
from runwait.auth.user import User
from tests.servers import PATIENCE


def request(**headers: str) -> Request:
    return Request(
        method="POST",
        url=URL("https", "example.com:8443", "/threads/t/runs", "a=1&a=2&b=3", ""),
        headers=Headers([(name.replace("_", "-"), value) for name, value in headers.items()]),
        query_params=QueryParams([("a", "1"), ("a", "2"), ("b", "3")]),
        path_params={"thread_id": "t"},
        client=Address("10.0.0.1", 4711),
    )


def of(authenticate: Any, **options: Any) -> CustomAccess:
    auth = Auth()
    auth.authenticate(authenticate)
    return CustomAccess(auth, **options)


def known(auth: Auth) -> CustomAccess:
    auth.authenticate(lambda: "ada")
    return CustomAccess(auth)


class Panic(BaseException):
    """As libraries that are written in Rust raise it."""


class Panics:
    """A user that is not to be looked at."""

    @property
    def identity(self) -> str:
        raise Panic("secret")


ADA = User({"identity": "ada", "permissions": ["threads:read"]})


class Custom:
    """A user class of somebody's own."""

    def __init__(self) -> None:
        self.identity = "ada"
        self.permissions = ["read"]
        self.team = {"id": 1}
        self._private = "x"

    @property
    def display_name(self) -> str:
        return "Ada"


@dataclass
class Plain:
    identity: str = "ada"
    team: Any = None


class Model(BaseModel):
    identity: str = "ada"
    permissions: list[str] = ["read"]


class TestAuthenticate:
    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            ("ada", {}),
            ({"identity": "ada", "permissions": ("a", "b")}, {"permissions": ["a", "b"]}),
            ({"identity": "ada", "permissions": None, "x": {1}}, {"x": [1]}),
            ({"identity": "ada", "permissions": "a b"}, {"permissions": ["a", "b"]}),
            ({"identity": "ada", "is_authenticated": True, "email": "a@b"}, {"email": "a@b"}),
            (
                Custom(),
                {"display_name": "Ada", "permissions": ["read"], "team": {"id": 1}},
            ),
            (Plain(team="a"), {"team": "a"}),
            (Model(), {"permissions": ["read"]}),
            ((["read"], "ada"), {"permissions": ["read"]}),
        ],
    )
    @pytest.mark.parametrize("is_async", [False, True])
    def test_returns_a_user_of_any_kind(self, found, expected, is_async):
        async def later() -> Any:
            await asyncio.sleep(0)
            return found

        user = of(later if is_async else lambda: found).caller(request())
        defaults = {"identity": "ada", "display_name": "ada", "is_authenticated": True}
        assert user == {**defaults, "permissions": [], **expected}
        assert isinstance(user, BaseUser)

    def test_is_given_what_it_names(self):
        seen: dict[str, Any] = {}

        async def authenticate(
            request: Any,
            path: str,
            method: str,
            path_params: dict[str, str],
            query_params: dict[str, str],
            headers: dict[bytes, bytes],
            authorization: str | None,
            other: int = 5,
        ) -> str:
            seen.update(locals())
            return "ada"

        of(authenticate).caller(request(Authorization="Bearer t", X_Api_Key="k"))
        assert seen["path"] == "/threads/t/runs"
        assert seen["method"] == "POST"
        assert seen["path_params"] == {"thread_id": "t"}
        assert seen["query_params"] == {"a": "2", "b": "3"}
        assert seen["headers"] == {b"authorization": b"Bearer t", b"x-api-key": b"k"}
        assert seen["authorization"] == "Bearer t"
        assert seen["other"] == 5
        of(lambda authorization: seen.update(none=authorization) or "ada").caller(request())
        assert seen["none"] is None

    def test_has_of_the_request_what_starlette_has(self):
        given = request(Authorization="Bearer t", Accept="a")
        assert given.headers["AUTHORIZATION"] == given.headers.get("authorization") == "Bearer t"
        assert given.headers.get("x-none") is None
        assert "Accept" in given.headers
        assert dict(given.headers) == {"authorization": "Bearer t", "accept": "a"}
        assert given.headers.getlist("accept") == ["a"]
        assert given.query_params["a"] == "2"
        assert given.query_params.getlist("a") == ["1", "2"]
        assert given.query_params.multi_items() == [("a", "1"), ("a", "2"), ("b", "3")]
        assert str(given.url) == "https://example.com:8443/threads/t/runs?a=1&a=2&b=3"
        assert (given.url.scheme, given.url.hostname, given.url.port) == (
            "https",
            "example.com",
            8443,
        )
        assert (given.url.path, given.url.query) == ("/threads/t/runs", "a=1&a=2&b=3")
        assert given.path_params["thread_id"] == "t"
        assert given.client is not None
        assert (given.client.host, given.client.port) == ("10.0.0.1", 4711)
        with pytest.raises(AttributeError):
            given.method = "GET"  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("error", "status", "text", "headers"),
        [
            (Auth.exceptions.HTTPException(), 401, "Unauthorized", {}),
            (
                Auth.exceptions.HTTPException(429, "slowly", {"Retry-After": "5"}),
                429,
                "slowly",
                {"Retry-After": "5"},
            ),
            (Auth.exceptions.HTTPException(503, "no keys"), 503, "no keys", {}),
            (AssertionError("no token"), 401, "no token", {}),
            (AssertionError(), 401, "Unauthorized", {}),
        ],
    )
    @pytest.mark.parametrize("is_async", [False, True])
    def test_refuses_as_it_says(self, error, status, text, headers, is_async):
        def now() -> Any:
            raise error

        async def later() -> Any:
            raise error

        with pytest.raises(Refused) as refused:
            of(later if is_async else now).caller(request())
        assert (refused.value.status, str(refused.value)) == (status, text)
        assert refused.value.headers == headers

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("secret"),
            SystemExit(),
            Panic("secret"),
            Auth.exceptions.HTTPException(200),
            TimeoutError("s"),
        ],
    )
    def test_that_raises_anything_else_lets_nobody_in(self, error):
        async def later() -> Any:
            raise error

        access = of(later)
        for _ in range(2):
            with pytest.raises(AuthFailed) as failed:
                access.caller(request())
            assert "secret" not in str(failed.value)
            assert failed.value.__cause__ is not None

    @pytest.mark.parametrize(
        "found", [5, {}, {"id": "ada"}, {"identity": ""}, {"identity": 5}, Panics()]
    )
    def test_that_returns_no_user_lets_nobody_in(self, found):
        with pytest.raises(AuthFailed):
            of(lambda: found).caller(request())

    def test_that_returns_nothing_refuses(self):
        with pytest.raises(Refused) as refused:
            of(lambda: None).caller(request())
        assert refused.value.status == 401

    def test_that_does_not_answer_is_given_up(self, monkeypatch, caplog):
        monkeypatch.setattr(custom, "ANSWER_SECONDS", 0.05)
        given_up = threading.Event()

        async def hang() -> str:
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()
            return "ada"

        with pytest.raises(AuthBusy, match="too long"):
            of(hang).caller(request())
        assert given_up.wait(10)
        assert "did not answer" in caplog.text

    def test_that_hangs_leaves_threads_for_others(self, monkeypatch, in_thread):
        monkeypatch.setattr(custom, "TURN_SECONDS", 0.01)
        hanging, free = threading.Semaphore(0), threading.Event()

        def hang() -> str:
            hanging.release()
            free.wait()
            return "ada"

        access = of(hang)
        for _ in range(custom.PLACES):
            in_thread(access.caller, request())
        for _ in range(custom.PLACES):
            hanging.acquire()
        with pytest.raises(AuthBusy, match="too many"):
            access.caller(request())
        # A crowd would keep all threads waiting, each of them for a while: one is enough.
        monkeypatch.setattr(custom, "TURN_SECONDS", PATIENCE)
        began = time.monotonic()
        for _ in range(100):
            with pytest.raises(AuthBusy, match="too many"):
                access.caller(request())
        assert time.monotonic() - began < PATIENCE
        free.set()

    def test_that_wants_what_no_request_has_is_refused_at_the_start(self):
        with pytest.raises(ValueError, match="'body'"):
            of(lambda body: "ada")

    def test_that_is_missing_is_refused_unless_there_are_keys(self):
        with pytest.raises(ValueError, match="authenticate"):
            CustomAccess(Auth())
        by_keys = CustomAccess(Auth(), ApiKeys("ada=k"))
        assert by_keys.caller(request(x_api_key="k")).identity == "ada"
        with pytest.raises(Refused):
            by_keys.caller(request())

    def test_is_asked_once_for_what_is_remembered(self, monkeypatch):
        now = 1000.0
        monkeypatch.setattr(custom, "time", SimpleNamespace(monotonic=lambda: now))
        asked: list[Any] = []

        def authenticate(authorization: str) -> str:
            asked.append(authorization)
            assert authorization != "eve"
            return authorization

        access = of(authenticate, cache=CacheOptions(["authorization"], 60, 2))
        for each in ("ada", "ada", "bob", "ada"):
            assert access.caller(request(authorization=each)).identity == each
        assert asked == ["ada", "bob"]
        now += 61
        access.caller(request(authorization="ada"))
        assert asked == ["ada", "bob", "ada"]
        access.caller(request(authorization="cyd"))
        access.caller(request(authorization="bob"))
        assert asked[3:] == ["cyd", "bob"]
        for _ in range(2):
            with pytest.raises(Refused):
                access.caller(request(authorization="eve"))
        assert asked[5:] == ["eve", "eve"]


class TestHandlers:
    def test_the_most_specific_is_asked(self):
        auth = Auth()
        asked: list[str] = []

        def note(name: str) -> Any:
            async def handler(ctx: Any, value: Any) -> None:
                asked.append(name)

            return handler

        auth.on(note("global"))
        auth.on(actions="read")(note("*.read"))
        auth.on.threads(note("threads.*"))
        auth.on.threads.create(note("threads.create"))
        auth.on.store.put(note("store.put"))
        access = known(auth)
        for resource, action in (
            ("threads", "create"),
            ("threads", "read"),
            ("assistants", "read"),
            ("assistants", "search"),
            ("store", "put"),
            ("store", "get"),
        ):
            access.authorize(ADA, resource, action, {})
        assert asked == [
            "threads.create",
            "threads.*",
            "*.read",
            "global",
            "store.put",
            "global",
        ]

    def test_without_one_everything_may_be_done(self):
        assert known(Auth()).authorize(ADA, "threads", "delete", {}) is None

    def test_is_told_who_wants_what_and_may_change_it(self):
        auth = Auth()
        seen: list[Any] = []

        @auth.on.threads.create
        async def stamp(ctx: Auth.types.AuthContext, value: Any) -> Any:
            seen.append(ctx)
            value["metadata"]["owner"] = ctx.user.identity
            return {"owner": ctx.user.identity}

        value: dict[str, Any] = {"metadata": {"a": 1}}
        assert known(auth).authorize(ADA, "threads", "create", value) == {"owner": "ada"}
        assert value == {"metadata": {"a": 1, "owner": "ada"}}
        (ctx,) = seen
        assert (ctx.resource, ctx.action, ctx.permissions) == (
            "threads",
            "create",
            ["threads:read"],
        )
        assert ctx.user["identity"] == ctx.user.identity == "ada"

    @pytest.mark.parametrize(
        ("found", "answer"),
        [(None, None), (True, None), ({}, None), ({"a": {"$eq": 1}}, {"a": 1})],
    )
    def test_says_yes_or_a_condition(self, found, answer):
        auth = Auth()

        @auth.on
        async def say(ctx: Any, value: Any) -> Any:
            return found

        assert known(auth).authorize(ADA, "threads", "read", {}) == answer

    @pytest.mark.parametrize(
        ("found", "status", "text"),
        [
            (False, 403, "Forbidden"),
            (Auth.exceptions.HTTPException(status_code=403, detail="no"), 403, "no"),
            (AssertionError("not yours"), 403, "not yours"),
        ],
    )
    def test_says_no(self, found, status, text):
        auth = Auth()

        @auth.on
        async def say(ctx: Any, value: Any) -> Any:
            if isinstance(found, Exception):
                raise found
            return found

        with pytest.raises(Refused) as refused:
            known(auth).authorize(ADA, "threads", "read", {})
        assert (refused.value.status, str(refused.value)) == (status, text)

    @pytest.mark.parametrize("found", [5, "owner", {"a": {"$ne": 1}}, ["a"], KeyError("secret")])
    def test_that_says_nothing_anybody_can_act_on_lets_nobody_through(self, found):
        auth = Auth()

        @auth.on
        async def say(ctx: Any, value: Any) -> Any:
            if isinstance(found, Exception):
                raise found
            return found

        with pytest.raises(AuthFailed) as failed:
            known(auth).authorize(ADA, "threads", "read", {})
        assert "secret" not in str(failed.value)

    def test_of_the_store_a_condition_is_told_of_once(self, caplog):
        auth = Auth()

        @auth.on
        async def say(ctx: Any, value: Any) -> Any:
            return {"owner": "ada"}

        access = known(auth)
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert access.authorize(ADA, "store", "get", {"namespace": ()}) is None
        assert caplog.text.count("no effect on the store") == 1
