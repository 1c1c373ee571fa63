"""What is in Redis, and what is done to it.

Each thread has the keys `prefix:{thread}:name`:

name          kind    what it holds
-----------   ------  -------------------------------------------------------------------------
fence         string  the highest token that has claimed the thread
index         zset    ns 0 id, all with score 0: in order of namespace, then of checkpoint
checkpoints   hash    ns 0 id -> record: length of its head, head, length of its typed body, typed
                      body, typed metadata; the head is MessagePack of [layout, parent id or "",
                      run id or "", [channel, version, ...]], and lengths are of 4 bytes
values        hash    ns 0 channel 0 version -> typed value; none for an empty channel
counts        hash    ns 0 channel 0 version -> how many checkpoints name that value
pending       zset    ns 0 id 0 task, all with score 0: the tasks that wrote on a checkpoint
writes        hash    ns 0 id 0 task -> MessagePack, of Lua, of [[index, channel, typed value,
                      task path], ...]
runs          zset    run 0 ns 0 id, all with score 0: the checkpoints of each run
undo          hash    ns 0 id 0 task -> the field of `writes` as it was before the last run, which
                      the field "" names, wrote on a checkpoint of another run; "" if it was absent

0 is a zero byte, ns the namespace ("" for the graph itself, others for subgraphs), id a
checkpoint's. A typed value is the serializer's format, a zero byte, and its bytes. A body is the
checkpoint without `channel_values` and `channel_versions`, which the record and `values` have.

A thread has nine keys, whatever it holds, and all in one slot: it is deleted by one command, and no
question about a thread needs a scan.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    empty_checkpoint,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import ERROR

from .classes import Unsuitable
from .errors import Fenced, StateLost, UnrevivableValue, UnstorableValue
from .runner import Script

KEYS = (
    *("fence", "index", "checkpoints", "values", "counts"),
    *("pending", "writes", "runs", "undo"),
)
LAYOUT = 1
# LangGraph's own of a checkpoint that needs no migration.
_VERSION = 4

_LENGTH = struct.Struct(">I")

# Higher than any token, and still exact as a number of Lua's.
_NO_TOKEN = 2**53 - 1
_FENCE_AFTER_DELETION_MS = 3_600_000

# How much one script does at most, so that other clients of Redis need not wait for long.
_PAGE = 100
_BYTES = 2_000_000

# Where the checkpoints come from that a run begins with.
_BEGINNINGS = ("input", "fork")

_PUT = Script.load("put")
_PUT_WRITES = Script.load("put_writes")
_READ = Script.load("read", large=True)
_PAGE_OF = Script.load("page", large=True)
_NAMESPACES = Script.load("namespaces")
_HISTORY = Script.load("history", large=True)
_DROP = Script.load("drop")
_DROP_RUN = Script.load("drop_run")
_DROP_WRITES = Script.load("drop_writes")
_DELETE = Script.load("delete")
_RAISE_FENCE = Script.load("raise_fence")
_RESTORE = Script.load("restore")
_THREADS = Script.load("threads")

_T = TypeVar("_T")
_Call = tuple[Script, Sequence[str], Sequence[str | bytes | int]]
# What is to be called, one after another; it is sent the answers, and returns the result.
Plan = Generator[_Call, Any, _T]


class _Record(NamedTuple):
    parent: str
    run: str
    versions: list[Any]
    body: bytes
    metadata: bytes

    def packed(self) -> bytes:
        head = ormsgpack.packb([LAYOUT, self.parent, self.run, self.versions])
        sized = (_LENGTH.pack(len(part)) + part for part in (head, self.body))
        return b"".join((*sized, self.metadata))

    @classmethod
    def unpacked(cls, packed: bytes) -> _Record:
        head, rest = _cut(packed)
        layout, parent, run, versions = ormsgpack.unpackb(head)
        if layout != LAYOUT:
            reason = f"its layout is {layout}, not {LAYOUT}"
            raise UnrevivableValue("(checkpoint)", "checkpoint", reason)
        return cls(parent, run, versions, *_cut(rest))


class _Place(NamedTuple):
    """Where a config points to."""

    thread: str
    ns: str
    id: str

    @classmethod
    def of(cls, config: RunnableConfig) -> _Place:
        configurable = config["configurable"]
        return cls(
            str(configurable["thread_id"]),
            configurable.get("checkpoint_ns") or "",
            get_checkpoint_id(config) or "",
        )

    def config(self, id: str | None = None) -> RunnableConfig:
        return {
            "configurable": {
                "thread_id": self.thread,
                "checkpoint_ns": self.ns,
                "checkpoint_id": self.id if id is None else id,
            }
        }


class Plans(NamedTuple):
    """What a saver does: one plan for each of its methods, and for both their ways to call."""

    prefix: str
    serde: SerializerProtocol
    token: int | None
    most: int | None = None
    # By checkpoint, what of it could not be revived and was passed over; None: nothing is.
    passed_over: dict[str, list[UnrevivableValue]] | None = None

    def _ask(self, script: Script, thread: str, *args: str | bytes | int) -> Plan[Any]:
        """What a script answers, asked with the token."""
        token = "" if self.token is None else self.token
        answer = yield script, self._keys(thread), (token, *args)
        return _unless_refused(thread, answer)

    def _keys(self, thread: str) -> list[str]:
        start = f"{self.prefix}:{{{thread}}}:"
        return [start + name for name in KEYS]

    def raise_fence(self, thread: str, token: int) -> Plan[None]:
        answer = yield _RAISE_FENCE, self._keys(thread), (token,)
        _unless_refused(thread, answer)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Plan[RunnableConfig]:
        place = _Place.of(config)
        values, versions = checkpoint["channel_values"], checkpoint["channel_versions"]
        parts: list[str | bytes] = []
        for channel, version in new_versions.items():
            if channel in values and versions.get(channel) == version:
                parts += (channel, self._stored(channel, values[channel]))
        whole = get_serializable_checkpoint_metadata(config, metadata)
        run = str(whole.get("run_id") or "")
        apart = ("channel_values", "channel_versions")
        body = {name: each for name, each in checkpoint.items() if name not in apart}
        packed = _Record(
            place.id,
            run,
            [part for item in versions.items() for part in item],
            self._stored("(checkpoint)", body),
            self._stored("(metadata)", whole),
        ).packed()
        yield from self._ask(_PUT, place.thread, place.ns, checkpoint["id"], run, packed, *parts)
        return place.config(checkpoint["id"])

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> Plan[None]:
        place = _Place.of(config)
        run = str(get_serializable_checkpoint_metadata(config, {}).get("run_id") or "")
        parts: list[str | bytes | int] = []
        for position, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, position)
            if channel == ERROR and isinstance(value, BaseException):
                # Whatever it holds, that must not take its place.
                value = _error_text(value)
            parts += (index, channel, self._stored(channel, value))
        yield from self._ask(
            _PUT_WRITES, place.thread, place.ns, place.id, run, task_id, task_path, *parts
        )

    def get_tuple(self, config: RunnableConfig) -> Plan[CheckpointTuple | None]:
        place = _Place.of(config)
        found = yield from self._read(place, [place.id], claim=place.ns == "")
        return found[0]

    def _read(
        self, place: _Place, ids: Sequence[str], *, claim: bool = False
    ) -> Plan[list[CheckpointTuple | None]]:
        """The checkpoints with these ids; of a long list, only the first ones."""
        checkpoints, values = yield from self._ask(
            _READ, place.thread, int(claim), place.ns, _BYTES, *ids
        )
        return [self._tuple(place, each, values) if each else None for each in checkpoints]

    def _tuple(self, place: _Place, checkpoint: Any, values: list[bytes]) -> CheckpointTuple:
        name, packed, positions, tasks = checkpoint
        id, record = name.decode(), _Record.unpacked(packed)
        unknown = Checkpoint(**{**empty_checkpoint(), "id": id, "v": _VERSION})
        body = self._revived_or(unknown, id, "(checkpoint)", record.body)
        channels, versions = record.versions[::2], record.versions[1::2]
        body["channel_versions"] = dict(zip(channels, versions, strict=True))
        body["channel_values"] = {
            channel: value
            for channel, position in zip(channels, positions, strict=True)
            if position
            for value in self._if_revived(id, channel, values[position - 1])
        }
        return CheckpointTuple(
            place.config(id),
            body,
            self._revived_or({}, id, "(metadata)", record.metadata),
            place.config(record.parent) if record.parent else None,
            self._writes(id, tasks),
        )

    def _writes(self, id: str, tasks: list[Any]) -> list[PendingWrite]:
        flat = [
            (writes_sort_key(path.decode(), task.decode(), index), channel.decode(), value)
            for task, writes in tasks
            for index, channel, value, path in writes
        ]
        flat.sort(key=lambda each: each[0])
        return [
            (key[1], channel, value)
            for key, channel, stored in flat
            for value in self._if_revived(id, channel, stored)
        ]

    def places(self, config: RunnableConfig | None) -> Plan[list[tuple[str, str]]]:
        """Each thread and namespace that a config may mean."""
        if config is None:
            threads = yield from self._all_threads()
        else:
            place = _Place.of(config)
            if config["configurable"].get("checkpoint_ns") is not None:
                return [(place.thread, place.ns)]
            threads = [place.thread]
        places = []
        for thread in threads:
            for ns in (yield from self._namespaces(thread)):
                places.append((thread, ns))
        return places

    def _all_threads(self) -> Plan[list[str]]:
        start, end = f"{self.prefix}:{{", "}:index"
        pattern = re.sub(r"([\\*?\[\]^])", r"\\\1", start) + "*" + end
        threads: set[str] = set()
        cursor: bytes | str = "0"
        while True:
            cursor, keys = yield _THREADS, [], (cursor, pattern)
            threads.update(key.decode()[len(start) : -len(end)] for key in keys)
            if cursor == b"0":
                return sorted(threads)

    def _namespaces(self, thread: str) -> Plan[list[str]]:
        found: list[str] = []
        while True:
            some = yield _NAMESPACES, self._keys(thread), (_PAGE, *found[-1:])
            found += (ns.decode() for ns in some)
            if len(some) < _PAGE:
                return found

    def _page(
        self, place: _Place, before: str, size: int = _PAGE
    ) -> Plan[list[tuple[str, _Record]]]:
        """Ids and records of a namespace, newest first, that come before an id ("" for all)."""
        flat = yield _PAGE_OF, self._keys(place.thread), (place.ns, before, size)
        ids, records = flat[::2], flat[1::2]
        if None in records:
            raise StateLost(place.thread)
        return [
            (id.decode(), _Record.unpacked(each)) for id, each in zip(ids, records, strict=True)
        ]

    def next_page(
        self, search: Search, thread: str, ns: str, config: RunnableConfig | None
    ) -> Plan[list[CheckpointTuple]]:
        """The checkpoints that a search finds next."""
        place = _Place(thread, ns, "")
        only = get_checkpoint_id(config) if config else None
        if not search.waiting:
            if only is not None:
                search.waiting = [only] if not search.before or only < search.before else []
                search.at_end = True
            else:
                page = yield from self._page(place, search.before, search.page_size)
                search.at_end = len(page) < search.page_size
                search.before = page[-1][0] if page else search.before
                search.waiting = [
                    id for id, record in page if search.fits(self._metadata_of(search, id, record))
                ]
            if search.left is not None:
                del search.waiting[search.left :]
        if not search.waiting:
            return []
        found = yield from self._read(place, search.waiting)
        del search.waiting[: len(found)]
        tuples = [each for each in found if each is not None]
        if only is not None:
            tuples = [each for each in tuples if search.fits(each.metadata)]
        if search.left is not None:
            search.left -= len(tuples)
        return tuples

    def _metadata_of(self, search: Search, id: str, record: _Record) -> Mapping[str, Any]:
        return self._revived_or({}, id, "(metadata)", record.metadata) if search.filter else {}

    def delete_thread(self, thread: str) -> Plan[None]:
        fence = _NO_TOKEN if self.token is None else self.token
        yield from self._ask(_DELETE, thread, fence, _FENCE_AFTER_DELETION_MS)

    def delete_for_runs(self, run_ids: Sequence[str], thread_id: str | None) -> Plan[None]:
        if not run_ids:
            return
        if self.token is not None and thread_id is None:
            raise ValueError("a token is one thread's: say which")
        threads = [thread_id] if thread_id is not None else (yield from self._all_threads())
        for thread in threads:
            for run in run_ids:
                while (yield from self._ask(_DROP_RUN, thread, run, _PAGE)) == _PAGE:
                    pass

    def take_back_refused(self, thread: str, run: str, whole: bool) -> Plan[None]:
        latest = yield from self._page(_Place(thread, "", ""), "", 1)
        for id, record in latest:
            source = self._revived("(metadata)", record.metadata).get("source")
            if record.run == run and not whole and source not in _BEGINNINGS:
                yield from self._ask(_DROP_WRITES, thread, "", id)
                return
        yield from self.delete_for_runs([run], thread)

    def copy_thread(self, source: str, target: str) -> Plan[None]:
        if source == target:
            return
        yield from self._ask(_DELETE, target, "", 0)
        for ns in (yield from self._namespaces(source)):
            place, before = _Place(source, ns, ""), ""
            while page := (yield from self._page(place, before)):
                waiting = [id for id, _ in page]
                before = waiting[-1]
                while waiting:
                    answer = yield _READ, self._keys(source), ("", "0", ns, _BYTES, *waiting)
                    checkpoints, values = _unless_refused(source, answer)
                    del waiting[: len(checkpoints)]
                    flat = _restorable([each for each in checkpoints if each], values)
                    yield from self._ask(_RESTORE, target, ns, *flat)

    def prune(self, thread_ids: Sequence[str], strategy: str) -> Plan[None]:
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"there is no strategy {strategy!r}: it is 'keep_latest' or 'delete'")
        for thread in thread_ids:
            if strategy == "delete":
                yield from self.delete_thread(thread)
                continue
            for ns in (yield from self._namespaces(thread)):
                yield from self._keep_latest(_Place(thread, ns, ""))

    def _keep_latest(self, place: _Place) -> Plan[None]:
        latest = yield from self._page(place, "", 1)
        if not latest:
            return
        before, record = latest[0]
        # LangGraph counts here how long ago it stored the whole of a channel of changes.
        metadata = self._revived("(metadata)", record.metadata)
        counted = metadata.get("counters_since_delta_snapshot") or ()
        channels = [each for each in record.versions[::2] if each in counted]
        found = yield from self._ancestors(place, before, channels, itself=True)
        kept = {ancestor for ancestor, *_ in found}
        while page := (yield from self._page(place, before)):
            before = page[-1][0]
            ids = [id for id, _ in page if id not in kept]
            if ids:
                yield from self._ask(_DROP, place.thread, place.ns, *ids)

    def _ancestors(
        self, place: _Place, id: str, channels: Sequence[str], *, itself: bool = False
    ) -> Plan[list[tuple[str, dict[str, bytes], list[Any]]]]:
        """The ancestors that channels are made of, newest first: id, values and tasks' writes.

        With `itself`, the checkpoint counts as its own first ancestor.
        """
        found: list[tuple[str, dict[str, bytes], list[Any]]] = []
        wanted, visited = list(channels), set[bytes]()
        while wanted:
            following, some = yield (
                _HISTORY,
                self._keys(place.thread),
                (place.ns, id, int(itself), _PAGE, _BYTES, *wanted),
            )
            for ancestor, seeds, tasks in some:
                if ancestor in visited:
                    reason = "it is an ancestor of its own"
                    raise UnrevivableValue("(checkpoint)", "checkpoint", reason)
                visited.add(ancestor)
                values = dict(zip(map(bytes.decode, seeds[::2]), seeds[1::2], strict=True))
                found.append((ancestor.decode(), values, tasks))
                wanted = [channel for channel in wanted if channel not in values]
            id, itself = following.decode(), True
            if not id:
                break
        return found

    def delta_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Plan[Mapping[str, DeltaChannelHistory]]:
        place = _Place.of(config)
        history: dict[str, DeltaChannelHistory] = {each: {"writes": []} for each in channels}
        ancestors = yield from self._ancestors(place, place.id, list(history))
        for _, values, tasks in reversed(ancestors):
            for write in self._writes(place.id, tasks):
                history[write[1]]["writes"].append(write)
            for channel, stored in values.items():
                for value in self._if_revived(place.id, channel, stored):
                    history[channel]["seed"] = value
        return history

    def _stored(self, channel: str, value: Any) -> bytes:
        try:
            form, data = self.serde.dumps_typed(value)
        except Unsuitable as error:
            raise UnstorableValue(channel, error.type, error.reason) from error
        except Exception as error:
            raise UnstorableValue(channel, type(value).__name__, str(error)) from error
        if self.most is not None and len(data) > self.most:
            reason = f"it takes {len(data)} bytes; MAX_VALUE_BYTES allows {self.most}"
            raise UnstorableValue(channel, type(value).__name__, reason)
        return form.encode() + b"\0" + data

    def _if_revived(self, id: str, channel: str, stored: bytes) -> Iterator[Any]:
        """The value; nothing where it is passed over."""
        try:
            yield self._revived(channel, stored)
        except UnrevivableValue as error:
            if self.passed_over is None:
                raise
            self.passed_over.setdefault(id, []).append(error)

    def _revived_or(self, default: Any, id: str, what: str, stored: bytes) -> Any:
        return next(self._if_revived(id, what, stored), default)

    def _revived(self, channel: bytes | str, stored: bytes) -> Any:
        form, _, data = stored.partition(b"\0")
        try:
            return self.serde.loads_typed((form.decode(), data))
        except Unsuitable as error:
            raise UnrevivableValue(_text(channel), error.type, error.reason) from error
        except Exception as error:
            raise UnrevivableValue(_text(channel), "value", str(error)) from error


class Search:
    """How far a listing has come."""

    def __init__(
        self, filter: dict[str, Any] | None, before: RunnableConfig | None, limit: int | None
    ) -> None:
        self.filter = filter
        self.left = limit
        self._before = (get_checkpoint_id(before) if before else None) or ""
        self.start_over()

    def start_over(self) -> None:
        """Begin with another namespace."""
        self.before = self._before
        self.waiting: list[str] = []
        self.at_end = False

    @property
    def goes_on(self) -> bool:
        """Whether there may be more in this namespace."""
        if self.left is not None and self.left <= 0:
            return False
        return bool(self.waiting) or not self.at_end

    @property
    def page_size(self) -> int:
        """How many records to look at in one go."""
        return _PAGE if self.filter or self.left is None else min(self.left, _PAGE)

    def fits(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a checkpoint with this metadata is looked for."""
        return all(metadata.get(key) == value for key, value in (self.filter or {}).items())


def _unless_refused(thread: str, answer: Any) -> Any:
    if answer == -1:
        raise Fenced(f"thread {thread} was claimed by someone else, or deleted")
    if answer == -2:
        raise StateLost(thread)
    return answer


def _cut(packed: bytes) -> tuple[bytes, bytes]:
    """What follows a length, and the rest."""
    end = _LENGTH.size + _LENGTH.unpack_from(packed)[0]
    return packed[_LENGTH.size : end], packed[end:]


def _restorable(checkpoints: list[Any], values: list[bytes]) -> list[str | bytes | int]:
    """What the script `restore` takes, of what the script `read` answered."""
    known: set[int] = set()
    flat: list[Any] = []
    for id, packed, positions, tasks in checkpoints:
        new: list[Any] = []
        channels = _Record.unpacked(packed).versions[::2]
        for channel, position in zip(channels, positions, strict=True):
            if position and position not in known:
                known.add(position)
                new += (channel, values[position - 1])
        flat += (id, packed, len(new) // 2, *new, len(tasks))
        for task, writes in tasks:
            flat += (task, len(writes))
            flat += (part for write in writes for part in write)
    return flat


def _error_text(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception:
        return f"{type(error).__name__}()"


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
