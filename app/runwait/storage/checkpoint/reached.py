"""The classes that a graph's state may hold, beside those of modules that are loaded anyhow."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import pydantic
import pydantic.v1
from langchain_core.runnables.utils import get_function_nonlocals
from langgraph.func import _TaskFunction
from typing_extensions import get_type_hints, is_typeddict

from .classes import kind_of

# A collection with more than that is data, not what a graph is made of.
_MANY = 100


def allowlist_of(graph: Any) -> set[Any]:
    """The classes that a compiled graph's state may hold, for `with_allowlist`.

    These are the classes that the annotations of its schemas and channels reach, of its subgraphs
    too, of the entrypoint's function and of what its tasks return, those that its nodes are
    closures over, as where a function makes class and graph, and their subclasses; of all those,
    the ones of which values are kept.
    """
    found: dict[int, Any] = {}
    for each in _with_subgraphs(graph):
        for annotation in _annotations(each):
            _collect(annotation, found)
    return {
        kind
        for kind in found.values()
        if isinstance(kind, type)
        and kind.__module__ != "builtins"
        and kind_of(kind).code is not None
    }


def _with_subgraphs(graph: Any) -> Iterator[Any]:
    yield graph
    if hasattr(graph, "get_subgraphs"):
        for _, subgraph in graph.get_subgraphs(recurse=True):
            yield subgraph


def _annotations(graph: Any) -> Iterator[Any]:
    builder = getattr(graph, "builder", None)
    if builder is not None:
        for name in ("state_schema", "input_schema", "output_schema", "context_schema"):
            yield getattr(builder, name, None)
        yield from getattr(builder, "schemas", ())
        for node in builder.nodes.values():
            yield node.input_schema
        for branches in builder.branches.values():
            for branch in branches.values():
                yield branch.input_schema
    for node in getattr(graph, "nodes", {}).values():
        for function in (getattr(node.bound, "func", None), getattr(node.bound, "afunc", None)):
            if builder is None:
                yield from _hints(inspect.unwrap(function)).values() if function else ()
            yield from _enclosed(function, set())
    for channel in getattr(graph, "channels", {}).values():
        for name in ("ValueType", "UpdateType"):
            # Some channels have neither, and say so by an error of their own.
            try:
                yield getattr(channel, name)
            except Exception:  # nosec B112 # as said above
                continue


def _enclosed(value: Any, seen: set[int]) -> Iterator[Any]:
    """The classes, and what tasks return, that a function is a closure over, however deep."""
    if id(value) in seen:
        return
    seen.add(id(value))
    inner: list[Any] = []
    if isinstance(value, type):
        yield value
    elif isinstance(value, dict | list | tuple | set | frozenset):
        if len(value) <= _MANY:
            inner = list(value.values() if isinstance(value, dict) else value)
    elif dataclasses.is_dataclass(value):
        inner = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    elif isinstance(value, _TaskFunction):
        yield _hints(value.func).get("return")
        inner = [value.func]
    elif callable(value):
        function = inspect.unwrap(value)
        # A task may be a global name too; a class that is one is found anyhow.
        with suppress(ValueError):  # of a variable that has no value yet
            named = get_function_nonlocals(function)
            inner = [each for each in named if isinstance(each, _TaskFunction)]
        for cell in getattr(function, "__closure__", None) or ():
            with suppress(ValueError):
                inner.append(cell.cell_contents)
    for each in inner:
        yield from _enclosed(each, seen)


def _collect(annotation: Any, found: dict[int, Any]) -> None:
    if annotation is None or id(annotation) in found:
        return
    found[id(annotation)] = annotation
    for name in ("__origin__", "__supertype__", "__bound__", "__value__"):
        _collect(getattr(annotation, name, None), found)
    _collect(getattr(annotation, "__pydantic_generic_metadata__", {}).get("origin"), found)
    # Of Annotated, only its first argument is a type; the others may be anything.
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        arguments = arguments[:1]
    for argument in (*arguments, *getattr(annotation, "__constraints__", ())):
        for each in argument if isinstance(argument, list) else (argument,):
            _collect(each, found)
    if not isinstance(annotation, type) or not _is_composed(annotation):
        return
    for each in _hints(annotation).values():
        _collect(each, found)
    if not is_typeddict(annotation):
        subclasses: list[type] = type.__subclasses__(annotation)
        for each in subclasses:
            _collect(each, found)


def _is_composed(kind: type) -> bool:
    """Whether it is made of fields, and is none of the bases that all such classes have."""
    if kind in (pydantic.BaseModel, pydantic.v1.BaseModel):
        return False
    return (
        is_typeddict(kind)
        or dataclasses.is_dataclass(kind)
        or issubclass(kind, pydantic.BaseModel | pydantic.v1.BaseModel)
        or hasattr(kind, "_field_defaults")
    )


def _hints(kind: Any) -> Mapping[str, Any]:
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        # pydantic has put in what type variables stand for.
        return {name: field.annotation for name, field in kind.model_fields.items()}
    try:
        return get_type_hints(kind, include_extras=True)
    except Exception:
        # A name that cannot be resolved.
        return {}
