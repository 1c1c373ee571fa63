"""A store of which each caller has a part of its own, and sees nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchOp,
)

from runwait.auth.user import CALLER
from runwait.storage.store import RedisStore


class ScopedStore(BaseStore):
    """All namespaces begin, where they are kept, with a label that says whose they are."""

    def __init__(self, store: RedisStore, identity: Callable[[], str]) -> None:
        """Prepare.

        Args:
            store: where all parts are.
            identity: whose part it is, each time that it is asked for something.
        """
        self._store = store
        self._identity = identity
        self.supports_ttl = store.supports_ttl
        self.ttl_config = store.ttl_config

    @property
    def has_index(self) -> bool:
        """Whether items are found by meaning."""
        return self._store.has_index

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do operations on what is the caller's."""
        label = self._label()
        return _bare(self._store.batch([_within(label, each) for each in ops]))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do operations on what is the caller's."""
        label = self._label()
        return _bare(await self._store.abatch([_within(label, each) for each in ops]))

    def _label(self) -> str:
        return f"key:{self._identity()}"


def identity_of_caller() -> str:
    """Whose request this thread answers.

    Raises:
        PermissionError: nobody's.
    """
    caller = CALLER.get()
    if caller is None:
        raise PermissionError("the store is asked for nobody's items")
    return caller.identity


def _within(label: str, op: Op) -> Op:
    if isinstance(op, GetOp | PutOp):
        return op._replace(namespace=(label, *op.namespace))
    if isinstance(op, SearchOp):
        return op._replace(namespace_prefix=(label, *op.namespace_prefix))
    assert isinstance(op, ListNamespacesOp)
    conditions = [
        MatchCondition(each.match_type, (label, *each.path))
        if each.match_type == "prefix"
        else each
        for each in op.match_conditions or ()
    ]
    conditions.append(MatchCondition("prefix", (label,)))
    depth = None if op.max_depth is None else op.max_depth + 1
    return op._replace(match_conditions=tuple(conditions), max_depth=depth)


def _bare(results: list[Result]) -> list[Result]:
    """Results as the caller sees them, without its label."""
    return [_without_label(each) for each in results]


def _without_label(result: Any) -> Any:
    if isinstance(result, Item):
        result.namespace = result.namespace[1:]
    elif isinstance(result, tuple):
        return result[1:]
    elif isinstance(result, list):
        return [_without_label(each) for each in result]
    return result
