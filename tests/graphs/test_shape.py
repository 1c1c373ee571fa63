"""What graphs look like from outside."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from pydantic import BaseModel

from runwait.graphs import shape


class Plain(TypedDict):
    text: str
    seen: Annotated[list[str], operator.add]


class TextOnly(TypedDict, total=False):
    text: str


class Model(BaseModel):
    count: int
    names: list[str] = []


@dataclass
class Context:
    level: int = 1


class Odd:
    """Pydantic makes no schema of this."""


class WithOdd(TypedDict):
    odd: Odd
    text: str


def a_graph(state: Any = Plain, **options: Any) -> Any:
    return StateGraph(state, **options).add_node("node", lambda state: {}).add_edge(START, "node")


def nested() -> Any:
    leaf = a_graph().compile()
    middle = StateGraph(Plain).add_node("leaf", leaf).add_edge(START, "leaf").compile()
    outer = StateGraph(Plain).add_node("middle", middle).add_node("other", leaf)
    return outer.add_edge(START, "middle").add_edge("middle", "other").compile()


class TestSchemas:
    def test_input_and_output_have_their_own(self) -> None:
        graph = a_graph(input_schema=TextOnly, output_schema=Model)
        found = shape.schemas(graph.compile())
        assert set(found["input_schema"]["properties"]) == {"text"}
        assert "required" not in found["input_schema"]
        assert set(found["output_schema"]["properties"]) == {"count", "names"}
        assert found["output_schema"]["required"] == ["count"]

    def test_a_typed_dict_says_what_is_required(self) -> None:
        found = shape.schemas(a_graph().compile())["input_schema"]
        assert found["type"] == "object"
        assert sorted(found["required"]) == ["seen", "text"]
        assert found["properties"]["text"]["type"] == "string"
        assert found["properties"]["seen"]["type"] == "array"

    def test_the_state_has_all_channels(self) -> None:
        found = shape.schemas(a_graph(input_schema=TextOnly).compile())["state_schema"]
        assert found["properties"] == {
            "text": {"type": "string"},
            "seen": {"type": "array", "items": {"type": "string"}},
        }

    def test_models_in_channels_are_defined_beside_them(self) -> None:
        class State(TypedDict):
            inner: Model

        found = shape.schemas(a_graph(State).compile())["state_schema"]
        assert found["properties"]["inner"] == {"$ref": "#/$defs/Model"}
        assert set(found["$defs"]["Model"]["properties"]) == {"count", "names"}

    def test_what_has_no_schema_may_be_anything(self) -> None:
        found = shape.schemas(a_graph(WithOdd).compile())
        assert found["state_schema"]["properties"] == {"odd": {}, "text": {"type": "string"}}
        assert found["input_schema"]["properties"] == {"odd": {}, "text": {"type": "string"}}

    def test_the_context_has_one_if_there_is_one(self) -> None:
        found = shape.schemas(a_graph(context_schema=Context).compile())
        assert found["context_schema"]["properties"]["level"]["default"] == 1
        assert found["config_schema"] == found["context_schema"]
        found = shape.schemas(a_graph().compile())
        assert (found["context_schema"], found["config_schema"]) == (None, {})

    def test_an_entrypoint_may_take_and_give_scalars(self) -> None:
        @entrypoint()
        def flow(number: int) -> str:
            return str(number)

        found = shape.schemas(flow)
        assert found["input_schema"]["type"] == "integer"
        assert found["output_schema"]["type"] == "string"


class TestDrawing:
    def test_has_nodes_by_name_and_edges(self) -> None:
        drawn = shape.drawing(a_graph().compile())
        assert drawn == {
            "nodes": [
                {"id": "__start__", "type": "runnable", "data": {"name": "__start__"}},
                {"id": "node", "type": "runnable", "data": {"name": "node"}},
                {"id": "__end__"},
            ],
            "edges": [
                {"source": "__start__", "target": "node"},
                {"source": "node", "target": "__end__"},
            ],
        }

    def test_looks_as_deep_as_it_is_told(self) -> None:
        def nodes(xray: int | bool) -> set[str]:
            drawn = shape.drawing(nested(), xray)
            return {each["id"] for each in drawn["nodes"]} - {"__start__", "__end__"}

        assert nodes(False) == {"middle", "other"}
        assert nodes(1) == {"middle:leaf", "other:node"}
        assert nodes(2) == nodes(True) == {"middle:leaf:node", "other:node"}


class TestSubgraphs:
    def test_are_those_of_the_nodes(self) -> None:
        assert list(shape.subgraphs(nested())) == ["middle", "other"]

    def test_are_those_below_too_if_asked_for(self) -> None:
        found = shape.subgraphs(nested(), recurse=True)
        assert list(found) == ["middle", "middle|leaf", "other"]

    def test_one_is_found_by_its_namespace_however_deep(self) -> None:
        found = shape.subgraphs(nested(), "middle|leaf")
        assert list(found) == ["middle|leaf"]
        assert set(found["middle|leaf"]) == {
            f"{each}_schema" for each in ("input", "output", "state", "config", "context")
        }
        assert shape.subgraphs(nested(), "leaf") == {}
