"""Graphs that tell what a run's config made LangGraph and LangChain do."""

import asyncio
import operator
import threading
import time
from contextvars import ContextVar
from typing import Annotated, Any, TypedDict
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.context import register_configure_hook
from langgraph.graph import START, StateGraph
from langgraph.types import Send

WIDTH = 4
PATIENCE = 30.0
# How long each part stays, so that more than may be there at once would be seen.
DWELL = 0.05


class Traces(BaseCallbackHandler):
    """Keeps what a tracer is told of each run as a whole."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if parent_run_id is None:
            self.runs[str(run_id)] = {
                "name": kwargs.get("name"),
                "tags": tags,
                "metadata": {k: v for k, v in (metadata or {}).items() if isinstance(v, str | int)},
            }


_traces = Traces()
_handler: ContextVar[BaseCallbackHandler | None] = ContextVar("traces", default=_traces)
register_configure_hook(_handler, inheritable=True)


class Traced(TypedDict, total=False):
    trace: dict[str, Any] | None


def _trace(state: Traced, config: RunnableConfig) -> Traced:
    return {"trace": _traces.runs.get(config["metadata"]["run_id"])}


traced = (
    StateGraph(Traced).add_node("trace", _trace).add_edge(START, "trace").compile(name="traced")
)


def _larger(a: int, b: int) -> int:
    return max(a, b)


class Wide(TypedDict, total=False):
    together: int
    peak: Annotated[int, _larger]
    done: Annotated[int, operator.add]


class Meeting:
    """Counts who is there at once, and has each stay until enough have been."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.present = self.peak = 0

    def enter(self) -> None:
        with self.condition:
            self.present += 1
            self.peak = max(self.peak, self.present)
            self.condition.notify_all()

    def leave(self) -> None:
        with self.condition:
            self.present -= 1

    def wait_for(self, together: int) -> None:
        with self.condition:
            self.condition.wait_for(lambda: self.peak >= together, PATIENCE)


_meetings: dict[str, Meeting] = {}


def _split(state: Wide) -> list[Send]:
    return [Send("part", state) for _ in range(WIDTH)]


def _part(state: Wide, config: RunnableConfig) -> Wide:
    meeting = _meetings.setdefault(config["metadata"]["run_id"], Meeting())
    meeting.enter()
    meeting.wait_for(state["together"])
    time.sleep(DWELL)
    meeting.leave()
    return {"peak": meeting.peak, "done": 1}


async def _apart(state: Wide, config: RunnableConfig) -> Wide:
    meeting = _meetings.setdefault(config["metadata"]["run_id"], Meeting())
    meeting.enter()
    async with asyncio.timeout(PATIENCE):
        while meeting.peak < state["together"]:
            await asyncio.sleep(0.01)
    await asyncio.sleep(DWELL)
    meeting.leave()
    return {"peak": meeting.peak, "done": 1}


wide = (
    StateGraph(Wide)
    .add_node("part", _part)
    .add_conditional_edges(START, _split, ["part"])
    .compile(name="wide")
)

awide = (
    StateGraph(Wide)
    .add_node("part", _apart)
    .add_conditional_edges(START, _split, ["part"])
    .compile(name="awide")
)
