"""Whatever a state holds comes back equal and of the same type, or is refused when it is stored."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import enum
import ipaddress
import pathlib
import re
import subprocess
import sys
import uuid
import zoneinfo
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import numpy
import pydantic
import pydantic.v1
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, LLMResult
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.store.base import Item, SearchItem
from langgraph.types import Command, Interrupt, Overwrite, Send
from pydantic.dataclasses import dataclass as pydantic_dataclass

from runwait.storage.checkpoint import Serializer
from runwait.storage.checkpoint.classes import Unsuitable

FORM = Serializer((), {*sys.modules, __name__})
T = TypeVar("T")


class Colour(enum.Enum):
    RED = (1, 2)
    BLUE = "blue"


class Level(enum.IntEnum):
    HIGH = 3


class Tone(enum.StrEnum):
    LOUD = "loud"


class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Plain:
    value: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    value: Any


@dataclasses.dataclass
class Game:
    score: int
    seed: dataclasses.InitVar[int]
    derived: int = dataclasses.field(init=False, default=0)

    def __post_init__(self, seed: int) -> None:
        self.derived = seed * 2
        self.beside = [seed]


@pydantic_dataclass
class Checked:
    value: int


class Holder(pydantic.BaseModel):
    value: Any


class Step(pydantic.BaseModel):
    name: str


class Search(Step):
    query: str


class Talk(pydantic.BaseModel):
    messages: list[BaseMessage] = []
    steps: list[Step] = []


class Odd(pydantic.BaseModel):
    """Whose dump says less, or other things, than it holds."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    amount: float = pydantic.Field(alias="theAmount")
    token: str = pydantic.Field(exclude=True)
    _seen: int = pydantic.PrivateAttr(0)

    @pydantic.field_validator("token", mode="before")
    @classmethod
    def encoded(cls, value: str) -> str:
        return f"<{value}>"

    @pydantic.field_serializer("amount")
    def shown(self, value: float) -> str:
        return f"{value:.2f} EUR"

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> float:
        return self.amount * 2

    @cached_property
    def thrice(self) -> float:
        return self.amount * 3


class Items(pydantic.RootModel[list[Any]]):
    pass


class Box(pydantic.BaseModel, Generic[T]):
    content: T


class Old(pydantic.v1.BaseModel):
    value: Any
    _seen: int = pydantic.v1.PrivateAttr(0)


class Text(str):
    pass


class Names(list[Any]):
    pass


class Labels(dict[Any, Any]):
    pass


class Shout(Exception):
    def __init__(self, text: str, code: int) -> None:
        super().__init__(text.upper())
        self.code = code


class Outer:
    class Inner(pydantic.BaseModel):
        value: Any = None


def odd() -> Odd:
    made = Odd(theAmount=1.5, token="t", more=[1])  # type: ignore[call-arg]
    made._seen = 7
    assert made.thrice == 4.5
    return made


def noted(error: BaseException) -> BaseException:
    error.add_note("why")
    return error


class Far(tzinfo):
    """A time zone as other libraries have them."""

    def utcoffset(self, _: Any) -> timedelta:
        return timedelta(hours=9)

    def tzname(self, _: Any) -> str:
        return "FAR"

    def dst(self, _: Any) -> None:
        pass


NOW = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
CALL = {"name": "f", "args": {"a": (1, 2)}, "id": "1", "type": "tool_call"}
COMMON: list[Any] = [
    *({(1, 2), (3, (4,))}, frozenset({1}), (), (1, [2, (3,)]), {1: {2: 3}, (1, 2): "t"}),
    *(bytearray(b"x"), [bytearray(b"x"), b"x"], {"a\ud800": "\udfff"}, float("nan"), -0.0),
    *(collections.Counter("aab"), collections.OrderedDict(a=1), collections.deque([1, 2], 2)),
    *(collections.defaultdict(list, a=[1]), collections.defaultdict(None, a=1)),
    collections.defaultdict(Plain, {1: Plain(2)}),
    *(Text("x"), Names([1]), Labels({1: 2}), {Text("key"): Text("value")}),
    *(Colour.RED, Colour.BLUE, Level.HIGH, Tone.LOUD, Right.READ | Right.WRITE, {Tone.LOUD: 1}),
    *(Point(1, (2,)), Plain({"a": Frozen((1,))}), Frozen(Plain(None)), Game(1, 2), Checked(1)),
    *(odd(), Items([1, (2,)]), Box[int](content=1), Box[Step](content=Search(name="s", query="q"))),
    Talk(
        messages=[AIMessage("", tool_calls=[CALL]), ToolMessage("r", tool_call_id="1")],
        steps=[Search(name="s", query="q")],
    ),
    *(Old(value=(1,)), Outer.Inner(value=1), Step.model_construct(), Holder(value=Holder(value=1))),
    *(HumanMessage("x", additional_kwargs={"a": Plain(1)}), AIMessageChunk("x", id="1")),
    *(HumanMessage("x").text, RemoveMessage("1"), Document("d", metadata={"at": NOW})),
    *(AgentAction("tool", {"a": 1}, "log"), AgentFinish({"a": 1}, "log")),
    *(ChatGeneration(message=AIMessage("x")), LLMResult(generations=[])),
    *(Send("n", (1,)), Command(update={"a": (1,)}, goto=("n",)), Overwrite([1])),
    Interrupt(Step(name="s"), "i"),
    Item(value={"a": 1}, key="k", namespace=("n",), created_at=NOW, updated_at=NOW),
    SearchItem(("n",), "k", {"a": 1}, NOW, NOW, 0.5),
    *(NOW, NOW.replace(tzinfo=None), NOW.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Paris"))),
    *(NOW.replace(tzinfo=Far()), collections.defaultdict(collections.deque, a=1)),
    datetime(2026, 10, 25, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Paris"), fold=1),
    *(timezone(timedelta(hours=1), "CET"), zoneinfo.ZoneInfo("UTC"), timedelta(1, 2, 3)),
    *(date(2026, 1, 2), time(1, 2, 3, 4, UTC, fold=1), uuid.UUID(int=5), Decimal("1.10")),
    *(
        Decimal("NaN"),
        pathlib.Path("/a/b"),
        pathlib.PureWindowsPath("c:/a"),
        re.compile(b"a", re.S),
    ),
    *(ipaddress.ip_address("::1"), ipaddress.ip_network("10.0.0.0/8")),
    *(pydantic.SecretStr("s"), pydantic.SecretBytes(b"s"), pydantic.v1.SecretStr("s")),
    *(ValueError("x", 1), KeyError("k"), FileNotFoundError(2, "no", "file"), Shout("x", 5)),
    *(noted(TimeoutError()), ExceptionGroup("g", [ValueError(1), Shout("y", 6)])),
    *(numpy.arange(6.0).reshape(2, 3), numpy.asfortranarray([[1, 2], [3, 4]]), numpy.zeros((0, 2))),
    *(numpy.float64(1.5), numpy.int8(3), numpy.bool_(True), numpy.datetime64("2026-01-02")),
    numpy.array(["a", "bc"]),
]


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in structure and types; NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, numpy.ndarray):
        alike = (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
        return alike and other.flags.writeable == one.flags.writeable
    if isinstance(one, (set, frozenset)):
        left = [*other]
        for each in one:
            found = next((k for k in left if same(each, k)), Nothing)
            if found is Nothing:
                return False
            left.remove(found)
        return not left
    if isinstance(one, dict):
        items, others = [*one.items()], [*other.items()]
    elif isinstance(one, (list, tuple, collections.deque)):
        items, others = [*one], [*other]
    elif isinstance(one, float | Decimal):
        return repr(one) == repr(other)
    elif isinstance(one, BaseException):
        items, others = ([getattr(each, "filename", None), *each.args] for each in (one, other))
    else:
        items = others = []
    parts = len(items) == len(others) and all(map(same, items, others))
    states = [state_of(one), state_of(other)]
    if states[0] or states[1]:
        return parts and same(*states)
    return parts if items or isinstance(one, BaseException | dict | list | tuple) else one == other


class Nothing:
    pass


def state_of(value: Any) -> Any:
    """The attributes of an object of a class of the project, or of a library's."""
    if type(value).__module__ in ("builtins", "datetime", "decimal", "collections", "numpy"):
        return dict(getattr(value, "__dict__", {}))
    if isinstance(value, pydantic.BaseModel):
        names = ("__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__")
        state = {name: getattr(value, name) for name in names}
        fields = {name: each for name, each in vars(value).items() if name != "thrice"}
        return {**state, **fields}
    if isinstance(value, enum.Enum | re.Pattern | pathlib.PurePath | zoneinfo.ZoneInfo):
        return {}
    state: Any = object.__getstate__(value)
    return {**(state[0] or {}), **state[1]} if isinstance(state, tuple) else state or {}


@pytest.mark.parametrize("value", COMMON, ids=lambda value: f"{type(value).__name__}")
@pytest.mark.parametrize(
    "around", [lambda value: value, lambda value: [{"in": Holder(value=value)}]]
)
def test_common_values_are_kept_as_they_are(value: Any, around: Callable[[Any], Any]) -> None:
    value = around(value)

    assert same(FORM.loads_typed(FORM.dumps_typed(value)), value)


def test_what_is_revived_shares_nothing_with_what_was_stored() -> None:
    value = Plain([Holder(value={"a": [1]})])
    stored = FORM.dumps_typed(value)
    value.value[0].value["a"].append(2)

    assert FORM.loads_typed(stored) == Plain([Holder(value={"a": [1]})])


def test_what_refuses_its_own_dump_is_kept_all_the_same() -> None:
    """None of its validators is asked: it was accepted once."""

    class Never(pydantic.BaseModel):
        even: int

        @pydantic.field_validator("even")
        @classmethod
        def halved(cls, value: int) -> int:
            assert value % 2 == 0
            return value // 2

    form = Serializer([Never])

    assert form.loads_typed(form.dumps_typed(Never(even=6))) == Never(even=6)


def test_objects_lie_in_objects_as_deep_as_can_be_read_again() -> None:
    def nested(levels: int) -> Any:
        value: Any = None
        for _ in range(levels):
            value = Holder(value=[value])
        return value

    def at_depth(frames: int, work: Callable[[], Any]) -> Any:
        return at_depth(frames - 1, work) if frames else work()

    stored = FORM.dumps_typed(nested(200))

    # Compared by what is stored: pydantic itself would not come back up.
    assert at_depth(300, lambda: FORM.dumps_typed(FORM.loads_typed(stored))) == stored
    with pytest.raises(Unsuitable, match="more than 200 deep"):
        FORM.dumps_typed(nested(201))


def test_a_level_is_not_written_again_for_each_level_around_it() -> None:
    class Counting(Serializer):
        written = 0

        def _object(self, value: Any) -> Any:
            self.written += 1
            return super()._object(value)

    value: Any = 0
    for level in range(100):
        # The key that is no text is met only once all that lies before it was written.
        value = Plain([value, {level: 1}])
    form = Counting((), {__name__})

    assert form.loads_typed(form.dumps_typed(value)) == value
    assert form.written < 100 * 100


@pytest.mark.parametrize("factory", [lambda: 1, subprocess.Popen, numpy.random.default_rng])
def test_a_defaultdict_that_would_call_anything_else_is_refused(factory: Any) -> None:
    with pytest.raises(Unsuitable, match="is no plain class"):
        FORM.dumps_typed(collections.defaultdict(factory))


@given(st.sampled_from(COMMON), st.integers(0, 2**16), st.integers(0, 255))
def test_what_was_damaged_is_another_value_or_refused(value: Any, place: int, byte: int) -> None:
    form, packed = FORM.dumps_typed([value])
    damaged = bytearray(packed)
    damaged[place % len(damaged)] = byte
    loaded = {*sys.modules}

    with contextlib.suppress(Unsuitable):
        FORM.loads_typed((form, bytes(damaged)))

    # Python looks in tzdata, whose modules are empty, for a timezone that the machine lacks.
    assert {name for name in {*sys.modules} - loaded if name.partition(".")[0] != "tzdata"} == set()


# What LangGraph's serializer stored, for earlier versions.

EARLIER: list[Any] = [
    *({1, 2}, {(1, 2)}, frozenset({1}), collections.deque([1]), {"a": [1, 2.5, None, b"x"]}),
    *({1: "a", (1, 2): "d", None: "c"}, Tone.LOUD, Level.HIGH, Colour.BLUE, Plain(1), Frozen(1)),
    *(Point(1, 2), Holder(value=1), Old(value=1), pydantic.SecretStr("s"), Send("n", {"a": 1})),
    *(
        HumanMessage("x", id="1"),
        AIMessage("", tool_calls=[{**CALL, "args": {}}]),
        Interrupt("v", "i"),
    ),
    *(NOW, date(2026, 1, 2), time(1, 2, 3), timedelta(1), UTC, zoneinfo.ZoneInfo("UTC")),
    *(uuid.UUID(int=5), Decimal("1.10"), pathlib.Path("/a/b"), re.compile("a+"), Document("d")),
    *(ipaddress.ip_address("::1"), Command(resume=1, goto=["n"]), Overwrite([1])),
    *(numpy.arange(6.0).reshape(2, 3), numpy.asfortranarray([[1, 2], [3, 4]])),
    Item(value={"a": 1}, key="k", namespace=("n",), created_at=NOW, updated_at=NOW),
]


@pytest.mark.parametrize("value", EARLIER, ids=lambda value: type(value).__name__)
def test_what_earlier_versions_stored_is_read(value: Any) -> None:
    earlier = JsonPlusSerializer().dumps_typed({"in": [value]})

    revived = FORM.loads_typed(earlier)["in"][0]

    assert type(revived) is type(value)
    assert (
        numpy.array_equal(revived, value) if isinstance(value, numpy.ndarray) else revived == value
    )


# Values of every kind in one another.

WHENS = st.datetimes(timezones=st.one_of(st.none(), st.timezones()), allow_imaginary=False)
ARRAYS = st.lists(st.floats(width=32)).map(lambda each: numpy.array(each, dtype="f4"))
KEYS = st.one_of(
    *(st.text(), st.integers(), st.booleans(), st.none(), st.binary(), st.dates()),
    *(st.tuples(st.integers(), st.text()), st.sampled_from([*Colour, *Level, *Tone])),
    *(st.text().map(Text), st.builds(Frozen, st.integers()), st.floats(allow_nan=False)),
)
LEAVES = st.one_of(
    *(KEYS, st.floats(), WHENS, st.times(), st.timedeltas(), st.uuids(), st.decimals()),
    *(st.text(st.characters()), st.binary().map(bytearray), st.fractions(), st.complex_numbers()),
    *(ARRAYS, st.floats().map(numpy.float64), st.ip_addresses(), st.sampled_from(COMMON)),
    *(st.sets(KEYS), st.frozensets(KEYS), st.builds(range, st.integers(0, 5))),
    *(st.builds(object), st.just(local := (lambda: None)), st.just(Holder), st.just(sys)),
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists, dicts = st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)
    return st.one_of(
        *(lists, dicts, lists.map(tuple), lists.map(Names), dicts.map(Labels), lists.map(Items)),
        *(dicts.map(collections.OrderedDict), st.builds(collections.deque, lists, st.just(9))),
        *(
            dicts.map(lambda each: collections.defaultdict(list, each)),
            st.builds(Point, inner, inner),
        ),
        *(st.builds(kind, inner) for kind in (Plain, Frozen)),
        *(st.builds(kind, value=inner) for kind in (Holder, Old, Outer.Inner)),
        *(
            st.builds(Send, st.text(), inner),
            st.builds(Interrupt, inner),
            st.builds(ValueError, inner),
        ),
        st.builds(
            lambda text, each: AIMessage(text, additional_kwargs={"a": each}), st.text(), inner
        ),
    )


@given(st.recursive(LEAVES, containers, max_leaves=12))
def test_any_value_is_kept_as_it_is_or_refused(value: Any) -> None:
    try:
        stored = FORM.dumps_typed(value)
    except Unsuitable as refused:
        assert refused.type
        return

    assert same(FORM.loads_typed(stored), value)


@given(st.recursive(LEAVES, containers, max_leaves=12))
def test_what_langgraph_keeps_as_it_is_is_kept(value: Any) -> None:
    theirs = JsonPlusSerializer()
    try:
        kept = same(theirs.loads_typed(theirs.dumps_typed(value)), value)
    except Exception:
        return

    assert not kept or same(FORM.loads_typed(FORM.dumps_typed(value)), value)
