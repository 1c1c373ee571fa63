"""LangGraph's store, in Redis: what graphs remember beyond their threads.

All keys share the hash tag `{prefix}`. A namespace is written as its labels with NUL between them
(no label has a NUL, and so their order as bytes is that of the tuples), an item as its namespace,
two NULs and its key:

    {prefix}:store:item:<item>        string  "<place> <created> <updated> <ttl> <value>": times in
                                              microseconds, ttl in ms (0: for ever), value as JSON
    {prefix}:store:under:<namespace>  zset    "<place><item>" of all items of the namespace and
                                              beneath it, also for the empty namespace
    {prefix}:store:namespaces         zset    namespaces that have items of their own
    {prefix}:store:numbers            hash    their numbers
    {prefix}:store:sequence           string  the last number given to a namespace or item
    {prefix}:store:vector:<item>      string  what the index made of it: see vectors.py
    {prefix}:store:expiry             zset    items with a time to live, by the ms when they expire
    {prefix}:store:done:<id>          string  what a batch that wrote has answered, for some seconds

A place is the number of the namespace and the number of the item, 13 hexadecimal digits each: in
the order of places, the zsets of score 0 list what LangGraph's InMemoryStore lists in its order.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import math
import operator
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar
from uuid import uuid4

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    validate_op_namespace,
)

from runwait.serialization import MAX_DEPTH, dumps, loads
from runwait.storage.checkpoint import ScriptRunner
from runwait.storage.connection import AnyField, Script, named
from runwait.storage.times import EPOCH
from runwait.storage.vectors import Index, Unembeddable

# Items read or written by one script, at most, and bytes after which a page of them ends.
PAGE_ITEMS = 500
PAGE_BYTES = 1 << 20
PAGE_NAMESPACES = 1000
# Bytes after which a page of vectors ends: so it is no large answer, which would wait for others.
PAGE_VECTORS = 48_000
# Items and vectors that one query goes through, at most, and characters that it has.
RANKED_MAX = 100_000
QUERY_MAX = 100_000
# Expired items that one script removes, at most: STORE_DUE in lua/store/library.lua.
SWEEP_ITEMS = 200
# How long a batch that wrote is remembered: longer than one that is sent again can be under way.
MARK_SECONDS = 60
# About 1,900 years; past some point, milliseconds are no exact doubles any more.
MAX_TTL_MINUTES = 1e9

# Threads that compute at once, of a process's: each holds Python's lock for as long as it may.
_computing = threading.Semaphore(2)

_PLACE = 26
# Where the arguments of a write have the value.
_DOCUMENT = 2
# Half a surrogate pair is kept as it is.
_TEXT, _ANY = "utf-8", "surrogatepass"
# What an offset can no longer be a rank.
_BEYOND = 1 << 48

_Namespace = tuple[str, ...]
_Arg = str | bytes | int
_T = TypeVar("_T")
_AnyItem = TypeVar("_AnyItem", bound=Item)


class UnstorableItem(ValueError):
    """An item that cannot be kept; the text names its namespace, its key and what is wrong."""


class StoreBusy(Exception):
    """There is no room for another batch that has something to embed or to rank."""


class InvalidQuery(ValueError):
    """A search or listing that says nothing that can be done; the text says why."""


@dataclass(frozen=True)
class _Call:
    script: Script
    keys: Sequence[str]
    args: Sequence[_Arg]


# What is to be asked of Redis, one after the other; each time the answer is sent back in.
_Steps = Generator[_Call, Any, _T]


class RedisStore(BaseStore):
    """A BaseStore that all processes share. Values are what JSON can hold, without loss.

    A batch behaves as InMemoryStore's: everything is read before anything is written, and of
    several writes of one item only the last is done. Its reads and writes of items are one round
    trip and one step, up to PAGE_ITEMS of them. Searches come in the order in which namespaces, and
    in them items, were first written; those with a `query`, if there is an index, in the order of
    nearness. Without an index, `query` and `index` change nothing. Every method may raise
    StorageUnavailable; where there is something to embed, EmbeddingFailed and EmbeddingTimedOut.
    """

    supports_ttl = True

    def __init__(
        self,
        storage: ScriptRunner,
        prefix: str,
        index: Index | None = None,
        ttl: TTLConfig | None = None,
        most_at_once: int | None = None,
    ) -> None:
        """Prepare.

        Args:
            storage: the process's connections, or what calls scripts on them.
            prefix: what all keys begin with, so that services can share a Redis.
            index: what makes vectors of items and queries; None: nothing does.
            ttl: how long items live that do not say it, and whether reading lets them live anew.
            most_at_once: batches that may embed or rank at once; None: any number.
        """
        self._index = index
        self.ttl_config = ttl
        self._places = threading.Semaphore(most_at_once) if most_at_once else None
        self._storage = storage
        self._tag = "{" + prefix + "}"
        self._keys = f"{self._tag}:store:"

    @property
    def has_index(self) -> bool:
        """Whether items can be searched by meaning."""
        return self._index is not None

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """The answers of these operations, in their order.

        Raises:
            UnstorableItem: a value is not what JSON can hold, or a time to live is none.
            InvalidQuery: a search or listing is not as it must be.
            InvalidNamespaceError: a namespace is not as it must be.
            StoreBusy: there is something to embed, and no place for it.
        """
        ops = list(ops)
        steps = self._steps(ops)
        with self._place_for(ops):
            try:
                call = next(steps)
                while True:
                    call = steps.send(self._storage.call(call.script, call.keys, call.args))
            except StopIteration as end:
                results: list[Result] = end.value
                return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """`batch` for an event loop. Nothing is embedded or ranked on that."""
        ops = list(ops)
        if self._needs_index(ops):
            return await asyncio.to_thread(self.batch, ops)
        steps = self._steps(ops)
        try:
            call = next(steps)
            while True:
                call = steps.send(await self._storage.acall(call.script, call.keys, call.args))
        except StopIteration as end:
            results: list[Result] = end.value
            return results

    def sweep(self) -> int:
        """Remove all items that have expired, SWEEP_ITEMS in a round trip; how many they were.

        None of them is found before, either: this only frees what they take up.
        """
        removed = 0
        while True:
            last: int = self._storage.call(_SWEEP, [f"{self._keys}expiry"], self._named())
            removed += last
            if last < SWEEP_ITEMS:
                return removed

    def _needs_index(self, ops: Sequence[Op]) -> bool:
        return self._index is not None and any(
            op.query
            if isinstance(op, SearchOp)
            else isinstance(op, PutOp) and op.value is not None and op.index is not False
            for op in ops
        )

    @contextlib.contextmanager
    def _place_for(self, ops: Sequence[Op]) -> Iterator[None]:
        if self._places is None or not self._needs_index(ops):
            yield
            return
        if not self._places.acquire(blocking=False):
            raise StoreBusy("too many embeddings and searches by meaning are under way")
        try:
            yield
        finally:
            self._places.release()

    def _steps(self, ops: Sequence[Op]) -> _Steps[list[Result]]:
        for op in ops:
            validate_op_namespace(op)
        results: list[Result] = [None] * len(ops)
        reads: list[tuple[int, GetOp]] = []
        writes: dict[tuple[_Namespace, str], tuple[PutOp, list[_Arg]]] = {}
        for i, op in enumerate(ops):
            if isinstance(op, GetOp):
                reads.append((i, op))
            elif isinstance(op, PutOp):
                writes[op.namespace, str(op.key)] = op, _written(op)
            elif isinstance(op, SearchOp):
                results[i] = yield from self._nearest(op) if op.query else self._search(op)
            elif isinstance(op, ListNamespacesOp):
                results[i] = yield from self._list_namespaces(op)
            else:
                raise ValueError(f"Unknown operation type: {type(op)}")
        waiting = self._embedded(list(writes.values()))
        for start in range(0, len(reads) + len(waiting), PAGE_ITEMS):
            first = max(0, start - len(reads))
            last = max(0, start + PAGE_ITEMS - len(reads))
            page = reads[start : start + PAGE_ITEMS]
            found = yield self._items([op for _, op in page], waiting[first:last])
            for (i, op), stored in zip(page, found, strict=True):
                if stored is not None:
                    results[i] = _restored(Item, op.namespace, str(op.key), stored)
        return results

    def _items(self, reads: Sequence[GetOp], writes: Sequence[Sequence[_Arg]]) -> _Call:
        given = self._named(
            mark_ttl=MARK_SECONDS * 1000,
            reads=[
                each
                for op in reads
                for each in (*_address(op.namespace, op.key), "1" if op.refresh_ttl else "0")
            ],
            writes=[each for write in writes for each in write],
        )
        return _Call(_BATCH, [f"{self._keys}done:{uuid4().hex}"], given)

    def _embedded(self, writes: Sequence[tuple[PutOp, list[_Arg]]]) -> list[list[_Arg]]:
        """The arguments of writes, each with the vectors of its item."""
        if self._index is None:
            return [[*args, b""] for _, args in writes]
        texts: list[list[str]] = []
        for op, args in writes:
            document = args[_DOCUMENT]
            assert isinstance(document, bytes)
            try:
                own = self._index.texts(op.value or {}, len(document), op.index)
            except Unembeddable as error:
                raise UnstorableItem(f"{_named(op)}: {error}") from None
            texts.append([] if op.value is None else own)
        every = list(dict.fromkeys(text for own in texts for text in own))
        found = dict(zip(every, self._index.embedder.documents(every), strict=True))
        return [
            [*args, self._index.packed(found[text] for text in own)]
            for (_, args), own in zip(writes, texts, strict=True)
        ]

    def _nearest(self, op: SearchOp) -> _Steps[list[SearchItem]]:
        """The items nearest to a query, and after them those without vectors."""
        if self._index is None:
            return (yield from self._search(op))
        _check_page(op.limit, op.offset)
        query = op.query or ""
        if len(query) > QUERY_MAX:
            raise InvalidQuery(f"query: must have at most {QUERY_MAX} characters")
        matches = _filter(op.filter or {})
        nearness = self._index.nearness(self._index.embedder.query(query))
        wanted = op.offset + op.limit
        # Entries of items, with their scores; and those without.
        best: list[tuple[float, bytes]] = []
        others: list[bytes] = []
        seen, after, more = 0, b"", op.limit > 0
        while more:
            answer = yield self._page(
                op.namespace_prefix,
                after,
                PAGE_ITEMS,
                PAGE_VECTORS,
                "both" if op.filter else "vectors",
            )
            if answer is None:
                continue
            more = bool(answer[0]) and len(answer) > 1
            page: list[tuple[float, bytes]] = []
            with _computing:
                for entry, stored, packed in zip(*(answer[i::3] for i in (1, 2, 3)), strict=True):
                    after = entry
                    seen += max(1, self._index.count(packed))
                    if op.filter and not matches(loads(stored.split(b" ", 4)[4])):
                        continue
                    score = nearness(packed)
                    if score is not None:
                        page.append((score, entry))
                    elif len(others) < wanted:
                        others.append(entry)
                best = heapq.nlargest(wanted, best + page, key=operator.itemgetter(0))
            if seen > RANKED_MAX:
                raise InvalidQuery(
                    f"query: there are more than {RANKED_MAX} items and vectors to compare: "
                    "name a longer namespace"
                )
        ranked: list[tuple[float | None, bytes]] = [*best, *((None, each) for each in others)]
        found: list[SearchItem] = []
        chosen = ranked[op.offset : wanted]
        for start in range(0, len(chosen), PAGE_ITEMS):
            some = chosen[start : start + PAGE_ITEMS]
            addresses = [_address_of(entry) for _, entry in some]
            reads = [GetOp(*each, refresh_ttl=op.refresh_ttl) for each in addresses]
            answers = yield self._items(reads, [])
            for (score, _), address, stored in zip(some, addresses, answers, strict=True):
                if stored is not None:  # else it was deleted meanwhile
                    item = _restored(SearchItem, *address, stored)
                    item.score = score
                    found.append(item)
        return found

    def _page(
        self,
        namespace: _Namespace,
        after: bytes,
        most: int,
        size: int,
        what: Literal["items", "vectors", "both"],
        skip: int = 0,
    ) -> _Call:
        given = self._named(
            namespace=_encoded(namespace), after=after, skip=skip, most=most, bytes=size, what=what
        )
        return _Call(_SEARCH, [f"{self._keys}expiry"], given)

    def _named(self, **fields: AnyField) -> list[_Arg]:
        return named(prefix=self._tag, **fields)

    def _search(self, op: SearchOp) -> _Steps[list[SearchItem]]:
        _check_page(op.limit, op.offset)
        matches = _filter(op.filter or {})
        # A rank in the index is the cheap way to an offset, if nothing is left out on the way.
        skip, passed = (op.offset, 0) if not op.filter else (0, op.offset)
        found: list[SearchItem] = []
        mortal: list[_Arg] = []
        after = b""
        more = op.limit > 0 and skip < _BEYOND
        while more and len(found) < op.limit:
            most = PAGE_ITEMS if op.filter else min(PAGE_ITEMS, op.limit - len(found))
            answer = yield self._page(op.namespace_prefix, after, most, PAGE_BYTES, "items", skip)
            if answer is None:
                continue
            more = bool(answer[0]) and len(answer) > 1
            for entry, stored in zip(answer[1::2], answer[2::2], strict=True):
                after = entry
                item = _restored(SearchItem, *_address_of(entry), stored)
                if not matches(item.value):
                    continue
                if passed:
                    passed -= 1
                    continue
                found.append(item)
                if op.refresh_ttl and stored.split(b" ", 4)[3] != b"0":
                    mortal += _address(item.namespace, item.key)
                if len(found) == op.limit:
                    break
        for start in range(0, len(mortal), 2 * PAGE_ITEMS):
            page = mortal[start : start + 2 * PAGE_ITEMS]
            yield _Call(_TOUCH, [f"{self._keys}expiry"], self._named(items=page))
        return found

    def _list_namespaces(self, op: ListNamespacesOp) -> _Steps[list[_Namespace]]:
        _check_page(op.limit, op.offset)
        if op.max_depth is not None and op.max_depth < 0:
            raise InvalidQuery("max_depth: must not be negative")
        conditions = op.match_conditions or ()
        lower, upper = _bounds(conditions)
        found: list[_Namespace] = []
        wanted = op.offset + op.limit
        while len(found) < wanted:
            page = yield _Call(
                _NAMESPACES,
                [f"{self._keys}namespaces"],
                self._named(lower=lower, upper=upper, most=PAGE_NAMESPACES),
            )
            if page is None:
                continue
            for encoded in page:
                namespace = _decoded(encoded)
                shown = namespace[: op.max_depth]
                if (not found or found[-1] != shown) and _match(conditions, namespace):
                    found.append(shown)
            if len(page) < PAGE_NAMESPACES:
                break
            lower, last = b"(" + page[-1], _decoded(page[-1])
            shown = last[: op.max_depth]
            if op.max_depth is not None and len(last) >= op.max_depth and found[-1:] == [shown]:
                # All that is beneath it would be shown as the same.
                lower = b"[" + _encoded(shown) + b"\x01" if shown else upper
        return found[op.offset : wanted]


def _check_page(limit: int, offset: int) -> None:
    for name, value in ("limit", limit), ("offset", offset):
        if value < 0:
            raise InvalidQuery(f"{name}: must not be negative")


def _encoded(namespace: Iterable[str]) -> bytes:
    return "\0".join(namespace).encode(_TEXT, _ANY)


def _decoded(namespace: bytes) -> _Namespace:
    return tuple(namespace.decode(_TEXT, _ANY).split("\0")) if namespace else ()


def _address(namespace: _Namespace, key: str) -> tuple[bytes, bytes]:
    return _encoded(namespace), str(key).encode(_TEXT, _ANY)


def _address_of(entry: bytes) -> tuple[_Namespace, str]:
    """The namespace and the key of an entry of an index."""
    namespace, _, name = entry[_PLACE:].partition(b"\0\0")
    return _decoded(namespace), name.decode(_TEXT, _ANY)


def _named(op: PutOp) -> str:
    return f"item {str(op.key)!r} of namespace {op.namespace!r}"


def _restored(kind: type[_AnyItem], namespace: _Namespace, key: str, stored: bytes) -> _AnyItem:
    _, created, updated, _, value = stored.split(b" ", 4)
    return kind(
        namespace=tuple(namespace),
        key=key,
        value=loads(value),
        created_at=EPOCH + timedelta(microseconds=int(created)),
        updated_at=EPOCH + timedelta(microseconds=int(updated)),
    )


def _written(op: PutOp) -> list[_Arg]:
    """The arguments that write or delete an item."""
    address = _address(op.namespace, op.key)
    if op.value is None:
        return [*address, b"", 0]
    where = _named(op)
    if op.ttl is not None and not 0 < op.ttl <= MAX_TTL_MINUTES:
        raise UnstorableItem(f"{where}: ttl must be minutes above 0, at most {MAX_TTL_MINUTES:.0f}")
    if not isinstance(op.value, Mapping):
        raise UnstorableItem(f"{where}: the value must be a dict, not {_class(op.value)}")
    value = dict(op.value)
    if problem := _problem(value, "value", 0):
        raise UnstorableItem(f"{where}: {problem}")
    try:
        document = json.dumps(value, separators=(",", ":")).encode()
    except ValueError:  # an integer beyond `sys.set_int_max_str_digits`
        document = dumps(value)
    return [*address, document, 0 if op.ttl is None else max(1, round(op.ttl * 60_000))]


def _problem(value: Any, path: str, depth: int) -> str | None:
    """What of a value JSON cannot hold, if there is anything, and where."""
    if value is None or isinstance(value, str | int):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path} is {value}, which is not in JSON"
    if not isinstance(value, dict | list | tuple):
        return f"{path} is of type {_class(value)}, which is not in JSON"
    if depth == MAX_DEPTH:
        return f"it is nested deeper than {MAX_DEPTH} levels"
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                return f"{path} has a name of type {_class(name)}; names must be strings"
        members: Iterable[tuple[str, Any]] = ((f"{path}.{n}", each) for n, each in value.items())
    else:
        members = ((f"{path}[{i}]", each) for i, each in enumerate(value))
    return next(filter(None, (_problem(each, inner, depth + 1) for inner, each in members)), None)


def _class(value: Any) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"


def _bounds(conditions: Iterable[MatchCondition]) -> tuple[bytes, bytes]:
    """What the namespaces that match lie between, as of ZRANGEBYLEX."""
    for condition in conditions:
        if condition.match_type == "prefix":
            path = list(condition.path)
            head = path[: path.index("*")] if "*" in path else path
            if head:
                return b"[" + _encoded(head), b"(" + _encoded(head) + b"\x01"
    return b"-", b"+"


def _match(conditions: Iterable[MatchCondition], namespace: _Namespace) -> bool:
    for match_type, path in conditions:
        if match_type == "prefix":
            labels: Sequence[str] = namespace[: len(path)]
        elif match_type == "suffix":
            labels = namespace[max(0, len(namespace) - len(path)) :]
        else:
            raise InvalidQuery(f"no such match type: {match_type}")
        if len(labels) < len(path):
            return False
        if any(wanted not in ("*", label) for wanted, label in zip(path, labels, strict=True)):
            return False
    return True


def _filter(wanted: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], bool]:
    """Whether an item's value passes, as InMemoryStore sees it."""
    for each in wanted.values():
        _check_operators(each)
    return lambda value: all(_fits(value.get(name), each) for name, each in wanted.items())


def _check_operators(wanted: Any) -> None:
    if isinstance(wanted, dict):
        if _has_operators(wanted):
            for name in wanted:
                if name not in _OPERATORS:
                    known = ", ".join(_OPERATORS)
                    raise InvalidQuery(f"filter: operators are {known}, not {name!r}")
        else:
            for each in wanted.values():
                _check_operators(each)
    elif isinstance(wanted, list | tuple):
        for each in wanted:
            _check_operators(each)


def _has_operators(wanted: Mapping[str, Any]) -> bool:
    return any(name.startswith("$") for name in wanted)


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        if _has_operators(wanted):
            return all(_OPERATORS[name](value, operand) for name, operand in wanted.items())
        return isinstance(value, dict) and all(
            _fits(value.get(name), each) for name, each in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(value, list) and len(value) == len(wanted) and all(map(_fits, value, wanted))
        )
    return bool(value == wanted)


def _ordered(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """A comparison of numbers, or else of texts. What has no order does not pass."""

    def compare(value: Any, operand: Any) -> bool:
        try:
            return holds(_number(value), _number(operand))
        except (TypeError, ValueError):
            both = isinstance(value, str) and isinstance(operand, str)
            return both and holds(value, operand)

    return compare


def _number(value: Any) -> int | float:
    # A large integer is not to be rounded.
    return value if isinstance(value, int) else float(value)


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": _ordered(operator.gt),
    "$gte": _ordered(operator.ge),
    "$lt": _ordered(operator.lt),
    "$lte": _ordered(operator.le),
}

_BATCH = Script.load("store/batch", "store/library", large=True)
_SEARCH = Script.load("store/search", "store/library", large=True)
_NAMESPACES = Script.load("store/namespaces", "store/library")
_TOUCH = Script.load("store/touch", "store/library")
_SWEEP = Script.load("store/sweep", "store/library")
