"""Values as bytes and back."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import re
import subprocess
import sys
import types
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypedDict, TypeVar

import ormsgpack
import pydantic
import pytest
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool
from langgraph.checkpoint.serde.jsonplus import EXT_PYDANTIC_V2
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Interrupt, Overwrite, Send, interrupt

from runwait.storage.checkpoint import (
    RedisSaver,
    Serializer,
    UnrevivableValue,
    UnstorableValue,
    allowlist_of,
    serializer,
)
from runwait.storage.checkpoint.classes import Unsuitable
from tests.servers import RedisServer

LATEST: Any = {"configurable": {"thread_id": "t"}}
BIG = 2**64


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Shape:
    name: str
    size: int = 0
    derived: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        self.derived = self.size + 1


@dataclasses.dataclass
class Circle(Shape):
    radius: int = 1


class Inner(pydantic.BaseModel):
    number: int


class Aliased(pydantic.BaseModel):
    inner: Inner = pydantic.Field(alias="theInner")
    secret: pydantic.SecretStr = pydantic.SecretStr("")

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return self.inner.number * 2


class Strange:
    pass


OWN = [Colour, Level, Point, Shape, Circle, Inner, Aliased, pydantic.SecretStr]


# What stands for the modules that were loaded by the end of the start.
LOADED = frozenset(sys.modules) | {__name__}


def round_trip(value: Any, allowed: Iterable[Any] = OWN, modules: Iterable[str] = ()) -> Any:
    form = Serializer(allowed, modules)
    return form.loads_typed(form.dumps_typed(value))


@pytest.mark.parametrize(
    "value",
    [
        *(
            0,
            -1,
            2**63 - 1,
            2**63,
            -(2**63),
            BIG - 1,
            BIG,
            -BIG,
            -(2**63) - 1,
            10**5000,
            -(10**5000),
        ),
        [BIG, {"deep": [{"deeper": -BIG}]}],
        {BIG: "key", -BIG: {BIG: [BIG]}, "text": 1, (1, BIG): 2},
        {1: "a", 1.5: "b", None: "c", (1, 2): "d", b"x": "f"},
        Shape("s", BIG),
        Inner(number=BIG),
        [HumanMessage("hi", additional_kwargs={"n": BIG, "keys": {BIG: 1}})],
        AIMessage("", tool_calls=[{"name": "t", "args": {"n": BIG}, "id": "1"}]),
        ToolMessage("x", tool_call_id="1", artifact={"n": BIG}),
        {BIG, 1},
        Send("node", {"n": BIG}),
        Send("node", Shape("s", 1)),
        Interrupt(value={"n": BIG}, id="i"),
        Command(resume=BIG, update={"a": 1}, goto="node"),
        Overwrite([BIG]),
        _DeltaSnapshot([BIG]),
        Point(1, BIG),
        *(Colour.RED, Level.HIGH, {"c": [Colour.RED]}),
        Document("text", metadata={"n": BIG}),
        *(datetime(2026, 1, 2, 3, 4, 5, 6, UTC), date(2026, 1, 2), timedelta(1, 2, 3)),
        time(1, 2, 3, 4, UTC),
        *(Decimal("1.10"), uuid.UUID(int=5), Path("/a/b"), ip_address("::1"), deque([1, BIG])),
        re.compile("a+", re.IGNORECASE),
        *(None, b"", b"bytes", bytearray(b"x"), "text\ud800"[:4], 1.5, True, frozenset({1})),
        Aliased(theInner=Inner(number=BIG), secret=pydantic.SecretStr("s")),
        Circle("c", 2, radius=BIG),
    ],
    ids=lambda value: f"{type(value).__name__} {str(type(value))[:0]}",
)
def test_what_is_stored_comes_back_as_it_was(value: Any) -> None:
    found = round_trip(value)

    assert found == value
    assert type(found) is type(value)


def test_a_field_that_is_not_an_argument_keeps_its_value() -> None:
    shape = Shape("s", 1)
    shape.derived = 99

    assert round_trip(shape) == shape


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Strange(), f"{__name__}.Strange"),
        ([{"a": Strange()}], f"{__name__}.Strange"),
        (Shape(Strange()), f"{__name__}.Strange"),  # type: ignore[arg-type]
        (HumanMessage("x", additional_kwargs={"a": Strange()}), f"{__name__}.Strange"),
        (lambda: 1, "function"),
        ((each for each in ()), "generator"),
        (1j, "complex"),
        ({"a": range(3)}, "range"),
    ],
    ids=[
        "object",
        "in a list",
        "in a dataclass",
        "in a message",
        "lambda",
        "generator",
        "complex",
        "range",
    ],
)
def test_what_cannot_be_written_is_refused_by_the_name_of_its_type(value: Any, name: str) -> None:
    with pytest.raises(Unsuitable) as refused:
        round_trip(value)

    assert refused.value.type == name


@pytest.mark.parametrize("value", [Shape("s"), [Colour.RED], {"a": Inner(number=1)}], ids=str)
def test_a_class_of_a_module_that_was_not_loaded_at_the_start_is_not_stored(value: Any) -> None:
    with pytest.raises(Unsuitable, match="its module was not loaded by the end of the start"):
        round_trip(value, ())

    assert round_trip(value, (), LOADED) == value


def test_a_class_that_only_a_function_knows_is_not_stored() -> None:
    with pytest.raises(Unsuitable, match="made inside a function, and no schema"):
        round_trip(local_class()(1), (), LOADED)


def test_a_class_that_is_made_inside_a_function_is_stored_where_the_graph_knows_it() -> None:
    kind = local_class()

    revived = round_trip([kind(1)], [kind])

    assert revived == [kind(1)]
    assert type(revived[0]) is kind


def test_of_two_classes_with_one_name_neither_is_stored() -> None:
    with pytest.raises(Unsuitable, match="made inside a function"):
        round_trip(local_class()(1), [local_class(), local_class()])


def local_class() -> Any:
    @dataclasses.dataclass
    class Local:
        a: int

    return Local


def test_a_class_that_is_not_to_be_found_by_its_name_is_not_stored() -> None:
    hidden = dataclasses.make_dataclass("Hidden", ["a"])
    hidden.__module__ = __name__

    with pytest.raises(Unsuitable, match="not to be found in its module"):
        round_trip(hidden(1), (), LOADED)


def test_a_value_that_is_too_deep_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]

    with pytest.raises(Unsuitable) as refused:
        Serializer().dumps_typed(deep)

    assert refused.value.type == "list"


def test_nothing_is_pickled_and_no_pickle_is_read() -> None:
    with pytest.raises(Unsuitable, match="its format is 'pickle'"):
        Serializer().loads_typed(("pickle", b"\x80\x04N."))


def forged(value: Any, before: str, after: str) -> tuple[str, bytes]:
    """What was stored for the value, with another name of the same length in it."""
    form, packed = Serializer((), LOADED).dumps_typed(value)
    assert packed.count(before.encode()) == 1
    assert len(before) == len(after)
    return form, packed.replace(before.encode(), after.encode())


def test_nothing_is_imported_because_of_what_is_stored() -> None:
    name = "antigravity".ljust(len(__name__), "x")

    with pytest.raises(Unsuitable, match=r"antigravityx*.Shape: its module was not loaded"):
        Serializer((), LOADED).loads_typed(forged(Shape("s"), __name__, name))
    assert name not in sys.modules


def test_a_module_is_not_asked_for_what_it_would_import(
    redeployed: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(redeployed, "__getattr__", asked.append, raising=False)
    form = Serializer((), {redeployed.__name__})
    stored = form.dumps_typed(redeployed.Data("x"))
    del redeployed.Data

    with pytest.raises(Unsuitable, match="not to be found in its module"):
        form.loads_typed(stored)
    assert asked == []


def test_a_class_is_only_built_as_the_kind_that_it_is() -> None:
    for before, after in (("Shape", "Inner"), ("Colour", "Circle"), ("Point", "Inner")):
        value = {"Shape": Shape("s"), "Colour": Colour.RED, "Point": Point(1, 2)}[before]
        with pytest.raises(Unsuitable, match=f"{after}: it is not of the kind that was stored"):
            Serializer((), LOADED).loads_typed(forged(value, before, after))


class Tool(BaseTool):
    name: str = "tool"
    description: str = ""

    def _run(self) -> None:
        pass


class BaseSettings(pydantic.BaseModel):
    """As that of pydantic_settings."""


class Settings(BaseSettings):
    key: str = "from the environment"


@dataclasses.dataclass
class Closing:
    path: str

    def __del__(self) -> None:
        pass


@pytest.mark.parametrize(
    "value",
    [
        Tool(),
        FakeListChatModel(responses=["x"]),
        RunnableLambda(print),
        PromptTemplate.from_template("x"),
        Settings(),
        Closing("/"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_does_things_is_never_kept(value: Any) -> None:
    kind = type(value)
    with pytest.raises(Unsuitable, match="there is no way to write it"):
        round_trip(value, [kind], LOADED)

    payload = ormsgpack.packb([kind.__module__, kind.__name__, {}, ""])
    packed = ormsgpack.packb(ormsgpack.Ext(EXT_PYDANTIC_V2, payload))
    with pytest.raises(Unsuitable, match="its values are never kept"):
        Serializer([kind], LOADED).loads_typed(("msgpack", packed))


@pytest.fixture
def redeployed(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of a project, whose classes change."""
    module = types.ModuleType("redeployed_project")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    class Model(pydantic.BaseModel):
        text: str

    @dataclasses.dataclass
    class Data:
        text: str

    class Kind(enum.Enum):
        OLD = "old"

    define(module, Model, Data, Kind)
    return module


def define(module: types.ModuleType, *classes: type) -> None:
    for each in classes:
        each.__module__, each.__qualname__ = module.__name__, each.__name__
        setattr(module, each.__name__, each)


@pytest.mark.parametrize("name", ["Model", "Data", "Kind"])
@pytest.mark.parametrize("change", ["gone", "changed"])
def test_a_class_that_is_gone_or_changed_is_an_error_that_names_it(
    name: str, change: str, redeployed: types.ModuleType
) -> None:
    stored = {
        "Model": lambda: redeployed.Model(text="x"),
        "Data": lambda: redeployed.Data("x"),
        "Kind": lambda: redeployed.Kind.OLD,
    }[name]()
    form = Serializer((), {"redeployed_project"})
    written = form.dumps_typed({"deep": [stored]})
    if change == "gone":
        delattr(redeployed, name)
    else:

        class Model(pydantic.BaseModel):
            text: list[int]

        @dataclasses.dataclass
        class Data:
            number: int

        class Kind(enum.Enum):
            NEW = "new"

        define(redeployed, Model, Data, Kind)

    with pytest.raises(Unsuitable) as refused:
        form.loads_typed(written)

    assert refused.value.type == f"redeployed_project.{name}"


def test_a_class_that_has_grown_by_a_field_with_a_default_still_fits(
    redeployed: types.ModuleType,
) -> None:
    form = Serializer((), {"redeployed_project"})
    written = form.dumps_typed([redeployed.Model(text="x"), redeployed.Data("y")])

    class Model(pydantic.BaseModel):
        text: str
        more: int = 1

    @dataclasses.dataclass
    class Data:
        text: str
        more: int = 2

    define(redeployed, Model, Data)

    model, data = form.loads_typed(written)
    assert (model.more, data.more) == (1, 2)


# The allow-list of a graph

T = TypeVar("T")


class Leaf(pydantic.BaseModel):
    a: int = 0


class Branch(pydantic.BaseModel):
    leaves: dict[str, tuple[Leaf, ...]] = {}
    secret: pydantic.SecretStr | None = None


class Tone(enum.Enum):
    LOUD = 1


class Pair(NamedTuple):
    tone: Tone


class Box(pydantic.BaseModel, Generic[T]):
    content: T


class Animal(pydantic.BaseModel):
    pass


class Dog(Animal):
    pass


@dataclasses.dataclass
class Payload:
    a: int


@dataclasses.dataclass
class Unmentioned:
    a: int


def keep(before: Any, new: Any) -> Any:
    return new


class Everything(TypedDict, total=False):
    branch: Branch
    pairs: Sequence[Pair]
    mapping: Mapping[str, Annotated[Payload, "that is all"]]
    box: Annotated[Box[Shape], keep]
    animal: Animal | None
    call: Callable[[Circle], Inner]
    process: subprocess.Popen[str] | Strange
    anything: Any
    more: Sequence[Colour]


def test_a_graph_allows_all_classes_that_its_schemas_reach_and_no_others() -> None:
    class Child(TypedDict):
        level: Level

    def node(state: Everything) -> Everything:
        return {}

    child = (
        StateGraph(Child).add_node("node", lambda state: state).add_edge(START, "node").compile()
    )
    graph: Any = (
        StateGraph(Everything)
        .add_node(node)
        .add_node("child", child)
        .add_edge(START, "node")
        .compile()
    )

    allowed = allowlist_of(graph)

    expected = [Branch, Leaf, Pair, Tone, Payload, Box, Shape, Circle, Animal, Dog, Colour, Level]
    assert {*expected, pydantic.SecretStr} <= allowed
    names = {kind.__name__ for kind in allowed}
    assert names.isdisjoint({"Unmentioned", "Strange", "BaseModel", "object", "type", "Popen"})
    form = Serializer(allowed)
    for value in (
        Branch(leaves={"x": (Leaf(a=1),)}, secret=pydantic.SecretStr("s")),
        [Pair(Tone.LOUD)],
        Box[Shape](content=Shape("s")),
        Dog(),
    ):
        assert form.loads_typed(form.dumps_typed(value)) == value
    with pytest.raises(Unsuitable):
        form.dumps_typed(Unmentioned(1))


@task
def measure(given: Any) -> Circle:
    return Circle("c", radius=given)


@task
def describe(given: Any) -> list[Leaf]:
    measure(given).result()
    return [Leaf(a=given)]


@entrypoint()
def workflow(given: Payload, *, previous: Inner | None = None) -> Dog:
    describe(given.a).result()
    return Dog()


def test_an_entrypoint_allows_what_it_takes_and_gives_and_what_its_tasks_return() -> None:
    assert {"Payload", "Inner", "Dog", "Leaf", "Circle"} <= {
        kind.__name__ for kind in allowlist_of(workflow)
    }


def test_an_entrypoint_with_types_of_its_own_goes_on_from_what_it_stored(saver: RedisSaver) -> None:
    workflow.checkpointer = saver.with_allowlist(allowlist_of(workflow))

    assert workflow.invoke(Payload(1), LATEST) == Dog()
    assert workflow.get_state(LATEST).values == Dog()


class Question(pydantic.BaseModel):
    text: str


def test_a_node_may_ask_by_a_class_that_no_schema_names(saver: RedisSaver) -> None:
    saver.serde = serializer(modules=LOADED)

    def ask(state: State) -> State:
        return {"any": interrupt(Question(text="?"))}

    graph = graph_of(saver, ask)
    graph.invoke({"any": 0}, LATEST)

    assert [each.value for each in graph.get_state(LATEST).interrupts] == [Question(text="?")]
    graph.invoke(Command(resume=BIG), LATEST)
    assert graph.get_state(LATEST).values == {"any": BIG}


# In a saver


class State(TypedDict, total=False):
    any: Any
    shape: Shape


def graph_of(saver: RedisSaver, node: Callable[[State], State]) -> Any:
    """A graph of one node, with a saver that allows its types."""
    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    return builder.compile(checkpointer=saver.with_allowlist(allowlist_of(builder.compile())))


@pytest.mark.parametrize("on_loop", [False, True], ids=["sync", "on a loop"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_run_whose_state_cannot_be_stored_fails_by_channel_and_type(
    durability: str, on_loop: bool, saver: RedisSaver
) -> None:
    graph = graph_of(saver, lambda state: {"any": [Strange()]})

    with pytest.raises(UnstorableValue, match=r"'any'.*Strange") as failed:
        if on_loop:
            asyncio.run(graph.ainvoke({"shape": Shape("s")}, LATEST, durability=durability))
        else:
            graph.invoke({"shape": Shape("s")}, LATEST, durability=durability)

    assert failed.value.channel == "any"
    assert failed.value.type == f"{__name__}.Strange"


def test_the_types_of_a_graph_are_revived(saver: RedisSaver) -> None:
    graph = graph_of(saver, lambda state: {"any": state["shape"].size})
    graph.invoke({"shape": Shape("s", BIG)}, LATEST)

    assert graph.get_state(LATEST).values == {"shape": Shape("s", BIG), "any": BIG}


def test_what_cannot_be_revived_is_an_error_that_names_channel_and_type(saver: RedisSaver) -> None:
    graph_of(saver, lambda state: {}).invoke({"shape": Shape("s")}, LATEST)

    with pytest.raises(UnrevivableValue, match=r"'shape'.*Shape") as failed:
        saver.get_tuple(LATEST)

    assert failed.value.channel == "shape"
    assert failed.value.type == f"{__name__}.Shape"


def test_with_allowlist_leaves_the_first_saver_as_it_was(saver: RedisSaver) -> None:
    other = saver.fenced(3).with_allowlist([(__name__, "Shape")])

    assert other.token == 3
    assert other.serde is not saver.serde
    with pytest.raises(Unsuitable):
        saver.serde.dumps_typed(Shape("s"))


# Encryption

KEY = bytes(range(32))


def test_nothing_that_a_state_holds_is_readable_in_redis(
    saver: RedisSaver, any_redis: RedisServer, contents: Callable[..., Any]
) -> None:
    saver.serde = serializer(KEY)
    graph = graph_of(saver, lambda state: {"any": "secret of the node"})
    config = {**LATEST, "metadata": {"customer": "secret of the config"}}
    graph.invoke({"any": "secret of the input", "shape": Shape("secret of the shape")}, config)

    held = repr(contents())

    assert "secret" not in held
    assert graph.get_state(LATEST).values["any"] == "secret of the node"
    assert graph.get_state(LATEST).values["shape"] == Shape("secret of the shape")
    assert graph.get_state(LATEST).metadata["customer"] == "secret of the config"
    with pytest.raises(UnrevivableValue):
        RedisSaver(saver.runner, prefix=saver.prefix, serde=serializer(bytes(32))).get_tuple(LATEST)
    with pytest.raises(UnrevivableValue):
        RedisSaver(saver.runner, prefix=saver.prefix).get_tuple(LATEST)


def test_what_was_stored_before_there_was_a_key_is_still_read(saver: RedisSaver) -> None:
    graph_of(saver, lambda state: {"any": 1}).invoke({"any": 0}, LATEST)

    encrypted = RedisSaver(saver.runner, prefix=saver.prefix, serde=serializer(KEY))

    found = encrypted.get_tuple(LATEST)
    assert found is not None
    assert found.checkpoint["channel_values"]["any"] == 1


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="16, 24 or 32 bytes"):
        serializer(b"short")
