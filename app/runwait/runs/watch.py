"""Notices a node that keeps the event loop, on which all asynchronous runs are, from the others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

log = logging.getLogger("runwait.runs")

# How long the loop may be kept, and how often it is asked whether it is.
BLOCKED_SECONDS = 1.0
PAUSE_SECONDS = 0.25


@dataclass(frozen=True)
class Block:
    """The event loop has been kept for a second.

    Attributes:
        number: which one it is in this process, from 1.
        graph, node, run_id: by whom, as far as the stack tells; else "".
        stack: where, the innermost last.
    """

    number: int
    graph: str
    node: str
    run_id: str
    stack: str


class Watch:
    """A thread that asks the loop again and again whether it goes on, while runs are on it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_blocked: Callable[[Block], None]
    ) -> None:
        """Prepare; `on_blocked` is called once for each time that the loop is kept."""
        self._loop = loop
        self._on_blocked = on_blocked
        self._runs = 0
        self._has_runs = threading.Event()
        self._loop_thread = 0
        self._blocks = 0

    def start(self) -> None:
        """Watch from now on."""
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    @contextlib.contextmanager
    def over_a_run(self) -> Iterator[None]:
        """On the loop, while a run is on it."""
        self._loop_thread = threading.get_ident()
        self._runs += 1
        self._has_runs.set()
        try:
            yield
        finally:
            self._runs -= 1
            if not self._runs:
                self._has_runs.clear()

    def _watch(self) -> None:
        while True:
            self._has_runs.wait()
            went_on = threading.Event()
            self._loop.call_soon_threadsafe(went_on.set)
            if not went_on.wait(BLOCKED_SECONDS / 2):
                frames = self._frames()
                if not went_on.wait(BLOCKED_SECONDS / 2):
                    try:
                        self._look(frames)
                    except Exception:
                        log.exception("fault while looking at the event loop")
                    del frames
                    went_on.wait()
            time.sleep(PAUSE_SECONDS)

    def _frames(self) -> list[FrameType]:
        """Where the loop is, from its present step inwards; empty where it has nothing to do."""
        frames: list[FrameType] = []
        frame = sys._current_frames().get(self._loop_thread)
        while frame is not None and not (frames and _is_a_step(frames[-1])):
            frames.append(frame)
            frame = frame.f_back
        return frames[::-1] if frame is not None else []

    def _look(self, before: list[FrameType]) -> None:
        frames = self._frames()
        if not frames or not before or frames[0] is not before[0]:
            return  # it goes on, if slowly: there is much to do, or the machine is busy
        self._blocks += 1
        found = next(filter(None, map(_metadata, reversed(frames))), {})
        graph, node, run_id = (
            str(found.get(name, "")) for name in ("graph_id", "langgraph_node", "run_id")
        )
        stack = traceback.StackSummary.extract((each, each.f_lineno) for each in frames[1:])
        block = Block(self._blocks, graph, node, run_id, "".join(stack.format()).rstrip())
        self._on_blocked(block)


def _is_a_step(frame: FrameType) -> bool:
    return frame.f_code.co_name == "_run" and "asyncio" in frame.f_code.co_filename


def _metadata(frame: FrameType) -> Mapping[str, Any]:
    """The metadata of the LangGraph config that a function has, if it has one."""
    config = frame.f_locals.get("config")
    metadata = config.get("metadata") if isinstance(config, dict) else None
    return metadata if isinstance(metadata, dict) and "graph_id" in metadata else {}
