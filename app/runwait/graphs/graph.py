"""A graph that can be run, whatever it was made from."""

import asyncio
import inspect
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from copy import copy
from threading import Lock
from types import FunctionType, ModuleType
from typing import Any, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.constants import START
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore

from runwait.auth.user import CALLER, RESERVED
from runwait.graphs.config import Execution
from runwait.graphs.langgraph import AccessContext, AnyPregel, ExecutionRuntime, ReadRuntime
from runwait.graphs.proof import layers, mentioned, proven_sync

logger = logging.getLogger("runwait.graphs")

T = TypeVar("T")


class Graph:
    """A graph of langgraph.json, ready to run.

    Attributes:
        graph_id: its name in langgraph.json.
        description: its description there.
        compiled: the graph, or None where a factory makes one for each run.
        execution: how `compiled` is to be run. For a factory, what langgraph.json forces, or None:
            each graph that it makes has its own proof.
        is_async_factory: whether only `amake` works.
        nodes: the names of the graph's nodes, or None for a factory.
        context_schema: the schema of the graph's context, if it has one.
        needs_checkpointer: what the function of this name says of `compiled`; None for a factory.
    """

    def __init__(
        self,
        graph_id: str,
        source: object,
        description: str | None = None,
        execution: Execution | None = None,
    ) -> None:
        """Make it from what a target of langgraph.json names.

        Args:
            source: a compiled graph, a StateGraph, or a factory of either: a function, an async
                function, a class or another callable, which takes nothing, the run's config, its
                ServerRuntime, or both, and returns the graph or a context manager that does.
            execution: forces how the graph is run.

        Raises:
            TypeError: `source` is none of these.
            ValueError: a StateGraph that doesn't compile.
        """
        self.graph_id = graph_id
        self.description = description
        self._warned = Lock()
        self._factory: Callable[..., Any] | None = None
        self._arguments: dict[str, str] = {}
        self.compiled: AnyPregel | None = None
        self.execution: Execution | None = execution
        self.is_async_factory = False
        self.nodes: frozenset[str] | None = None
        self.context_schema: type | None = None
        self.needs_checkpointer: bool | None = None

        if isinstance(source, Pregel | StateGraph):
            compiled = self.compiled = self._own(source)
            self.execution = execution or ("sync" if proven_sync(compiled) else "async")
            self.nodes = frozenset(compiled.nodes) - {START}
            self.context_schema = compiled.context_schema
            self.needs_checkpointer = needs_checkpointer(compiled)
        elif callable(source):
            self._factory = source
            self._arguments = _factory_arguments(source)
            self.is_async_factory = _is_async(source)
            if self.is_async_factory and execution == "sync":
                raise TypeError("an async factory can't have the execution sync")
        else:
            raise TypeError(f"{_a(source)} is neither a graph nor a function that makes one")

    @property
    def kind(self) -> str:
        """How it is run, in a word or two for people."""
        if self.compiled is None:
            return "made for each run"
        return str(self.execution)

    @contextmanager
    def make(
        self,
        config: RunnableConfig,
        context: Any,
        store: BaseStore,
        access: AccessContext = "threads.create_run",
    ) -> Iterator[AnyPregel]:
        """The graph for one use; a factory's clean-up comes at the end of the `with`.

        Args:
            config: the run's config, for factories.
            context: the run's context before any schema has seen it, for factories.
            store: the run's store, for factories.
            access: what the graph is wanted for, for factories; `context` is only for runs.

        Raises:
            TypeError: the factory's result is no graph, or needs `amake`.
        """
        if self.compiled is not None:
            yield self.compiled
            return
        with ExitStack() as stack:
            made = self._call(config, context, store, access)
            if isinstance(made, AbstractContextManager):
                leave, made = made.__exit__, made.__enter__()
                # How a run ended isn't for the factory to swallow.
                stack.push(lambda *raised: leave(*raised) and None)
            yield self._own(made)

    @asynccontextmanager
    async def amake(
        self,
        config: RunnableConfig,
        context: Any,
        store: BaseStore,
        access: AccessContext = "threads.create_run",
    ) -> AsyncIterator[AnyPregel]:
        """`make` on an event loop, for every kind of graph. A synchronous factory is called on a
        thread of the loop's default executor, since it may block.

        Raises:
            TypeError: the factory's result is no graph.
        """
        if self.compiled is not None:
            yield self.compiled
            return
        async with AsyncExitStack() as stack:
            if self.is_async_factory:
                made = self._call(config, context, store, access)
            else:
                made = await asyncio.to_thread(self._call, config, context, store, access)
            if inspect.isawaitable(made):
                made = await made
            manager = made
            if isinstance(manager, AbstractAsyncContextManager):
                made = await manager.__aenter__()
                stack.push_async_exit(_heedless(manager.__aexit__))
            elif isinstance(manager, AbstractContextManager):
                made = await asyncio.to_thread(manager.__enter__)
                leave = manager.__exit__
                stack.push_async_exit(_heedless(lambda *end: asyncio.to_thread(leave, *end)))
            yield self._own(made)

    def look(
        self,
        work: Callable[[AnyPregel], T],
        run_on_loop: Callable[[Coroutine[Any, Any, Any]], Any],
        config: RunnableConfig,
        context: Any,
        store: BaseStore,
        access: AccessContext,
    ) -> T:
        """What `work` makes of the graph, of which no node is run.

        Args:
            work: is called on this thread, or on another while this one waits.
            run_on_loop: runs a coroutine on the graphs' event loop and returns what it does.
            config, context, store, access: as for `make`.
        """
        # As the executor has it: some must be awaited.
        if self.compiled is None and (self.is_async_factory or self.execution == "async"):

            async def on_loop() -> T:
                async with self.amake(config, context, store, access) as made:
                    return await asyncio.to_thread(work, made)

            return cast(T, run_on_loop(on_loop()))
        with self.make(config, context, store, access) as made:
            return work(made)

    def _call(
        self, config: RunnableConfig, context: Any, store: BaseStore, access: AccessContext
    ) -> Any:
        assert self._factory is not None
        configurable = config.get("configurable") or {}
        runtime: object
        if access == "threads.create_run":
            user = configurable.get("langgraph_auth_user")
            runtime = ExecutionRuntime(
                access_context=access, context=context, store=store, user=user
            )
        else:
            configurable = _as_caller(configurable)
            runtime = ReadRuntime(access_context=access, store=store, user=CALLER.get())
        whole = {**config, "configurable": configurable}
        given: dict[str, object] = {"config": whole, "runtime": runtime}
        return self._factory(**{name: given[what] for name, what in self._arguments.items()})

    def _own(self, made: object) -> AnyPregel:
        """A compiled graph that brings no checkpointer or store of its own: these are the run's."""
        graph = made.compile() if isinstance(made, StateGraph) else made
        if not isinstance(graph, Pregel):
            hint = ""
            if inspect.isawaitable(made) or isinstance(made, AbstractAsyncContextManager):
                if inspect.iscoroutine(made):
                    made.close()
                hint = "; a factory that must be awaited needs the execution async"
            raise TypeError(f"graph {self.graph_id!r}: its factory gave {_a(made)}, no graph{hint}")
        checkpointer = False if graph.checkpointer is False else None
        is_named = graph.name != Pregel.name
        if is_named and graph.checkpointer is checkpointer and graph.store is None:
            return graph
        own = {"checkpointer": graph.checkpointer, "store": graph.store}
        # checkpointer=True brings none: it asks for the server's.
        dropped = [name for name, value in own.items() if value not in (None, True, False)]
        # The lock is never released: one warning a graph, not one for each run.
        if dropped and self._warned.acquire(blocking=False):
            logger.warning(
                "graph %r: does not use the %s it was compiled with: runs have their own",
                self.graph_id,
                " and the ".join(dropped),
            )
        # Not graph.copy(): it loses what a subclass or a later release keeps beside the
        # constructor's arguments.
        graph = copy(graph)
        graph.checkpointer = checkpointer
        graph.store = None
        if not is_named:
            # What traces and LangChain's events call it.
            graph.name = self.graph_id
        return graph


def _heedless(leave: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[None]]:
    """A way to leave a context manager that cannot keep what was raised in it."""

    async def left(*raised: Any) -> None:
        await leave(*raised)

    return left


def _as_caller(configurable: dict[str, Any]) -> dict[str, Any]:
    """A configurable for whoever only looks at a graph: what it says of a caller is true."""
    caller = CALLER.get()
    kept = {name: each for name, each in configurable.items() if not name.startswith(RESERVED)}
    return kept if caller is None else kept | caller.configurable()


def needs_checkpointer(graph: AnyPregel) -> bool:
    """Whether a subgraph that `graph` may run is compiled with `checkpointer=True`.

    Such a subgraph remembers, from one call to the next in the same run, what it did before; but
    only if the run has a checkpointer. Without one it starts afresh, and the output differs.
    Subgraphs are looked for in nodes, in the functions of nodes and edges, and in tools.
    """
    found: list[Any] = [graph]
    seen = {id(graph)}
    for thing in found:
        if isinstance(thing, Pregel) and thing.checkpointer is True and thing is not graph:
            return True
        for part in _parts(thing):
            if id(part) not in seen:
                seen.add(id(part))
                found.append(part)
    return False


def _parts(thing: Any) -> Iterator[Any]:
    """The runnables in a runnable, and those that its functions mention, as far as can be seen."""
    if isinstance(thing, Pregel):
        for node in thing.nodes.values():
            yield from (node.bound, *node.writers, *node.subgraphs)
        return
    for value in _held(thing):
        if isinstance(value, Runnable):
            yield value
        elif callable(value) and not isinstance(value, type):
            for layer in layers(value):
                owner = getattr(layer, "__self__", None)
                reached = [owner, *_held(owner)]
                if isinstance(layer, FunctionType):
                    reached += mentioned(layer)
                yield from (other for other in reached if isinstance(other, Runnable))


def _held(thing: Any) -> list[Any]:
    """An object's attributes, the members of those that are collections, or a tuple's members: the
    object in which a conditional edge keeps its path is a named tuple."""
    if isinstance(thing, tuple):
        return list(thing)
    values = [] if isinstance(thing, ModuleType) else list(getattr(thing, "__dict__", {}).values())
    for value in list(values):
        if isinstance(value, dict):
            values.extend(value.values())
        elif isinstance(value, list | tuple):
            values.extend(value)
    return values


def _factory_arguments(factory: Callable[..., Any]) -> dict[str, str]:
    """For each parameter of a factory that is given something, whether that is the config or the
    runtime. The annotation decides, then the name; an only parameter is otherwise the config, as on
    the official server."""
    try:
        parameters = [
            p
            for p in inspect.signature(factory).parameters.values()
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
    except ValueError as exc:
        raise TypeError(f"{_a(factory)} has no signature to be called by") from exc
    arguments = {}
    for parameter in parameters:
        # As text, so that it doesn't matter whether it was evaluated and can be.
        annotation = str(parameter.annotation)
        optional = parameter.default is not parameter.empty
        if re.search(r"\bRunnableConfig\b", annotation):
            arguments[parameter.name] = "config"
        elif re.search(r"\bServerRuntime\b", annotation):
            arguments[parameter.name] = "runtime"
        elif parameter.name in ("config", "runtime"):
            arguments[parameter.name] = parameter.name
        elif len(parameters) == 1 and (not optional or parameter.annotation is parameter.empty):
            arguments[parameter.name] = "config"
        elif not optional:
            raise TypeError(
                f"a factory can be given a RunnableConfig and a ServerRuntime, not {parameter}"
            )
    return arguments


def _is_async(factory: Callable[..., Any]) -> bool:
    # An @asynccontextmanager is a plain function around an async generator.
    return any(
        inspect.iscoroutinefunction(layer) or inspect.isasyncgenfunction(layer)
        for layer in layers(factory)
    )


def _a(thing: object) -> str:
    name = type(thing).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
