"""Assistants as tools that other agents call: their names, their schemas, what fits these."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runwait.assistants.assistants import Assistants
from runwait.auth.filters import Filters
from runwait.graphs import shape
from runwait.graphs.assistants import Assistant
from runwait.storage.assistants import AssistantQuery

# What a name may not have in it, and how long it may be.
_OTHERS = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST_NAME = 128
_ID_LETTERS = 8
# Assistants that are read at once, and schemas that are kept.
_AT_ONCE = 1000
_MOST_SCHEMAS = 1000
# A graph whose input or output is no object has it under this name.
INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True)
class Tool:
    """An assistant as a tool.

    Attributes:
        name: its name among all tools.
        assistant: the assistant.
    """

    name: str
    assistant: Assistant


@dataclass(frozen=True)
class Schemas:
    """JSON schemas of a tool, each of an object.

    Attributes:
        input: of its arguments.
        output: of what it gives; nothing in it is required, since a graph need not fill its output.
        wraps_input: whether the graph's input is one argument, `input`; else they are its keys.
    """

    input: dict[str, Any]
    output: dict[str, Any]
    wraps_input: bool


class Tools:
    """All assistants that somebody may see, as tools."""

    def __init__(self, assistants: Assistants) -> None:
        self._assistants = assistants
        # By assistant and version: a version never changes.
        self._schemas: dict[tuple[str, int], Schemas] = {}

    def all(self, filters: Filters | None = None) -> Iterator[Tool]:
        """All tools, in an order that stays: the system's first, then users' by their age.

        Args:
            filters: what the metadata of users' assistants must contain.
        """
        taken: set[str] = set()
        for assistant in self._all_assistants(filters or {}):
            name = _OTHERS.sub("_", assistant.name)[:_LONGEST_NAME] or "_"
            if name in taken:
                kept = _LONGEST_NAME - _ID_LETTERS - 1
                name = f"{name[:kept]}_{assistant.assistant_id[:_ID_LETTERS]}"
            if name not in taken:
                taken.add(name)
                yield Tool(name, assistant)

    def find(self, name: str, filters: Filters | None = None) -> Tool | None:
        """The tool of this name, among those that `all` has."""
        return next((each for each in self.all(filters) if each.name == name), None)

    def schemas(self, tool: Tool) -> Schemas:
        """Its schemas.

        Raises:
            GraphNotMade: the factory of its graph raised.
            UnknownGraph: its graph is not there any more.
        """
        key = (tool.assistant.assistant_id, tool.assistant.version)
        if (known := self._schemas.get(key)) is not None:
            return known
        assistant = self._assistants.resolve(tool.assistant.assistant_id)
        made = self._assistants.look(assistant, shape.schemas)
        given, taken = made["input_schema"] or {}, made["output_schema"] or {}
        wraps = not _is_object(given)
        found = Schemas(
            _wrapped(INPUT, given) if wraps else given,
            _without_required(taken) if _is_object(taken) else {"type": "object"},
            wraps,
        )
        if len(self._schemas) >= _MOST_SCHEMAS:
            self._schemas.clear()
        self._schemas[key] = found
        return found

    def problems(self, tool: Tool, arguments: dict[str, Any]) -> list[tuple[str, str]]:
        """What is wrong with a call's arguments: the path of each, and what it must be.

        Raises:
            GraphNotMade, UnknownGraph: as `schemas` does.
        """
        wraps = self.schemas(tool).wraps_input
        if wraps and INPUT not in arguments:
            return [(INPUT, "is required")]
        value = arguments[INPUT] if wraps else arguments
        found = self._assistants.look(tool.assistant, lambda graph: shape.problems(graph, value))
        if wraps:
            return [(f"{INPUT}.{path}".rstrip("."), text) for path, text in found]
        return found

    def _all_assistants(self, filters: Filters) -> Iterator[Assistant]:
        system = self._assistants.system
        yield from system
        query = AssistantQuery(permitted=filters, sort_by="created_at", sort_order="asc")
        offset, more = 0, True
        while more:
            found, _, more = self._assistants.search(query, _AT_ONCE, offset)
            offset += len(found)
            yield from (each for each in found if each not in system)


def _is_object(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "object"


def _wrapped(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object that has a value of this schema under a name."""
    inner = dict(schema)
    definitions = {key: inner.pop(key) for key in ("$defs",) if key in inner}
    return {"type": "object", "properties": {name: inner}, "required": [name], **definitions}


def _without_required(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "required"}
