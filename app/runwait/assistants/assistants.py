"""Assistants: found, made and changed (contract section 2), and what their graphs look like.

Every graph has one from the start. It belongs to the deployment and stands in no database: it is
found without Redis, is the same in every process, and can be neither changed nor deleted. Those
that users make are in Redis alone, and are read there each time: none is ever out of date.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, cast
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.store.base import BaseStore

from runwait.auth.filters import Filters, permits
from runwait.graphs import shape
from runwait.graphs.assistants import Assistant, AssistantNotFound, UnknownGraph, is_uuid
from runwait.graphs.graph import Graph
from runwait.graphs.langgraph import AnyPregel
from runwait.storage.assistants import AssistantQuery, AssistantRecords
from runwait.storage.connection import StorageUnavailable
from runwait.storage.threads import ThreadQuery
from runwait.storage.times import shown
from runwait.threads.threads import Threads

log = logging.getLogger("runwait.runs")

UNTITLED = "Untitled"

_THREADS_AT_ONCE = 100

T = TypeVar("T")


class GraphNotFound(Exception):
    """An assistant can't be of this graph, since there is none; the message lists the graphs."""


class AssistantExists(Exception):
    """There is an assistant of this id already."""


class SystemAssistant(Exception):
    """The assistant belongs to the deployment."""


class TwoContexts(Exception):
    """Both configurable and context are given."""


class GraphNotMade(Exception):
    """The factory of a graph raised for this assistant; the text says what."""


@dataclass(frozen=True, kw_only=True)
class AssistantRequest:
    """What an assistant is to be; None is what the request doesn't say."""

    graph_id: str | None = None
    config: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    name: str | None = None
    description: str | None = None

    def of(self, assistant: Assistant) -> Assistant:
        """The assistant with what is asked for. Metadata is laid over, name by name; config and
        context are replaced."""
        config, context = _config_and_context(assistant, self.config, self.context)
        return replace(
            assistant,
            graph_id=assistant.graph_id if self.graph_id is None else self.graph_id,
            config=config,
            context=context,
            metadata={**assistant.metadata, **self.metadata},
            name=assistant.name if self.name is None else self.name or UNTITLED,
            description=assistant.description if self.description is None else self.description,
        )


class Assistants:
    """The system's assistants and the users'.

    A method that has to ask Redis may raise StorageUnavailable. One that reads takes the name of a
    graph for the assistant that the graph has from the start; where an assistant isn't there it
    raises AssistantNotFound, and UnknownGraph for what is neither a UUID nor a graph's name.
    """

    def __init__(
        self,
        graphs: Mapping[str, Graph],
        records: AssistantRecords,
        threads: Threads,
        store: BaseStore,
        run_on_loop: Callable[[Coroutine[Any, Any, Any]], Any],
        since: float,
    ) -> None:
        """Put it together.

        Args:
            graphs: the graphs there are, by name.
            records: the users' assistants.
            threads: the threads, which may go with an assistant.
            store: what factories of graphs are given.
            run_on_loop: runs a coroutine on the event loop of the process and returns what it does.
            since: when the system's assistants were made, in seconds since 1970; the same in all
                processes.
        """
        self._graphs = graphs
        self._records = records
        self._threads = threads
        self._store = store
        self._run_on_loop = run_on_loop
        # One after the other, so that they sort as langgraph.json has them.
        self._by_graph = {
            graph_id: Assistant.of_graph(
                graph_id, graph.description, shown(seconds=since, microseconds=place)
            )
            for place, (graph_id, graph) in enumerate(graphs.items())
        }
        self._by_id = {each.assistant_id: each for each in self._by_graph.values()}

    @property
    def system(self) -> list[Assistant]:
        """Those that graphs have from the start, as langgraph.json has them."""
        return list(self._by_graph.values())

    def resolve(self, assistant_id: str) -> Assistant:
        """The assistant to run, by its UUID or its graph's name; its graph is there.

        Raises:
            UnknownGraph: also where a deployment no longer has the graph of a user's assistant.
        """
        assistant = self.get(assistant_id)
        if assistant.graph_id not in self._graphs:
            raise UnknownGraph(
                f"assistant_id: the assistant's graph {assistant.graph_id!r} must be one of the "
                f"graphs: {self._names()}"
            )
        return assistant

    def get(self, assistant_id: str) -> Assistant:
        """An assistant."""
        if named := self._by_graph.get(assistant_id):
            return named
        if not is_uuid(assistant_id):
            raise UnknownGraph(
                f"assistant_id: must be an assistant's UUID or one of the graphs: {self._names()}"
            )
        found = self._by_id.get(assistant_id.lower()) or self._records.read(assistant_id.lower())
        if found is None:
            raise AssistantNotFound(f"assistant {assistant_id} not found")
        return found

    def require(self, assistant_id: str, filters: Filters | None) -> None:
        """Raise AssistantNotFound where an assistant is not there for whom these filters are."""
        if not _is_there_for(self.get(assistant_id), filters):
            raise AssistantNotFound(f"assistant {assistant_id} not found")

    def search(
        self, query: AssistantQuery, limit: int, offset: int
    ) -> tuple[list[Assistant], int, bool]:
        """Assistants that a query finds.

        Returns:
            Those from `offset` on, at most `limit`; how many there are in all; and whether some
            come after these.

        Raises:
            GraphNotFound: the query names a graph that isn't there.
        """
        self._check_graph(query.graph_id)
        down = query.sort_order == "desc"
        ours = sorted(filter(query.fits, self._by_id.values()), key=query.place, reverse=down)
        # The users' on this page stand, among themselves, at most so many places further ahead.
        start = max(0, offset - len(ours))
        theirs_total, theirs = self._records.search(query, start, offset + limit)
        total = len(ours) + theirs_total
        merged = sorted([*ours, *theirs], key=query.place, reverse=down)
        # Before these stand the `start` users' that were not read.
        page = merged[offset - start :][:limit]
        return page, total, offset + limit < total

    def count(self, query: AssistantQuery) -> int:
        """How many assistants a query finds.

        Raises:
            GraphNotFound: the query names a graph that isn't there.
        """
        self._check_graph(query.graph_id)
        total, _ = self._records.search(query, 0, 0)
        return total + sum(map(query.fits, self._by_id.values()))

    def create(
        self,
        request: AssistantRequest,
        assistant_id: str | None = None,
        if_exists: Literal["raise", "do_nothing"] = "raise",
        is_there: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> Assistant:
        """Make an assistant.

        Args:
            request: what it is to be; it names the graph.
            assistant_id: its UUID; None for a new one.
            if_exists: whether an assistant that is there already is an error or the answer.
            is_there: whether one with such metadata, but for the system's, is there for who asks;
                None: it is, whatever its metadata.

        Raises:
            GraphNotFound: the graph isn't there.
            TwoContexts: configurable and context.
            AssistantExists: there is one of this id.
        """
        assert request.graph_id is not None
        self._check_graph(request.graph_id)
        assistant_id = assistant_id.lower() if assistant_id else str(uuid4())
        bare = Assistant(assistant_id, request.graph_id, metadata={}, name=UNTITLED)
        wanted = request.of(bare)
        found, made = self._by_id.get(assistant_id), False
        if found is None:
            found, made = self._records.create(wanted)
        shown = is_there is None or found.is_of_system or is_there(found.metadata)
        if made or (if_exists == "do_nothing" and shown):
            return found
        raise AssistantExists(f"assistant {assistant_id} is there already")

    def patch(self, assistant_id: str, request: AssistantRequest) -> Assistant:
        """Change an assistant by making a new version.

        Raises:
            GraphNotFound: the request names a graph that isn't there.
            TwoContexts: configurable and context.
            SystemAssistant: it is one of the system's.
        """
        self._check_users(assistant_id)
        self._check_graph(request.graph_id)
        return self._found(assistant_id, self._records.change(assistant_id.lower(), request.of))

    def delete(
        self, assistant_id: str, *, delete_threads: bool = False, filters: Filters | None = None
    ) -> None:
        """Delete an assistant with all its versions. Its runs stay, and go on.

        Args:
            assistant_id: which.
            delete_threads: whether the threads go too whose metadata has this assistant_id; first,
                so that the call can be repeated where it fails half way.
            filters: what else their metadata must contain.

        Raises:
            SystemAssistant: it is one of the system's.
        """
        self._check_users(assistant_id)
        if delete_threads:
            self.get(assistant_id)
            self._delete_threads(assistant_id.lower(), filters or {})
        self._found(assistant_id, self._records.delete(assistant_id.lower()) or None)

    def versions(
        self, assistant_id: str, *, metadata: dict[str, Any], limit: int, offset: int
    ) -> list[Assistant]:
        """An assistant's versions, newest first: those whose metadata contains this."""
        if ours := self._ours(assistant_id):
            fits = AssistantQuery(metadata=metadata).fits(ours)
            return [ours][offset : offset + limit] if fits else []
        self._check_uuid(assistant_id)
        found = self._records.versions(
            assistant_id.lower(), metadata=metadata, limit=limit, offset=offset
        )
        return self._found(assistant_id, found)

    def set_latest(self, assistant_id: str, version: int) -> Assistant:
        """Make a version the current one; the next change still gets a number of its own.

        Raises:
            VersionNotFound: it has no such version.
            SystemAssistant: it is one of the system's.
        """
        self._check_users(assistant_id)
        return self._found(assistant_id, self._records.turn(assistant_id.lower(), version))

    def schemas(self, assistant_id: str) -> dict[str, Any]:
        """JSON schemas of an assistant's graph.

        Raises:
            GraphNotMade: its factory raised.
        """
        assistant = self.resolve(assistant_id)
        return {"graph_id": assistant.graph_id, **self.look(assistant, shape.schemas)}

    def graph(self, assistant_id: str, xray: int | bool = False) -> dict[str, Any]:
        """The nodes and edges of an assistant's graph; see shape.drawing.

        Raises:
            GraphNotMade: its factory raised.
        """
        return self.look(self.resolve(assistant_id), lambda graph: shape.drawing(graph, xray))

    def subgraphs(
        self, assistant_id: str, namespace: str | None = None, *, recurse: bool = False
    ) -> dict[str, Any]:
        """The graphs in an assistant's graph; see shape.subgraphs.

        Raises:
            GraphNotMade: its factory raised.
        """
        return self.look(
            self.resolve(assistant_id), lambda graph: shape.subgraphs(graph, namespace, recurse)
        )

    def look(self, assistant: Assistant, look: Callable[[AnyPregel], T]) -> T:
        """What `look` returns for an assistant's graph.

        Raises:
            GraphNotMade: its factory raised.
        """
        graph = self._graphs[assistant.graph_id]
        config = cast(RunnableConfig, assistant.config)
        if graph.compiled is not None:
            return look(graph.compiled)
        try:
            return graph.look(look, self._run_on_loop, config, None, self._store, "assistants.read")
        except StorageUnavailable:
            raise
        except (Exception, SystemExit) as error:
            log.warning("graph %r was not made to be looked at", assistant.graph_id, exc_info=error)
            text = f"{type(error).__name__}: {error}"
            raise GraphNotMade(f"graph {assistant.graph_id!r} was not made: {text}") from error

    def _delete_threads(self, assistant_id: str, filters: Filters) -> None:
        query = ThreadQuery(
            metadata={"assistant_id": assistant_id}, permitted=filters, limit=_THREADS_AT_ONCE
        )
        while True:
            found, _, _ = self._threads.search(query, select=["thread_id"])
            if not self._threads.prune(each["thread_id"] for each in found):
                return

    def _ours(self, assistant_id: str) -> Assistant | None:
        return self._by_graph.get(assistant_id) or self._by_id.get(assistant_id.lower())

    def _check_users(self, assistant_id: str) -> None:
        if ours := self._ours(assistant_id):
            raise SystemAssistant(
                f"assistant {ours.assistant_id} came with the graph {ours.graph_id!r} and can't be "
                "changed or deleted; make one of your own from that graph"
            )
        self._check_uuid(assistant_id)

    def _check_uuid(self, assistant_id: str) -> None:
        if not is_uuid(assistant_id):
            self.get(assistant_id)  # says what it must be

    def _check_graph(self, graph_id: str | None) -> None:
        if graph_id is not None and graph_id not in self._graphs:
            raise GraphNotFound(f"graph {graph_id!r} not found; the graphs are: {self._names()}")

    def _found(self, assistant_id: str, found: T | None) -> T:
        if found is None:
            raise AssistantNotFound(f"assistant {assistant_id} not found")
        return found

    def _names(self) -> str:
        return ", ".join(self._by_graph)


def _is_there_for(assistant: Assistant, filters: Filters | None) -> bool:
    """Whether an assistant is there for whom these filters are; the system's are for everybody."""
    return assistant.is_of_system or permits(filters, assistant.metadata)


def _config_and_context(
    assistant: Assistant, config: dict[str, Any] | None, context: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """An assistant's config and context after a change; configurable and context are two names of
    one thing, and each is the other's where only one is given."""
    given = (config or {}).get("configurable")
    if given and context:
        raise TwoContexts("configurable and context: at most one of them may be given")
    rest = assistant.config if config is None else config
    rest = {name: value for name, value in rest.items() if name != "configurable"}
    values = given or context or {}
    if given is None and context is None:
        values = assistant.context
    return {**rest, **({"configurable": values} if values else {})}, values
