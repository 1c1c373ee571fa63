import collections
import json
import math
import sys
import threading
import time
import types
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from typing import Annotated, Any, ClassVar, NamedTuple

import pytest
import uuid_utils
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.types import Command, Interrupt, Send
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    SecretStr,
    create_model,
    field_serializer,
    model_serializer,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass

from runwait.serialization import MAX_DEPTH, dumps, is_deeper
from tests.strategies import ANY_SPEED, JSON


def read(value):
    """What a strict reader makes of the document."""

    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    def once(pairs):
        names = [name for name, _ in pairs]
        assert len(names) == len(set(names)), names
        return dict(pairs)

    return json.loads(
        dumps(value).decode(),
        parse_constant=refuse,
        object_pairs_hook=once,
        parse_int=lambda text: int(Decimal(text)),
    )


class Plain:
    def __repr__(self):
        return "Plain()"


class Broken:
    """Raises whatever is asked of it."""

    def __init__(self, error):
        self.error = error

    def __repr__(self):
        raise self.error

    __str__ = __hash__ = __repr__


class Color(Enum):
    RED = "red"
    NESTED = ("a", date(2024, 2, 29))


class Level(IntEnum):
    HIGH = 3


class Word(StrEnum):
    YES = "yes"


class Bits(Flag):
    A = 1
    B = 2


class Text(str):
    __slots__ = ()

    def __str__(self):
        raise ValueError


class Number(int):
    def __repr__(self):
        raise ValueError

    __str__ = __int__ = __index__ = __repr__


class Ratio(float):
    def __repr__(self):
        raise ValueError

    __str__ = __float__ = __repr__


class Point(NamedTuple):
    x: Any
    y: Any = None


@dataclass
class Record:
    a: Any
    b: list[Any] = field(default_factory=list)
    start: InitVar[int] = 0
    constant: ClassVar[int] = 1


@dataclass(slots=True)
class Slotted:
    a: Any
    b: Any = None


class Animal(BaseModel):
    name: str = "x"


class Dog(Animal):
    breed: str = "y"


@ANY_SPEED
@given(JSON)
def test_json_values_come_back_as_they_were(value):
    document = dumps(value)
    assert json.loads(document) == value
    assert document.decode()


@ANY_SPEED
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_come_back_to_the_last_bit(value):
    back = read(value)
    assert type(back) is float
    assert (back, math.copysign(1, back)) == (value, math.copysign(1, value))


def test_the_document_is_compact_utf_8():
    assert dumps({"é": ["😀", 1, -0.0, True, None, {}, []], "a": '\x00\n"\\/'}) == (
        '{"é":["😀",1,-0.0,true,null,{},[]],"a":"\\u0000\\n\\"\\\\/"}'.encode()
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinities_are_null(value):
    assert read([value, {"a": value}, Ratio(value)]) == [None, {"a": None}, None]


def test_subclasses_of_text_and_numbers_are_text_and_numbers():
    value = [Text("a\ud800"), Number(7), Ratio(0.5), collections.UserString("ab")]
    assert read(value) == ["a\ufffd", 7, 0.5, "ab"]


@pytest.mark.parametrize("digits", [4300, 4301, 20_000, 300_000])
@pytest.mark.parametrize("sign", [1, -1])
def test_integers_keep_all_their_digits(digits, sign):
    value = sign * (10 ** (digits - 1) + 7 ** (digits // 2))
    text = dumps([value, Number(value)]).decode()
    first, second = text.strip("[]").split(",")
    assert first == second
    assert len(first.lstrip("-")) == digits
    back = 0
    for start in range(0, digits, 4000):
        chunk = first.lstrip("-")[start : start + 4000]
        back = back * 10 ** len(chunk) + int(chunk)
    assert sign * back == value


def test_the_interpreters_limit_on_digits_stays_as_it_is():
    before = sys.get_int_max_str_digits()
    dumps(10**5000)
    assert sys.get_int_max_str_digits() == before


@ANY_SPEED
@given(st.integers(min_value=0, max_value=200_000), st.integers(-3, 3))
def test_integers_near_powers_of_two_are_exact(bits, offset):
    value = (1 << bits) + offset
    text = dumps(value).decode()
    modulus = 10**9 + 7
    back = 0
    for start in range(0, len(text.lstrip("-")), 1000):
        chunk = text.lstrip("-")[start : start + 1000]
        back = (back * pow(10, len(chunk), modulus) + int(chunk)) % modulus
    assert back == abs(value) % modulus
    assert text.startswith("-") is (value < 0)


def test_enums_are_their_values():
    value = [Color.RED, Color.NESTED, Level.HIGH, Word.YES, Bits.A | Bits.B]
    assert read(value) == ["red", ["a", "2024-02-29"], 3, "yes", 3]


def test_sets_deques_views_and_sequences_are_arrays():
    class Pair(Sequence):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return [1, Plain()][index]

    held = {"a": 1}
    for value, expected in [
        ((1, (2,)), [1, [2]]),
        ({1}, [1]),
        (frozenset({Point(1)}), [{"x": 1, "y": None}]),
        (collections.deque([1, 2], maxlen=2), [1, 2]),
        (collections.UserList([1]), [1]),
        (range(3), [0, 1, 2]),
        (held.keys(), ["a"]),
        (held.values(), [1]),
        (held.items(), [["a", 1]]),
        (Pair(), [1, "Plain()"]),
        (time.gmtime(0), [1970, 1, 1, 0, 0, 0, 3, 1, 0]),
    ]:
        assert read(value) == expected
    assert sorted(read({3, 1, 2})) == [1, 2, 3]


def test_a_range_nobody_could_want_written_out_is_its_repr():
    assert read(range(10**30)) == f"range(0, {10**30})"


def test_mappings_are_objects():
    class Squares(Mapping):
        def __len__(self):
            return 2

        def __iter__(self):
            return iter((1, 2))

        def __getitem__(self, key):
            return key * key

    held = {"a": 1}
    for value in [
        collections.OrderedDict(held),
        collections.Counter(held),
        collections.defaultdict(list, held),
        collections.ChainMap(held),
        collections.UserDict(held),
        types.MappingProxyType(held),
    ]:
        assert read(value) == held
    assert read(Squares()) == {"1": 1, "2": 4}


def test_named_tuples_are_objects_by_field_name():
    older = collections.namedtuple("older", "a b")
    assert read([Point(1, Point(2)), older(1, 2)]) == [
        {"x": 1, "y": {"x": 2, "y": None}},
        {"a": 1, "b": 2},
    ]


def test_dataclasses_are_objects_of_their_fields():
    assert read(Record(Slotted(1), [Point(1)])) == {
        "a": {"a": 1, "b": None},
        "b": [{"x": 1, "y": None}],
    }
    assert read(Record) == repr(Record)


def test_a_dataclass_field_that_is_not_set_is_left_out():
    record, slotted = Record(1), Slotted(1)
    del record.a
    del slotted.b
    assert read([record, slotted]) == [{"b": []}, {"a": 1}]


def test_dates_and_times_are_iso_8601():
    moment = datetime(2024, 2, 29, 1, 2, 3, 4)
    assert read(
        [
            moment,
            moment.replace(tzinfo=UTC),
            moment.replace(tzinfo=timezone(timedelta(hours=-5))),
            moment.date(),
            clock(1, 2, 3),
        ]
    ) == [
        "2024-02-29T01:02:03.000004",
        "2024-02-29T01:02:03.000004+00:00",
        "2024-02-29T01:02:03.000004-05:00",
        "2024-02-29",
        "01:02:03",
    ]


def test_a_timedelta_is_its_seconds():
    assert read(timedelta(days=1, seconds=2, milliseconds=5)) == 86402.005
    assert read([timedelta(0), timedelta.min]) == [0.0, timedelta.min.total_seconds()]


def test_uuids_and_decimals_are_text():
    some = uuid.uuid4()
    assert read([some, uuid_utils.UUID(str(some))]) == [str(some), str(some)]
    numbers = ["1.10", "-0", "1E+1000"]
    assert read([Decimal(number) for number in numbers]) == numbers
    assert read([Decimal(number) for number in ("NaN", "sNaN", "-Infinity")]) == [None] * 3


def test_bytes_are_base64():
    raw = b"\xfb\xff\x00a"
    assert read([raw, bytearray(raw), memoryview(raw), memoryview(raw)[::2]]) == [
        "+/8AYQ==",
        "+/8AYQ==",
        "+/8AYQ==",
        "+wA=",
    ]


def test_exceptions_are_their_class_and_message():
    class SilentError(Exception):
        def __str__(self):
            raise RuntimeError

    assert read([ValueError("no"), KeyError("k"), Exception()]) == [
        {"error": "ValueError", "message": "no"},
        {"error": "KeyError", "message": "'k'"},
        {"error": "Exception", "message": ""},
    ]
    assert read(ExceptionGroup("g", [ValueError("x")]))["error"] == "ExceptionGroup"
    assert read(KeyboardInterrupt("stop"))["message"] == "stop"
    assert read(SilentError())["error"] == "SilentError"


def test_what_langgraph_passes_around_keeps_its_fields():
    assert read(Interrupt(value={"ask": Point(1)}, id="x")) == {
        "value": {"ask": {"x": 1, "y": None}},
        "id": "x",
        "response_schema": None,
    }
    assert read(Send("node", {"a": 1})) == {"node": "node", "args": {"a": 1}}
    assert read(Send("node", 1, timeout=2.5))["timeout"]["run_timeout"] == 2.5
    assert read(Command(update={"a": 1}, goto=[Send("n", 1), "m"])) == {
        "graph": None,
        "update": {"a": 1},
        "resume": None,
        "goto": [{"node": "n", "args": 1}, "m"],
    }


def test_messages_are_what_model_dump_gives():
    call = {"name": "t", "args": {"a": [1]}, "id": "1", "type": "tool_call"}
    messages = [
        HumanMessage([{"type": "text", "text": "hi"}], id="1"),
        AIMessage("", tool_calls=[call], response_metadata={"at": 1}),
        ToolMessage("ok", tool_call_id="1", artifact={"a": 1}),
    ]
    assert read({"messages": messages}) == {"messages": [m.model_dump() for m in messages]}


class TestModels:
    def test_are_what_model_dump_gives(self):
        class Order(BaseModel):
            model_config = ConfigDict(extra="allow")
            at: datetime
            items: list[Animal]
            raw: bytes
            masked: Annotated[str, PlainSerializer(lambda value: "***")] = "secret"
            hidden: str = Field("secret", exclude=True)
            key: SecretStr = SecretStr("secret")

        order = Order(at=datetime(2024, 1, 1), items=[Animal()], raw=b"\xff", more=Point(1))
        document = dumps(order).decode()
        assert "secret" not in document
        assert json.loads(document) == {
            "at": "2024-01-01T00:00:00",
            "items": [{"name": "x"}],
            "raw": "/w==",
            "masked": "***",
            "key": "SecretStr('**********')",
            "more": [1, None],
        }

    def test_keep_the_fields_of_a_subclass_instance(self):
        class Answer(BaseModel):
            pet: Animal
            messages: list[BaseMessage]

        call = {"name": "t", "args": {}, "id": "1", "type": "tool_call"}
        answer = read(Answer(pet=Dog(), messages=[AIMessage("", tool_calls=[call])]))
        assert answer["pet"] == {"name": "x", "breed": "y"}
        assert answer["messages"][0]["tool_calls"] == [call]

    def test_with_a_root_are_the_root(self):
        assert read(RootModel[list[Animal]]([Animal()])) == [{"name": "x"}]

    def test_with_a_serializer_of_their_own_are_what_it_gives(self):
        class Odd(BaseModel):
            @model_serializer
            def dump(self):
                return {"odd": b"\xff"}

        assert read([Odd()]) == [{"odd": "/w=="}]

    def test_with_values_of_another_type_than_declared_are_written_without_warning(self):
        odd = Animal.model_construct(name=Point(b"\xff"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            document = read(odd)
        assert document["name"] in ({"x": "/w==", "y": None}, ["/w==", None])

    def test_not_yet_complete_are_written_with_what_they_have(self):
        assert read(Dog.model_construct(breed="z")) == {"breed": "z", "name": "x"}
        bare = Animal.model_construct()
        del bare.__dict__["name"]
        assert read(bare) == {}

    def test_whose_dump_fails_are_written_field_by_field(self):
        class Holder(BaseModel):
            model_config = ConfigDict(extra="allow")
            good: Annotated[str, PlainSerializer(lambda value: "***")] = "secret"
            hidden: str = Field("secret", exclude=True)
            bad: int = 1

            @field_serializer("bad")
            def fail(self, value):
                raise RuntimeError

        assert read(Holder(more=[1])) == {"good": "***", "bad": 1, "more": [1]}

    def test_may_hold_dataclasses_of_any_kind(self):
        @pydantic_dataclass(slots=True)
        class Checked:
            a: int = 1

        class Holder(BaseModel):
            model_config = ConfigDict(arbitrary_types_allowed=True)
            plain: Record
            slotted: Slotted
            checked: Checked

        holder = Holder(plain=Record(1), slotted=Slotted(Dog()), checked=Checked())
        assert read([holder, Checked()]) == [
            {
                "plain": {"a": 1, "b": []},
                "slotted": {"a": {"name": "x", "breed": "y"}, "b": None},
                "checked": {"a": 1},
            },
            {"a": 1},
        ]

    def test_hold_shared_things_as_often_as_they_are_there(self):
        class Pair(BaseModel):
            left: Any
            right: Any

        pair = Pair(left=1, right=[2])
        for _ in range(3):
            pair = Pair(left=pair, right=pair)
        assert dumps(pair).count(b'"right":[2]') == 8

    def test_in_a_set_are_written(self):
        class Frozen(BaseModel):
            model_config = ConfigDict(frozen=True)
            a: int = 1

        class Holder(BaseModel):
            items: set[Frozen]
            b: int = 2

        assert read(Holder(items={Frozen()})) == {"items": [{"a": 1}], "b": 2}
        assert read({Frozen()}) == [{"a": 1}]

    def test_that_hold_themselves_are_cut_where_the_cycle_closes(self):
        class Node(BaseModel):
            next: Any = None
            label: str = "n"

        node = Node(next=Node())
        node.next.next = node
        document = dumps([node, {"after": Animal()}]).decode()
        assert document.startswith('[{"next":{"next":')
        assert document.endswith('Node object>","label":"n"},"label":"n"},{"after":{"name":"x"}}]')
        assert len(document) < 2000
        ring = RootModel[Any](None)
        ring.root = [ring]
        assert isinstance(read(ring)[0], str)

    @pytest.mark.parametrize("declared", [Any, "Node | None"])
    def test_in_a_tree_with_links_to_parents_cost_no_more_than_the_tree(self, declared):
        Node = create_model("Node", parent=(declared, None), kids=(list[Any], []))  # noqa: N806
        root = Node()
        root.kids = [Node.model_construct(parent=root) for _ in range(500)]
        for kid in root.kids:
            kid.kids = [Node.model_construct(parent=kid, kids=[]) for _ in range(3)]
        began = time.process_time()
        document = dumps([root, Animal()])
        assert time.process_time() - began < 30
        assert len(document) < 5_000_000
        tree, after = json.loads(document)
        assert [len(kid["kids"]) for kid in tree["kids"]] == [3] * 500
        assert after == {"name": "x"}

    def test_with_a_model_dump_of_their_own_are_what_it_gives(self):
        class Bare(BaseModel):
            def model_dump(self):
                return {"own": Point(1)}

        class Duck:
            def model_dump(self, **options):
                return {"quack": 1}

        class Liar:
            def model_dump(self):
                return self

            def __repr__(self):
                return "Liar()"

        class Lame:
            def model_dump(self, **options):
                raise OSError

            def __repr__(self):
                return "Lame()"

        assert read([Bare(), Duck(), Liar(), Lame()]) == [
            {"own": {"x": 1, "y": None}},
            {"quack": 1},
            "Liar()",
            "Lame()",
        ]

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_of_pydantic_1_are_written(self):
        legacy = pytest.importorskip("pydantic.v1")

        class Old(legacy.BaseModel):
            a: int = 1
            inner: Any = None

        assert read(Old(inner=Old())) == {"a": 1, "inner": {"a": 1, "inner": None}}


def test_arrays_and_scalars_with_a_tolist_are_what_it_gives():
    class Array:
        def __init__(self, result):
            self.result = result

        def tolist(self):
            return self.result

    assert read([Array([[1, math.nan]]), Array(1.5), Array(True), Array(date(2024, 1, 1))]) == [
        [[1, None]],
        1.5,
        True,
        "2024-01-01",
    ]
    endless = Array(None)
    endless.result = endless
    assert read(endless) == repr(endless)


@pytest.mark.parametrize(
    "value", [Plain(), Plain, len, 1 + 2j, ..., NotImplemented, types.SimpleNamespace(a=1), object]
)
def test_anything_else_is_its_repr(value):
    assert read([value]) == [repr(value)]


def test_iterators_are_not_consumed():
    rest = iter([1, 2])
    generator = (each for each in (1, 2))
    assert read([rest, generator]) == [repr(rest), repr(generator)]
    assert [*rest, *generator] == [1, 2, 1, 2]


@pytest.mark.parametrize("error", [ValueError, RecursionError, SystemExit, GeneratorExit])
def test_what_cannot_even_be_represented_is_named_by_its_class(error):
    value = Broken(error())
    assert read([value, {"a": value}]) == [
        f"<{Broken.__module__}.Broken object>",
        {"a": f"<{Broken.__module__}.Broken object>"},
    ]


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_only_what_concerns_the_process_passes(error):
    with pytest.raises(error):
        dumps([Broken(error())])


def test_an_enormous_repr_is_cut():
    class Big:
        def __repr__(self):
            return "x" * 10_000_000

    assert read(Big()) == "x" * 100_000 + "..."


def test_values_whose_properties_raise_are_their_repr():
    class Moody(Mapping):
        def __len__(self):
            return 1

        def __iter__(self):
            raise OSError

        def __getitem__(self, key):
            raise OSError

        def __repr__(self):
            return "Moody()"

    class Meta(type):
        def __getattribute__(cls, name):
            raise OSError

    class Closed(metaclass=Meta):
        pass

    assert read(Moody()) == "Moody()"
    assert isinstance(read(Closed()), str)
    view = memoryview(bytearray(b"x"))
    view.release()
    assert isinstance(read(view), str)


class TestNames:
    def test_that_are_no_strings_become_strings(self):
        some = uuid.UUID(int=1)
        value = {
            True: 1,
            None: 2,
            3: 4,
            1.5: 5,
            -0.0: 6,
            Color.RED: 7,
            Level.HIGH: 8,
            date(2024, 1, 1): 9,
            datetime(2024, 1, 1): 10,
            some: 11,
            b"\xff": 12,
            (1, "a"): 13,
            Point(1): 14,
            Plain(): 15,
            Decimal("2.50"): 16,
            Text("t"): 17,
            10**5000: 18,
            1e300: 19,
        }
        assert read(value) == {
            "true": 1,
            "null": 2,
            "3": 8,
            "1.5": 5,
            "-0.0": 6,
            "red": 7,
            "2024-01-01": 9,
            "2024-01-01T00:00:00": 10,
            str(some): 11,
            "/w==": 12,
            "(1, 'a')": 13,
            "Point(x=1, y=None)": 14,
            "Plain()": 15,
            "2.50": 16,
            "t": 17,
            f"1{'0' * 5000}": 18,
            "1e+300": 19,
        }

    def test_not_finite_keep_apart(self):
        assert read({math.nan: 1, math.inf: 2, -math.inf: 3, None: 4}) == {
            "NaN": 1,
            "Infinity": 2,
            "-Infinity": 3,
            "null": 4,
        }

    def test_that_come_out_the_same_are_there_once_and_the_last_counts(self):
        assert read({1: "a", "1": "b", "x": "c"}) == {"1": "b", "x": "c"}
        assert read({"true": "a", True: "b"}) == {"true": "b"}
        assert read({chr(lone): lone for lone in (0xD800, 0xDFFF, 0xFFFD)}) == {"\ufffd": 0xFFFD}
        assert read({"\ud83d\ude00": 1, "😀": 2}) == {"😀": 2}

    def test_of_an_object_that_compares_as_it_likes_stay_apart(self):
        class Same(str):
            def __eq__(self, other):
                return False

            def __hash__(self):
                return str.__hash__(self)

        assert read([{"a": 1}, {"a": 1, Same("a"): 2, Same("a"): 3}]) == [{"a": 1}, {"a": 3}]

    def test_that_cannot_be_text_are_named_by_their_class(self):
        class Key:
            def __str__(self):
                raise ValueError

        assert read({Key(): 1}) == {f"<{Key.__module__}.{Key.__qualname__} object>": 1}


def test_lone_surrogates_are_replaced_and_pairs_joined():
    value = ["a\ud800b", "\udc00", "\ud83d\ude00", "\ude00\ud83d", "\ud800\ud83d\ude00", "é\ud800"]
    assert read({"k\ud800": value}) == {
        "k\ufffd": ["a\ufffdb", "\ufffd", "😀", "\ufffd\ufffd", "\ufffd😀", "é\ufffd"]
    }


def nested(depth, innermost=None, wrap=lambda inner: [inner]):
    value = innermost
    for _ in range(depth):
        value = wrap(value)
    return value


def depth_of(document):
    def levels(value):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(map(levels, inner), default=0) if isinstance(value, dict | list) else 0

    return levels(json.loads(document))


WRAPPERS = {
    "lists": lambda inner: [inner],
    "tuples": lambda inner: (inner,),
    "objects": lambda inner: {"a": inner},
    "numbered": lambda inner: {1: inner},
    "dataclasses": Slotted,
    "named tuples": Point,
    "deques": lambda inner: collections.deque([inner]),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_200_levels_are_written_and_the_next_one_is_text(wrap):
    document = dumps(nested(MAX_DEPTH, "end", wrap))
    assert depth_of(document) == MAX_DEPTH
    assert b'"end"' in document
    innermost = wrap("end")
    document = dumps(nested(MAX_DEPTH, innermost, wrap))
    assert json.dumps(repr(innermost), ensure_ascii=False).encode() in document
    json.loads(document)


@pytest.mark.parametrize("innermost", [[], (), {}, set(), collections.OrderedDict()])
def test_an_empty_container_is_a_level(innermost):
    assert "[" * (MAX_DEPTH - 1) in dumps(nested(MAX_DEPTH - 1, innermost)).decode()
    document = dumps(nested(MAX_DEPTH, innermost))
    assert document == b"[" * MAX_DEPTH + json.dumps(repr(innermost)).encode() + b"]" * MAX_DEPTH


def test_200_levels_of_models_are_written_and_no_more():
    document = dumps(nested(MAX_DEPTH, "end", lambda inner: RootModel[Any]([inner])))
    assert document == b"[" * MAX_DEPTH + b'"end"' + b"]" * MAX_DEPTH
    document = dumps(nested(1000, "end", lambda inner: RootModel[Any]([inner])))
    assert depth_of(document) == MAX_DEPTH
    assert isinstance(json.loads(document), list)


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_any_depth_is_written_down_to_level_200(wrap):
    value = nested(2000, "end", wrap)
    json.loads(dumps(value))


def test_bottomless_nesting_is_written_down_to_level_200():
    document = dumps(nested(200_000))
    assert document == b"[" * MAX_DEPTH + b'"<builtins.list object>"' + b"]" * MAX_DEPTH


def test_200_levels_are_written_from_deep_in_the_stack():
    value = nested(MAX_DEPTH, Point(1), lambda inner: Slotted([inner]).__class__(inner))
    expected = dumps(value)

    def descend(levels):
        return dumps(value) if levels == 0 else descend(levels - 1)

    room = sys.getrecursionlimit() - len(_frames())
    assert descend(room - 60) == expected


def _frames():
    frame, frames = sys._getframe(), []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


class TestCycles:
    def test_are_cut_where_they_close(self):
        array = [1]
        array.append({"array": array})
        assert read(array) == [1, {"array": repr(array)}]
        held = {}
        held["me"] = held
        assert read(held) == {"me": repr(held)}
        record = Record(1)
        record.a = record
        assert read(record)["a"] == repr(record)

    def test_are_no_matter_of_the_same_thing_twice(self):
        shared = [1]
        assert read([shared, {"a": shared, "b": [shared]}]) == [[1], {"a": [1], "b": [[1]]}]

    def test_of_things_that_all_know_one_another_are_written_once_each(self):
        people = [Record(number) for number in range(50)]
        for person in people:
            person.b = people
        tag = ["same"]
        document = dumps({"people": people, "again": people, "tags": [tag, tag]})
        assert len(document) < 5_000_000
        back = json.loads(document)
        assert [person["a"] for person in back["people"]] == list(range(50))
        assert isinstance(back["again"], str)
        assert back["tags"] == [["same"], ["same"]]

    def test_of_a_tree_with_links_to_parents_cost_no_more_than_the_tree(self):
        @dataclass
        class Node:
            parent: Any
            children: list[Any] = field(default_factory=list)
            text: str = "x" * 100

        root = Node(None)
        root.children = [Node(root) for _ in range(2000)]
        began = time.process_time()
        document = dumps(root)
        assert time.process_time() - began < 30
        assert len(document) < 5_000_000
        assert len(json.loads(document)["children"]) == 2000


def test_a_value_that_changes_meanwhile_is_written_as_it_was():
    class Growing:
        def __repr__(self):
            held["more"] = 1
            array.append(1)
            return "grown"

    array = [Growing(), 1]
    held = {"a": Growing(), "b": array}
    assert read(held) == {"a": "grown", "b": ["grown", 1, 1]}


def test_a_value_that_another_thread_changes_is_written():
    held = {str(number): [number] for number in range(200)}
    stop = threading.Event()

    def change():
        number = 0
        while not stop.is_set():
            held[f"n{number % 500}"] = number
            held.pop(f"n{(number + 250) % 500}", None)
            number += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            assert read({"a": held, "b": collections.OrderedDict(a=1)})["a"]["0"] == [0]
    finally:
        stop.set()
        thread.join()


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.builds(lambda digits: -(10**digits), st.integers(4299, 5000)),
    st.floats(),
    st.complex_numbers(),
    st.decimals(),
    st.fractions(),
    st.text(st.characters()),
    st.binary(),
    st.datetimes(timezones=st.none() | st.just(UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.ip_addresses(),
    st.functions(),
    st.slices(5),
    st.sampled_from([*Color, *Level, *Word, Bits.A, Plain, Plain(), ..., ValueError("x"), Dog()]),
    st.builds(Text, st.text(st.characters())),
    st.builds(Number),
    st.builds(Ratio),
    st.builds(Broken, st.sampled_from([ValueError(), SystemExit(), RecursionError()])),
    st.text(st.characters()).map(HumanMessage),
)
KEYS = ODD.filter(lambda key: not isinstance(key, Broken | BaseModel | slice | Decimal))


def containers(inner):
    return st.one_of(
        st.lists(inner),
        st.dictionaries(KEYS, inner),
        st.builds(Point, inner, inner),
        st.builds(Record, inner, st.lists(inner)),
        st.builds(Slotted, inner, inner),
        st.builds(collections.deque, st.lists(inner)),
        st.builds(Send, st.text(), inner),
        st.builds(Interrupt, inner, st.text()),
        st.builds(lambda root: RootModel[Any](root), inner),
        st.builds(lambda extra: Animal.model_construct(name=extra), inner),
        st.builds(types.SimpleNamespace, a=inner),
        st.frozensets(KEYS),
        st.lists(inner).map(tuple),
        st.lists(inner).map(iter),
        st.dictionaries(KEYS, inner).map(types.MappingProxyType),
    )


@ANY_SPEED
@given(st.recursive(ODD, containers))
def test_any_value_is_written_as_json_with_each_name_once(value):
    read(value)


@ANY_SPEED
@given(
    st.lists(st.sampled_from(["[", "{", "[[[", "]", "}", "]]", "[]", "{}", '"["'])),
    st.integers(0, 60),
)
def test_nesting_is_counted_bracket_by_bracket_valid_or_not(pieces, limit):
    # As many of them as it takes to be worth a thought.
    document = "".join(pieces) * 7
    depth = deepest = 0
    for bracket in document.replace('"["', ""):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    assert is_deeper(document.encode(), limit) == (deepest > limit)
