"""Checkpointers: each for the classes that its graph's state holds."""

from __future__ import annotations

import sys
from typing import Any
from weakref import WeakKeyDictionary

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.pregel import Pregel

from runwait.storage.checkpoint import RedisSaver, ScriptRunner, allowlist_of, serializer


class Savers:
    """Makes the checkpointers of this service's threads."""

    def __init__(self, prefix: str, key: str | None, most: int | None = None) -> None:
        """Prepare, once all graphs are loaded: of the modules that there are now, values may have
        all classes that are plain data.

        Args:
            prefix: what all keys begin with.
            key: of 16, 24 or 32 bytes, to encrypt with; None: nothing is encrypted.
            most: bytes that a value may take, when it is stored; None: any number.
        """
        self._most = most
        self._prefix = prefix
        self._serializer = serializer(key.encode() if key else None, modules=sys.modules)
        # Going over a graph's schemas takes longer than a short run.
        self._serializers: WeakKeyDictionary[Any, SerializerProtocol] = WeakKeyDictionary()

    def plain(self, runner: ScriptRunner, token: int | None = None) -> RedisSaver:
        """A checkpointer that knows no classes of a graph that are not in a module."""
        return RedisSaver(
            runner, prefix=self._prefix, serde=self._serializer, token=token, most=self._most
        )

    def of(
        self,
        graph: Pregel[Any, Any, Any, Any],
        runner: ScriptRunner,
        token: int | None = None,
        *,
        from_elsewhere: bool = False,
    ) -> RedisSaver:
        """The checkpointer of a graph.

        Args:
            graph: whose threads they are.
            runner: how Redis is reached.
            token: the fencing token of the run that writes.
            from_elsewhere: whether it goes on from a checkpoint that it names.
        """
        saver = self.plain(runner, token)
        found = self._serializers.get(graph)
        if found is None:
            found = saver.with_allowlist(allowlist_of(graph)).serde
            self._serializers[graph] = found
        saver.serde = found
        return saver.from_elsewhere() if from_elsewhere else saver
