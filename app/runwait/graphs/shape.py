"""What a graph looks like from outside: its schemas, its drawing, the graphs in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from langchain_core.messages import convert_to_messages
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from pydantic import TypeAdapter, ValidationError

from runwait.graphs.langgraph import AnyPregel
from runwait.serialization import dumps

logger = logging.getLogger("runwait.graphs")


def schemas(graph: AnyPregel) -> dict[str, Any]:
    """JSON schemas of a graph's input, output, state and context; `config_schema` is the context's
    under its older name. One that cannot be made is null."""
    context = _made(graph.get_context_jsonschema)
    return {
        "input_schema": _made(graph.get_input_jsonschema) or _part(graph, "input_schema"),
        "output_schema": _made(graph.get_output_jsonschema) or _part(graph, "output_schema"),
        "state_schema": _of_channels(graph, graph.stream_channels_list, "State"),
        "config_schema": context or {},
        "context_schema": context,
    }


def drawing(graph: AnyPregel, xray: int | bool = False) -> dict[str, Any]:
    """The graph's nodes and edges, for drawing.

    Args:
        graph: the graph.
        xray: whether subgraphs are drawn in the place of their nodes; a number says how deep.
    """
    drawn: dict[str, Any] = graph.get_graph(xray=xray).to_json()
    for node in drawn["nodes"]:
        # Which class a node is made of is nobody's business outside.
        if isinstance(node.get("data"), dict):
            node["data"].pop("id", None)
    return drawn


def subgraphs(
    graph: AnyPregel, namespace: str | None = None, recurse: bool = False
) -> dict[str, Any]:
    """The schemas of the graphs in a graph, by their namespace, such as `parent|child`.

    Args:
        graph: the graph.
        namespace: only the one of this namespace, however deep; none, if there is none.
        recurse: whether those in subgraphs are among them.
    """
    # LangGraph finds a nested namespace only when it recurses.
    found = graph.get_subgraphs(namespace=namespace, recurse=recurse or namespace is not None)
    return {name: schemas(each) for name, each in found if isinstance(each, Pregel)}


def problems(graph: AnyPregel, value: Any) -> list[tuple[str, str]]:
    """What keeps a value of JSON from being the graph's input: the path of each part that does, ""
    for the whole, and what is wrong with it. Nothing does where there is no schema."""
    found = []
    if isinstance(value, dict):
        # Their schema knows but one of the forms that a reducer of messages takes.
        given = {name: each for name, each in value.items() if _takes_messages(graph, name)}
        found += [(name, "must be messages") for name in given if not _are_messages(given[name])]
        value = {**value, **{name: [] for name in given}}
    adapters: dict[str, TypeAdapter[Any]] = {}
    if (model := _made(graph.get_input_schema)) is not None:
        adapters[""] = TypeAdapter(model)
    elif isinstance(graph, CompiledStateGraph) and isinstance(value, dict):
        names = graph.builder.schemas.get(graph.builder.input_schema, ())
        adapters = {name: _adapter(graph, name) for name in names if name in value}
    for name, adapter in adapters.items():
        try:
            # As JSON: texts stand for dates there, and for enums.
            adapter.validate_json(dumps(value[name] if name else value), strict=True)
        except ValidationError as error:
            for each in error.errors(include_url=False, include_input=False):
                path = [*([name] if name else []), *map(str, each["loc"])]
                found.append((".".join(path), each["msg"]))
        except Exception as error:  # what a schema's own validator does not expect
            found.append((name, f"{type(error).__name__}: {error}"))
    return found


def _takes_messages(graph: AnyPregel, name: str) -> bool:
    return getattr(graph.channels.get(name), "operator", None) is add_messages


def _are_messages(value: Any) -> bool:
    try:
        convert_to_messages(value if isinstance(value, list) else [value])
    except Exception:
        return False
    return True


def _made(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:
        # Types that pydantic has no schema for, most often.
        logger.debug("a schema cannot be made: %s", error)
        return None


def _part(graph: AnyPregel, which: str) -> dict[str, Any] | None:
    """The schema of a state graph's input or output by its channels, where pydantic refuses the
    class, as it does every `typing.TypedDict` before Python 3.12."""
    if not isinstance(graph, CompiledStateGraph):
        return None
    schema = getattr(graph.builder, which)
    made = _of_channels(graph, graph.builder.schemas.get(schema, ()), schema.__name__)
    required: frozenset[str] = getattr(schema, "__required_keys__", frozenset())
    return {**made, "required": sorted(required)} if required else made


def _of_channels(graph: AnyPregel, names: Iterable[str], title: str) -> dict[str, Any]:
    """A schema with a property for each channel; anything fits one whose type has no schema."""
    adapters = {name: _adapter(graph, name) for name in names}
    found, definitions = TypeAdapter.json_schemas(
        [(name, "validation", adapter) for name, adapter in adapters.items()],
        ref_template="#/$defs/{model}",
    )
    properties = {name: found[name, "validation"] for name in adapters}
    return {"title": title, "type": "object", "properties": properties, **definitions}


def _adapter(graph: AnyPregel, name: str) -> TypeAdapter[Any]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(getattr(graph.channels[name], "UpdateType", Any))
        adapter.json_schema()
    except Exception as error:
        logger.debug("channel %s has no schema: %s", name, error)
        return TypeAdapter(Any)
    return adapter
