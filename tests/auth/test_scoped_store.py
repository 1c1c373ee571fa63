"""A store of which each caller has a part."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.store.memory import InMemoryStore

from runwait.auth.scoped_store import ScopedStore, identity_of_caller
from runwait.auth.user import CALLER, User


@pytest.fixture
def both() -> tuple[ScopedStore, ScopedStore, Any]:
    store: Any = InMemoryStore()
    return ScopedStore(store, lambda: "ada"), ScopedStore(store, lambda: "bob"), store


def test_nobody_sees_what_is_anothers(both):
    ada, bob, _ = both
    ada.put(("notes",), "k", {"of": "ada"})
    bob.put(("notes",), "k", {"of": "bob"})
    bob.put(("notes", "more"), "l", {"of": "bob"})
    item = ada.get(("notes",), "k")
    assert (item.namespace, item.key, item.value) == (("notes",), "k", {"of": "ada"})
    assert [each.namespace for each in bob.search(())] == [("notes",), ("notes", "more")]
    assert [each.value for each in ada.search(("notes",), filter={"of": "bob"})] == []
    assert ada.list_namespaces() == [("notes",)]
    assert bob.list_namespaces(max_depth=1) == [("notes",)]
    assert bob.list_namespaces(prefix=("notes",), suffix=("more",)) == [("notes", "more")]
    assert ada.list_namespaces(prefix=("key:bob",)) == []
    assert ada.search(("key:bob",)) == []
    ada.delete(("notes",), "k")
    assert ada.get(("notes",), "k") is None
    assert bob.get(("notes",), "k") is not None


def test_the_same_is_seen_by_those_who_await(both):
    ada, bob, _ = both
    ada.put(("notes",), "k", {"of": "ada"})

    async def look() -> Any:
        return await ada.aget(("notes",), "k"), await bob.aget(("notes",), "k")

    mine, theirs = asyncio.run(look())
    assert (mine.namespace, theirs) == (("notes",), None)


def test_the_caller_of_a_request_says_whose_it_is(both):
    _, _, store = both
    scoped = ScopedStore(store, identity_of_caller)
    with pytest.raises(PermissionError):
        scoped.get(("notes",), "k")
    token = CALLER.set(User({"identity": "ada"}))
    try:
        scoped.put(("notes",), "k", {})
        assert both[0].get(("notes",), "k") is not None
    finally:
        CALLER.reset(token)
