"""The checkpointer that LangGraph is given."""

from __future__ import annotations

import copy
import os
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from .errors import UnrevivableValue, UnstorableValue
from .plans import Plan, Plans, Search
from .runner import ScriptRunner
from .serializer import serializer

_T = TypeVar("_T")


class RedisSaver(BaseCheckpointSaver[str]):
    """Checkpoints in Redis.

    All methods, with their `a...` twins for an event loop, do what `BaseCheckpointSaver` says. What
    the runner raises passes through. With a fencing token, whatever changes a thread is refused
    (`Fenced`) unless the thread was claimed for this token or a lower one.
    """

    def __init__(
        self,
        runner: ScriptRunner,
        *,
        prefix: str = "langgraph",
        serde: SerializerProtocol | None = None,
        token: int | None = None,
        most: int | None = None,
    ) -> None:
        """Prepare; nothing is called yet.

        Args:
            runner: how scripts reach Redis.
            prefix: what all keys start with.
            serde: default: `serializer()`, which is strict.
            token: fencing token, above 0 and below 2**53 - 1.
            most: bytes that a value may take, when it is stored; None: any number.
        """
        super().__init__(serde=serde or serializer())
        self.runner = runner
        self.prefix = prefix
        self.token = token
        self.most = most
        self.passed_over: dict[str, list[UnrevivableValue]] | None = None
        self._from_elsewhere = False
        self._refused: list[UnstorableValue] = []

    def fenced(self, token: int) -> RedisSaver:
        """The same saver for the holder of a fencing token.

        Reading the latest state of a thread claims it for the token, unless a higher one has.
        """
        clone = copy.copy(self)
        clone.token, clone._refused = token, []
        return clone

    def lenient(self) -> RedisSaver:
        """The same saver for one who only looks: what cannot be revived is passed
        over, and noted in its `passed_over`, by the checkpoint's id."""
        clone = copy.copy(self)
        clone.passed_over = {}
        return clone

    def from_elsewhere(self) -> RedisSaver:
        """The same saver for one who goes on from a checkpoint that he names. LangGraph asks for
        the latest one all the same, for its id: that need not be one that can be revived."""
        clone = copy.copy(self)
        clone._from_elsewhere = True
        return clone

    def with_allowlist(self, extra_allowlist: Collection[Any]) -> RedisSaver:
        """The same saver for a graph whose state holds these types; see `allowlist_of`."""
        return cast(RedisSaver, super().with_allowlist(extra_allowlist))

    def get_next_version(self, current: str | None, channel: None) -> str:
        """The next version of a channel.

        Its random part tells two branches of a thread apart, which count on from the same number.
        """
        number = int(str(current).partition(".")[0]) + 1 if current is not None else 1
        # Not of `random`: a node that seeds it would get the same versions on each branch.
        return f"{number:010}.{os.urandom(6).hex()}"

    def raise_fence(self, thread_id: str, token: int) -> None:
        """Claim a thread for a token, so that holders of lower ones cannot change it any more.

        Raises:
            Fenced: it is claimed for a higher token.
        """
        self._do(self._plans.raise_fence(thread_id, token))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, with the values of new versions.

        Raises:
            Fenced: another token has claimed the thread.
            UnstorableValue: one of the values; then nothing is stored.
        """
        plan = self._plans.put(config, checkpoint, metadata, new_versions)
        return self._do(self._if_whole(plan, is_checkpoint=True))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """`put`, for an event loop."""
        plan = self._plans.put(config, checkpoint, metadata, new_versions)
        return await self._ado(self._if_whole(plan, is_checkpoint=True))

    def check(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
        writes: Sequence[tuple[Any, ...]],
    ) -> None:
        """Find out whether `put` of this, and `put_writes` with each of these, would be taken.

        Raises:
            UnstorableValue: one of the values.
        """
        # A plan makes bytes of its values before it calls anything.
        next(self._plans.put(config, checkpoint, metadata, new_versions))
        for each in writes:
            next(self._plans.put_writes(*each))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote on a checkpoint.

        Raises:
            Fenced: another token has claimed the thread.
            UnstorableValue: one of the values; then nothing is stored.
        """
        self._do(self._if_whole(self._plans.put_writes(config, writes, task_id, task_path)))

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """`put_writes`, for an event loop."""
        plan = self._plans.put_writes(config, writes, task_id, task_path)
        await self._ado(self._if_whole(plan))

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """A checkpoint, or the latest of its namespace.

        Raises:
            Fenced: another token has claimed the thread.
            UnrevivableValue: one of its values.
        """
        return self._do(self._plans_to_read(config).get_tuple(config))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """`get_tuple`, for an event loop."""
        return await self._ado(self._plans_to_read(config).get_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, of each namespace newest first, read from Redis by pages.

        Without a config, those of all threads: that looks at every key that Redis has.
        """
        search = Search(filter, before, limit)
        for thread, ns in self._do(self._plans.places(config)):
            while search.goes_on:
                yield from self._do(self._plans.next_page(search, thread, ns, config))
            search.start_over()

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """`list`, for an event loop."""
        search = Search(filter, before, limit)
        for thread, ns in await self._ado(self._plans.places(config)):
            while search.goes_on:
                for found in await self._ado(self._plans.next_page(search, thread, ns, config)):
                    yield found
            search.start_over()

    def delete_thread(self, thread_id: str) -> None:
        """Delete all of a thread, in one step.

        Its fence stays for an hour, so that whoever ran on it is refused: at this saver's token,
        which runs on a new thread of this name have to exceed, or else above all tokens.
        """
        self._do(self._plans.delete_thread(thread_id))

    async def adelete_thread(self, thread_id: str) -> None:
        """`delete_thread`, for an event loop."""
        await self._ado(self._plans.delete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str], *, thread_id: str | None = None) -> None:
        """Take back runs: their checkpoints, and what the last one wrote on those of others.

        Args:
            run_ids: as in the metadata of their configs.
            thread_id: where they ran; else they are looked for in all threads, by way of every key
                that Redis has.

        Raises:
            Fenced: another token has claimed the thread.
            ValueError: the saver has a token, and no thread is named.
        """
        self._do(self._plans.delete_for_runs(run_ids, thread_id))

    async def adelete_for_runs(
        self, run_ids: Sequence[str], *, thread_id: str | None = None
    ) -> None:
        """`delete_for_runs`, for an event loop."""
        await self._ado(self._plans.delete_for_runs(run_ids, thread_id))

    def take_back_refused(self, thread_id: str, run_id: str, *, whole: bool = False) -> None:
        """Take back what a run's last step wrote, since a channel refused it; all of a run that had
        just begun.

        Args:
            thread_id: where it ran.
            run_id: as in the metadata of its config.
            whole: all of the run in any case.

        Raises:
            Fenced: another token has claimed the thread.
        """
        self._do(self._plans.take_back_refused(thread_id, run_id, whole))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Make a thread the same as another: what it had before is deleted.

        A copy that broke off is mended by copying again.
        """
        self._do(self._plans.copy_thread(source_thread_id, target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """`copy_thread`, for an event loop."""
        await self._ado(self._plans.copy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete the history of threads (`keep_latest`), or all of them (`delete`).

        Of each namespace the latest checkpoint stays, and of its ancestors those that channels
        which are stored as changes (`DeltaChannel`) are rebuilt from.
        """
        self._do(self._plans.prune(thread_ids, strategy))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """`prune`, for an event loop."""
        await self._ado(self._plans.prune(thread_ids, strategy))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What channels are rebuilt from, read from Redis by pages."""
        return self._do(self._plans.delta_history(config, channels))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """`get_delta_channel_history`, for an event loop."""
        return await self._ado(self._plans.delta_history(config, channels))

    def _if_whole(self, plan: Plan[_T], *, is_checkpoint: bool = False) -> Plan[_T]:
        """The plan; but the holder of a token stores nothing more once a checkpoint was refused, so
        that none is built on what is not there."""
        if self._refused:
            raise self._refused[0]
        try:
            return (yield from plan)
        except UnstorableValue as error:
            if is_checkpoint and self.token is not None:
                self._refused.append(error)
            raise

    @property
    def _plans(self) -> Plans:
        return Plans(self.prefix, self.serde, self.token, self.most, self.passed_over)

    def _plans_to_read(self, config: RunnableConfig) -> Plans:
        asked = config["configurable"]
        if self._from_elsewhere and not (asked.get("checkpoint_id") or asked.get("checkpoint_ns")):
            return self._plans._replace(passed_over={})
        return self._plans

    def _do(self, plan: Plan[_T]) -> _T:
        try:
            call = next(plan)
            while True:
                call = plan.send(self.runner.call(*call))
        except StopIteration as end:
            return cast(_T, end.value)

    async def _ado(self, plan: Plan[_T]) -> _T:
        try:
            call = next(plan)
            while True:
                call = plan.send(await self.runner.acall(*call))
        except StopIteration as end:
            return cast(_T, end.value)
