"""Executes graphs in this process, off the request threads.

Two ways with one outcome: graphs that are proven synchronous on a pool of threads, all
others on one event loop. What comes out is what `graph.invoke` returns, by the same means:
the last of the streamed values, and the interrupts from the streamed updates. Unlike
`invoke`, that leaves the values so far at hand when a run is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.constants import START
from langgraph.runtime import RunControl, Runtime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.stream import ProtocolEvent
from langgraph.types import Durability

from runwait import forks
from runwait.graphs.context import coerce_context
from runwait.graphs.graph import Graph, needs_checkpointer
from runwait.graphs.langgraph import (
    CHECKPOINTER,
    INTERRUPT,
    RUNTIME,
    AnyPregel,
    Saver,
    unknown_nodes,
    witness,
)
from runwait.graphs.proof import proven_sync
from runwait.logs import about
from runwait.pool import Pool, Turns
from runwait.runs.translation import Namespace
from runwait.runs.watch import Block, Watch

log = logging.getLogger("runwait.runs")

T = TypeVar("T")

# Threads that hand on what ends on the event loop, and other short work that may block.
HELPERS = 8
# Synchronous runs that nobody waits for begin one after the other, or so many seconds apart.
TURN_SECONDS = 0.005


class UnknownNode(ValueError):
    """The request names nodes that the graph lacks."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A graph and all that it is run with.

    Attributes:
        graph: the graph.
        input: the graph's input, or a Command.
        config: LangGraph's config of the run.
        context: the run's context before the graph's schema has seen it.
        interrupt_before: node names, "*" for all, or None.
        interrupt_after: likewise.
        named_nodes: the nodes that the request names, by the field that does; the graph must
            have them.
        store: the store of the graph's nodes.
        checkpointer: makes what keeps the thread's state, for the graph; None for a thread that
            goes with the run.
        durability: when checkpoints are written; of no effect without a checkpointer.
        prepare: called with the graph and its checkpointer before it runs, on a thread that may
            block; says what it starts with in place of `input` and of the config's checkpoint.
        modes: stream modes of LangGraph's that are wanted besides values and updates.
        subgraphs: whether those of subgraphs are wanted too.
        wants_events: whether LangChain's events are wanted; such a graph runs on the loop.
        is_protocol: whether it is streamed by LangGraph's event protocol; it runs on the loop too.
        emit: called with the namespace, mode and payload of each chunk that is streamed.
        enter: called first in each context that the graph runs in.
        ids: what log lines have beside the run's and the request's.
    """

    graph: Graph
    input: Any
    config: RunnableConfig
    context: dict[str, Any]
    interrupt_before: Literal["*"] | Sequence[str] | None = None
    interrupt_after: Literal["*"] | Sequence[str] | None = None
    named_nodes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    store: BaseStore = field(default_factory=InMemoryStore)
    checkpointer: Callable[[AnyPregel], Saver] | None = None
    durability: Durability | None = None
    prepare: Callable[[AnyPregel, Saver], Start] | None = None
    modes: frozenset[str] = frozenset()
    subgraphs: bool = False
    wants_events: bool = False
    is_protocol: bool = False
    emit: Callable[[Namespace, str, Any], None] = lambda namespace, mode, payload: None
    enter: Callable[[], object] = lambda: None
    ids: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """What a graph starts with.

    Attributes:
        input: its input, a Command, or None to go on.
        from_latest: to start from the thread's latest checkpoint, whatever the config names.
    """

    input: Any
    from_latest: bool = False


@dataclass(eq=False)
class Execution:
    """A job under way, and what is known of it so far.

    Attributes:
        values: the graph's values so far; None before the first.
        interrupts: interrupts that are pending.
        interrupted: whether the graph stopped to be resumed.
    """

    job: Job
    ended: Callable[[Execution, BaseException | None], None]
    control: RunControl = field(default_factory=RunControl)
    values: Any = None
    interrupts: list[Any] = field(default_factory=list)
    interrupted: bool = False
    task: asyncio.Task[None] | None = None

    def note(self, chunk: Any) -> None:
        """Note a streamed chunk, and pass it on."""
        forks.end_if_child()
        namespace, mode, payload = chunk if self.job.subgraphs else ((), *chunk)
        self.observe(namespace, mode, payload)
        self.job.emit(namespace, mode, payload)

    def observe(self, namespace: Namespace, mode: str, payload: Any) -> None:
        """Note what something that was streamed says of the run."""
        if not namespace:
            if mode == "values":
                self.values = payload
            elif mode == "updates" and isinstance(payload, dict) and INTERRUPT in payload:
                self.interrupted = True
                self.interrupts.extend(payload[INTERRUPT])


class Executor:
    """The process's places to execute runs in."""

    def __init__(
        self, concurrency: int, after: Callable[[float, Callable[[], None]], object]
    ) -> None:
        """Prepare; no thread is started before `start`.

        Args:
            concurrency: how many runs may execute at once.
            after: does something that does not block, some seconds later.
        """
        self._places = threading.Semaphore(concurrency)
        self._pool = Pool(concurrency, "run")
        self._turns = Turns(self._pool, TURN_SECONDS, after)
        self._helpers = Pool(HELPERS, "helper")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: Watch | None = None
        self.on_free: Callable[[], None] = lambda: None
        self.on_blocked: Callable[[Block], None] = lambda block: None

    def start(self) -> None:
        """Start the event loop."""
        loop = self._loop = asyncio.SelectorEventLoop(forks.Selector())
        # Synchronous nodes of asynchronous graphs run in the loop's default executor,
        # which by itself has a handful of threads.
        loop.set_default_executor(self._pool)
        threading.Thread(target=self._run_loop, args=(loop,), name="loop", daemon=True).start()
        self._watch = Watch(loop, self.on_blocked)
        self._watch.start()
        self._pool.start()
        self._helpers.start()

    def reserve(self) -> bool:
        """Take a place, if one is free. `submit` or `release` must follow."""
        return self._places.acquire(blocking=False)

    def release(self) -> None:
        """Give back a place that was reserved and not used."""
        self._places.release()
        self.on_free()

    def submit(
        self,
        job: Job,
        ended: Callable[[Execution, BaseException | None], None],
        *,
        is_awaited: bool = True,
    ) -> Execution:
        """Execute a job in the place that was reserved for it.

        Args:
            job: what to run.
            ended: called once, on a thread that may block, when the graph has returned
                (None) or raised, even if it was stopped before.
            is_awaited: whether somebody waits for it, so that it begins at once.
        """
        execution = Execution(job, ended)
        on_loop = job.graph.execution == "async" or job.graph.is_async_factory
        if on_loop or job.wants_events or job.is_protocol:
            self._spawn(execution, self._run_async(execution))
        else:
            run = partial(_context(job).run, self._run_sync, execution)
            begin = self._pool.submit_or_put_off if is_awaited else self._turns.submit
            begin(run)
        return execution

    def stop(self, execution: Execution) -> None:
        """Stop at the next superstep, or at once where the graph awaits."""
        execution.control.request_drain("stopped")

        def cancel() -> None:
            if execution.task is not None:
                execution.task.cancel()

        self._loop_now().call_soon_threadsafe(cancel)

    def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns that runs on the event loop; blocks until it does."""
        return asyncio.run_coroutine_threadsafe(work, self._loop_now()).result()

    def help(self, work: Callable[[], None]) -> None:
        """Do something short that may block, soon, on a thread that may."""
        self._helpers.submit(_logged, work)

    def _end(self, execution: Execution, error: BaseException | None) -> None:
        forks.end_if_child()
        try:
            execution.ended(execution, error)
        except Exception:
            log.exception("fault at the end of a run")
        finally:
            # Through these it holds its run, which holds it: values of some MB would be there until
            # garbage is collected. Those of a failed run are: LangGraph's frames hold the error,
            # which holds them, and clearing frames would end coroutines that handed the error on.
            del execution.job, execution.ended
            self.release()

    def _run_sync(self, execution: Execution) -> None:
        error: BaseException | None = None
        try:
            if not self._stream_sync(execution):
                return
        except BaseException as raised:
            error = raised
        self._end(execution, error)

    def _stream_sync(self, execution: Execution) -> bool:
        """Stream the graph on this thread; False if it goes on on the loop."""
        job = execution.job
        with contextlib.ExitStack() as stack:
            graph = stack.enter_context(job.graph.make(*_for_factories(job)))
            if job.graph.execution is None and not proven_sync(graph):
                self._spawn(execution, self._continue_async(execution, graph, stack.pop_all()))
                return False
            arguments = _arguments(execution, graph)
            for chunk in graph.stream(**arguments):
                execution.note(chunk)
        return True

    async def _run_async(self, execution: Execution) -> None:
        job = execution.job
        async with job.graph.amake(*_for_factories(job)) as graph:
            await self._stream(execution, graph)

    async def _continue_async(
        self, execution: Execution, graph: AnyPregel, made: contextlib.ExitStack
    ) -> None:
        """Run a graph that a synchronous factory made and that must not run synchronously."""
        try:
            await self._stream(execution, graph)
        finally:
            await asyncio.to_thread(made.close)

    async def _stream(self, execution: Execution, graph: AnyPregel) -> None:
        if execution.control.drain_requested:
            raise asyncio.CancelledError
        if execution.job.prepare is None:
            arguments = _arguments(execution, graph)
        else:
            arguments = await asyncio.to_thread(_arguments, execution, graph)
        if execution.job.wants_events:
            await self._stream_events(execution, graph, arguments)
            return
        if execution.job.is_protocol:
            await self._stream_protocol(execution, graph, arguments)
            return
        chunks = cast(AsyncGenerator[Any], graph.astream(**arguments))
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                execution.note(chunk)

    async def _stream_events(
        self, execution: Execution, graph: AnyPregel, arguments: dict[str, Any]
    ) -> None:
        """Run a graph whose callbacks' events are wanted: among them are the chunks."""
        run_id = str(arguments["config"]["run_id"])
        events = cast(AsyncGenerator[Any], graph.astream_events(**arguments, version="v2"))
        async with contextlib.aclosing(events):
            async for event in events:
                if event["event"] == "on_chain_stream" and event["run_id"] == run_id:
                    # Of modes that nobody asked for, too.
                    execution.note(event["data"]["chunk"])
                else:
                    execution.job.emit((), "events", event)

    async def _stream_protocol(
        self, execution: Execution, graph: AnyPregel, arguments: dict[str, Any]
    ) -> None:
        """Run a graph by LangGraph's event protocol, with the transformers that it has."""
        emit = execution.job.emit

        def see(event: ProtocolEvent) -> None:
            namespace, data = tuple(event["params"]["namespace"]), event["params"]["data"]
            execution.observe(namespace, event["method"], data)
            if event["method"] == "tasks":  # which LangGraph keeps back
                emit(namespace, "tasks", data)

        del arguments["subgraphs"]
        modes = arguments.pop("stream_mode")
        streamed = await graph.astream_events(
            **arguments, version="v3", transformers=[witness(modes, see)]
        )
        async with streamed:
            async for event in streamed:
                if event["method"] != "tasks":
                    params = event["params"]
                    emit(tuple(params["namespace"]), event["method"], params["data"])

    def _spawn(self, execution: Execution, work: Coroutine[Any, Any, None]) -> None:
        async def see_to_its_end() -> None:
            # Known only from here on: a task that is cancelled before it begins does nothing at
            # all, and its place would never come free.
            execution.task = asyncio.current_task()
            assert self._watch is not None
            try:
                with self._watch.over_a_run():
                    await work
            except BaseException as raised:
                error: BaseException | None = raised
            else:
                error = None
            self.help(partial(self._end, execution, error))

        # A context of its own: what a run sets there is not for the next one.
        loop = self._loop_now()
        context = _context(execution.job)
        loop.call_soon_threadsafe(lambda: loop.create_task(see_to_its_end(), context=context))

    def _loop_now(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None, "the executor was not started"
        return self._loop

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while True:
            try:
                loop.run_forever()
            except BaseException as error:
                # asyncio lets SystemExit and KeyboardInterrupt of any task end the loop; the
                # task has it too, so its run ends with it, and the others must go on.
                log.warning("a graph raised %s on the event loop", type(error).__name__)


def _context(job: Job) -> Context:
    """One of a run's own, in which what it logs has its ids."""
    configurable = job.config.get("configurable", {})
    names = {"run_id": "run_id", "request_id": "langgraph_request_id"}
    ids = {name: configurable[key] for name, key in names.items() if key in configurable}
    context = Context()
    context.run(about.set, {**ids, **job.ids})
    context.run(job.enter)
    return context


def _for_factories(job: Job) -> tuple[RunnableConfig, dict[str, Any], BaseStore]:
    """What a factory may ask for."""
    return job.config, job.context, job.store


def _arguments(execution: Execution, graph: AnyPregel) -> dict[str, Any]:
    """What `stream` and `astream` are called with."""
    job = execution.job
    problems = unknown_nodes(job.named_nodes, frozenset(graph.nodes) - {START})
    if problems:
        raise UnknownNode("; ".join(f"{path}: {text}" for path, text in problems))
    checkpointer = job.checkpointer(graph) if job.checkpointer is not None else None
    start = Start(job.input)
    if job.prepare is not None and checkpointer is not None:
        start = job.prepare(graph, checkpointer)
    context = coerce_context(graph.context_schema, job.context)
    configurable = {
        **{
            name: value
            for name, value in job.config["configurable"].items()
            if not (start.from_latest and name.startswith("checkpoint_"))
        },
        # LangGraph takes an empty context for none, unless it stands here too.
        RUNTIME: Runtime(context=context, store=job.store),
    }
    if checkpointer is not None:
        configurable[CHECKPOINTER] = checkpointer
    elif job.graph.needs_checkpointer if job.graph.compiled else needs_checkpointer(graph):
        configurable[CHECKPOINTER] = InMemorySaver()
    return {
        "input": start.input,
        "config": {**job.config, "configurable": configurable},
        "context": context,
        "stream_mode": list({"updates": None, "values": None} | dict.fromkeys(sorted(job.modes))),
        "subgraphs": job.subgraphs,
        "output_keys": graph.output_channels,
        "interrupt_before": job.interrupt_before,
        "interrupt_after": job.interrupt_after,
        "control": execution.control,
        # LangGraph fails if it is told a durability and has no checkpointer.
        **({"durability": job.durability} if checkpointer is not None else {}),
    }


def _logged(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:
        log.exception("fault in the background")
