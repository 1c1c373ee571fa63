"""A Redis Cluster: a `Storage` for each of its primaries, and who has which keys.

redis-py's cluster client reads the map, on one thread, whenever a node is lost or says that a key
is elsewhere. What is sent goes as it does to a single server, so all that connection.py promises
holds of each node.

A script finds all its keys in the slot of the first one, most of them by a prefix. While a slot is
being moved, key by key, some of them would be missing. So every call names one more key of the
slot, that there never is: for a slot that is being moved, Redis then refuses the whole script
(with ASK or TRYAGAIN), and it is sent again until the slot is where it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from runwait.storage import connection, urls
from runwait.storage.connection import (
    AnyScript,
    Argument,
    Script,
    Storage,
    StorageUnavailable,
    StorageUnsuitable,
    client,
    pauses,
    tag_of,
)

log = logging.getLogger("runwait.storage")

# Pause before a call is sent again that found its key elsewhere, or under way.
AGAIN_SECONDS = 0.02
# What a node says of a key that is not there, or not there yet. Nothing was done.
_ELSEWHERE = (AskError, MovedError, TryAgainError, ClusterDownError)
_IN_WORDS = re.compile("MOVED|ASK |TRYAGAIN|CLUSTERDOWN")


def storage_of(
    url: str, connections: int, prefix: str, replicas: int = 0
) -> Storage | ClusterStorage:
    """What runs scripts in the Redis of this URL; see Storage for the rest."""
    kind = ClusterStorage if urls.read(url).kind == "cluster" else Storage
    return kind(url, connections, prefix, replicas)


def server_of(url: str, prefix: str) -> str:
    """The URL of the server that has the keys of runs, and tells of them.

    Raises:
        RedisError: the cluster does not answer.
        StorageUnsuitable: it is none.
    """
    address = urls.read(url)
    if address.kind != "cluster":
        return url
    node: Any = _read_map(address, address.hosts).get_node_from_key(f"{{{prefix}}}")
    return address.at(node.host, node.port)


def _read_map(address: urls.Address, hosts: Sequence[tuple[str, int]]) -> Any:
    """redis-py's cluster client, which knows all nodes and slots, and has no connection."""
    # One that is cut off from the others may answer with what was.
    hosts = random.sample(hosts, len(hosts))  # nosec B311 # no secret
    cluster, node = cast(Any, RedisCluster), cast(Any, ClusterNode)
    try:
        read = cluster(
            url=address.at(*hosts[0]),
            startup_nodes=[node(*each) for each in hosts[1:]],
            require_full_coverage=True,
            socket_timeout=connection.WAIT_SECONDS,
            socket_connect_timeout=connection.WAIT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
    except RedisClusterException as error:
        text = str(error)
        if "not covered" in text:
            raise StorageUnsuitable(f"REDIS_URL: of the cluster, {_slots(text)}") from None
        if "not enabled" in text:
            _check_is_cluster(address, hosts)
        raise RedisConnectionError(text) from error
    with contextlib.suppress(RedisError, OSError):
        read.close()
    return read


def _slots(text: str) -> str:
    found = re.search(r"(\d+) of (\d+)", text)
    return f"only {found[1]} of {found[2]} slots have a node" if found else text


def _check_is_cluster(address: urls.Address, hosts: Sequence[tuple[str, int]]) -> None:
    """redis-py takes every error of a node for that: what it is."""
    with client(address.at(*hosts[0])) as node:
        try:
            node.execute_command("CLUSTER", "INFO")
        except NoPermissionError:
            raise RedisConnectionError("its user lacks the rights +cluster") from None
        except RedisError as error:
            if "cluster support disabled" in str(error):
                raise StorageUnsuitable("REDIS_URL: names no Redis cluster") from None
            raise


class ClusterStorage(Storage):
    """`Storage`, over all nodes of a cluster."""

    def __init__(self, url: str, connections: int, prefix: str, replicas: int = 0) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            url: of the cluster.
            connections: how many to open to each primary.
            prefix: of all keys.
            replicas: of each primary, as in Storage.
        """
        self._address = urls.read(url)
        self._connections_each = connections
        self._prefix = prefix
        self._replicas = replicas
        self._map: Any = None
        self._nodes: dict[str, Storage] = {}
        self._reason = "not connected yet"
        self._look_again = threading.Event()
        self._stopped = False
        self._changed_at = -math.inf
        self.faults = 0
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Connect to all primaries, and keep to what becomes of them, on a thread of its own.

        Raises:
            StorageUnsuitable: it is no cluster, or one that has no node for some keys.
        """
        try:
            self._follow_map()
        except RedisError as error:
            self._miss(error)
            log.warning(self._reason)
        threading.Thread(target=self._keep_mapped, name="cluster", daemon=True).start()

    def stop(self) -> None:
        """End it."""
        self._stopped = True
        self._look_again.set()
        for each in list(self._nodes.values()):
            each.stop()

    @property
    def problem(self) -> str | None:
        """Why the keys of runs cannot be used now, or None."""
        try:
            return self._node(()).problem
        except StorageUnavailable as error:
            return str(error)

    @property
    def warning(self) -> str | None:  # type: ignore[override]
        """What an operator should mend, of any node."""
        return next((each.warning for each in self._nodes.values() if each.warning), None)

    @property
    def clock(self) -> tuple[int, float] | None:
        """What the clock of the keys of runs said, and what this process's said just before."""
        with contextlib.suppress(StorageUnavailable):
            return self._node(()).clock
        return None

    @clock.setter
    def clock(self, value: tuple[int, float] | None) -> None:
        with contextlib.suppress(StorageUnavailable):
            self._node(()).clock = value

    @property
    def back_since(self) -> float:
        """When the keys of runs were found again last, on the monotonic clock."""
        with contextlib.suppress(StorageUnavailable):
            return max(self._changed_at, self._node(()).back_since)
        return self._changed_at

    def call(self, script: AnyScript, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """`Storage.call`, where the keys are."""
        guarded, named = _guarded(script), self._named(keys)
        deadline = time.monotonic() + connection.WAIT_SECONDS
        while True:
            try:
                return self._node(keys).call(guarded, named, args)
            except StorageUnavailable as error:
                self._check_is_elsewhere(error, deadline)
            time.sleep(AGAIN_SECONDS)

    async def acall(self, script: AnyScript, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """`Storage.acall`, where the keys are."""
        guarded, named = _guarded(script), self._named(keys)
        deadline = time.monotonic() + connection.WAIT_SECONDS
        while True:
            try:
                return await self._node(keys).acall(guarded, named, args)
            except StorageUnavailable as error:
                self._check_is_elsewhere(error, deadline)
            await asyncio.sleep(AGAIN_SECONDS)

    def _named(self, keys: Sequence[str]) -> list[str]:
        """The keys, and one more beside them that there never is."""
        return [*keys, f"{self._prefix}:{{{tag_of(keys) or self._prefix}}}:never"]

    def _node(self, keys: Sequence[str]) -> Storage:
        """The server that has these keys; without any, that of the keys of runs."""
        cluster, key = self._map, keys[0] if keys else f"{{{self._prefix}}}"
        if cluster is None:
            raise StorageUnavailable(self._reason)
        node = self._nodes.get(cluster.get_node_from_key(key).name)
        if node is None:
            raise StorageUnavailable("Redis is away: the cluster is changing")
        return node

    def _check_is_elsewhere(self, error: StorageUnavailable, deadline: float) -> None:
        """Raise it again, unless it says where else the keys are and there is time to go there."""
        # Older versions of redis-py have no class for them where a connection is asked.
        elsewhere = isinstance(error.__cause__, _ELSEWHERE) or _IN_WORDS.match(str(error))
        if elsewhere:
            self._look_again.set()
        if elsewhere and time.monotonic() < deadline:
            return
        self.faults += 1
        if elsewhere:
            raise StorageUnavailable(
                "Redis is away: the cluster moves what is asked for"
            ) from error
        raise error

    def _keep_mapped(self) -> None:
        waiting = pauses(connection.PAUSE_SECONDS)
        while True:
            self._look_again.wait()
            self._look_again.clear()
            if self._stopped:
                return
            try:
                self._follow_map()
            except (RedisError, StorageUnsuitable) as error:
                self._miss(error)
            except Exception:
                log.exception("fault while reading the map of the cluster")
                self._look_again.set()
            if self._look_again.is_set() or any(each.problem for each in self._nodes.values()):
                # Until all is well: a replica may take the place of its primary.
                time.sleep(next(waiting))
                self._look_again.set()
            else:
                waiting = pauses(connection.PAUSE_SECONDS)

    def _miss(self, error: Exception) -> None:
        self._reason = f"Redis is away: {error}"
        self._look_again.set()

    def _follow_map(self) -> None:
        """Read the map, and have a Storage for each primary in it, and no other."""
        known = [(node.host, node.port) for node in self._map.get_nodes()] if self._map else []
        read = _read_map(self._address, list({*self._address.hosts, *known}))
        primaries = {node.name: node for node in read.get_primaries()}
        nodes = {name: self._nodes.get(name) or self._made(primaries[name]) for name in primaries}
        gone = [each for name, each in self._nodes.items() if name not in nodes]
        changed = self._map is not None and nodes.keys() != self._nodes.keys()
        self._nodes, self._map = nodes, read
        for each in gone:
            each.stop()
        if changed:
            self._changed_at = time.monotonic()
            log.warning("the cluster has other primaries: %s", ", ".join(sorted(nodes)))
            self.on_up()

    def _made(self, node: Any) -> Storage:
        url = self._address.at(node.host, node.port)
        made = Storage(url, self._connections_each, self._prefix, self._replicas, node.name)
        made.on_up = lambda: self.on_up()
        made.on_down = self._look_again.set
        made.start()
        return made


def _guarded(script: AnyScript) -> Script:
    return _without_last_key(script.text, getattr(script, "large", False))


@functools.cache
def _without_last_key(script: str, large: bool) -> Script:
    return Script.of(f"table.remove(KEYS)\n{script}", large=large)
