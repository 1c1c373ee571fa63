from dataclasses import InitVar, dataclass, field, fields
from typing import Annotated, Any, NotRequired, Required, TypedDict

import pydantic
import pytest
import typing_extensions
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, model_validator

from runwait.graphs.context import ContextError, coerce_context


@dataclass
class Defaults:
    user: str = "nobody"
    limit: int = 10


@dataclass
class Requires:
    user: str
    limit: int = 10


@dataclass(kw_only=True)
class Choosy:
    user: str = "nobody"

    def __post_init__(self) -> None:
        if not self.user.isalpha():
            raise ValueError("user must be\nletters")


@dataclass
class Initialised:
    seed: InitVar[int]
    base: InitVar[int] = 1
    total: int = field(init=False)

    def __post_init__(self, seed: int, base: int) -> None:
        self.total = seed + base


@dataclass(init=False)
class OwnInit:
    """As in the official memory-agent template: any keyword, defaults from the fields."""

    user: str = "nobody"
    limit: int = 10

    def __init__(self, **values: Any) -> None:
        for f in fields(self):
            setattr(self, f.name, values.get(f.name, f.default))


class Model(BaseModel):
    user: str
    limit: Annotated[int, Field(ge=1)] = 10


class Lenient(BaseModel):
    user: str = "nobody"


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    user: str = "nobody"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    user: str = "nobody"


class Aliased(BaseModel):
    user_id: str = Field(alias="userId")
    team: str = Field("none", validation_alias=AliasChoices("team", AliasPath("org", "team")))


class ByName(Aliased):
    model_config = ConfigDict(populate_by_name=True)


class Checked(BaseModel):
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def ordered(self) -> "Checked":
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self


@pydantic.dataclasses.dataclass
class PydanticDataclass:
    user: str
    limit: int = 10


class Typed(TypedDict):
    user: Required[str]
    limit: NotRequired[int]


class TypedWithMore(typing_extensions.TypedDict, total=False):
    user: str


class TestWithoutSchema:
    def test_all_keys_are_kept(self):
        assert coerce_context(None, {"any": 1}) == {"any": 1}
        assert coerce_context(None, {}) == {}

    def test_a_type_that_declares_no_keys_keeps_all(self):
        assert coerce_context(dict, {"any": 1}) == {"any": 1}


class TestTypedDict:
    def test_undeclared_keys_are_dropped(self):
        assert coerce_context(Typed, {"user": "ann", "other": 1}) == {"user": "ann"}
        assert coerce_context(TypedWithMore, {"user": "ann", "other": 1}) == {"user": "ann"}

    def test_nothing_is_required_or_checked(self):
        assert coerce_context(Typed, {}) == {}
        assert coerce_context(Typed, {"limit": "many"}) == {"limit": "many"}


class TestDataclass:
    def test_undeclared_keys_are_dropped(self):
        assert coerce_context(Defaults, {"user": "ann", "other": 1}) == Defaults("ann")

    def test_empty_values_are_the_defaults(self):
        assert coerce_context(Defaults, {}) == Defaults()

    def test_empty_values_are_none_where_a_key_is_required(self):
        assert coerce_context(Requires, {}) is None

    def test_a_required_key_is_missed_once_another_is_given(self):
        with pytest.raises(ContextError) as raised:
            coerce_context(Requires, {"limit": 1})

        assert raised.value.problems == [("context.user", "is required")]

    def test_undeclared_keys_alone_count_as_no_context(self):
        assert coerce_context(Requires, {"other": 1}) is None
        assert coerce_context(Defaults, {"other": 1}) == Defaults()

    def test_a_constructor_that_raises_refuses_in_one_line(self):
        with pytest.raises(ContextError) as raised:
            coerce_context(Choosy, {"user": "7"})

        assert raised.value.problems == [("context", "user must be letters")]

    def test_a_constructor_that_fails_on_a_value_of_the_wrong_type_refuses(self):
        with pytest.raises(ContextError, match="context: 'int' object has no attribute 'isalpha'"):
            coerce_context(Choosy, {"user": 7})

    def test_an_init_var_is_a_key_and_a_field_without_init_is_none(self):
        context = coerce_context(Initialised, {"seed": 2, "base": 3, "total": 99})

        assert context.total == 5

    def test_an_init_var_can_be_required(self):
        assert coerce_context(Initialised, {}) is None
        with pytest.raises(ContextError, match=r"context\.seed: is required"):
            coerce_context(Initialised, {"base": 1})

    def test_an_init_of_its_own_that_takes_anything_gets_the_fields(self):
        assert coerce_context(OwnInit, {}).user == "nobody"
        context = coerce_context(OwnInit, {"user": "ann", "other": 1})
        assert (context.user, context.limit, hasattr(context, "other")) == ("ann", 10, False)


class TestModel:
    def test_undeclared_keys_are_dropped(self):
        assert coerce_context(Model, {"user": "ann", "other": 1}) == Model(user="ann")

    def test_undeclared_keys_are_dropped_even_where_the_model_forbids_them(self):
        assert coerce_context(Strict, {"user": "ann", "other": 1}) == Strict(user="ann")

    def test_undeclared_keys_are_kept_where_the_model_allows_them(self):
        assert coerce_context(Extra, {"other": 1}).model_extra == {"other": 1}

    def test_empty_values_are_the_defaults(self):
        assert coerce_context(Lenient, {}) == Lenient()

    def test_empty_values_are_none_where_a_key_is_required(self):
        assert coerce_context(Model, {}) is None

    def test_undeclared_keys_alone_count_as_no_context(self):
        assert coerce_context(Model, {"other": 1}) is None

    def test_every_refused_key_is_named(self):
        with pytest.raises(ContextError) as raised:
            coerce_context(Model, {"limit": 0})

        assert raised.value.problems == [
            ("context.user", "is required"),
            ("context.limit", "must be greater than or equal to 1"),
        ]
        assert str(raised.value) == (
            "context.user: is required; context.limit: must be greater than or equal to 1"
        )

    def test_a_wrong_type_is_named(self):
        with pytest.raises(ContextError) as raised:
            coerce_context(Model, {"user": 1})

        assert raised.value.problems == [("context.user", "must be a valid string")]

    def test_a_validator_of_the_whole_is_told_in_its_own_words(self):
        with pytest.raises(ContextError) as raised:
            coerce_context(Checked, {"low": 2})

        assert raised.value.problems == [("context", "low must not be above high")]

    def test_an_alias_is_a_key(self):
        assert coerce_context(Aliased, {"userId": "ann"}).user_id == "ann"
        assert coerce_context(Aliased, {"userId": "a", "org": {"team": "x"}}).team == "x"

    def test_a_name_counts_beside_its_alias_only_where_the_model_says_so(self):
        assert coerce_context(ByName, {"user_id": "ann"}).user_id == "ann"
        with pytest.raises(ContextError, match=r"context\.userId: is required"):
            coerce_context(Aliased, {"user_id": "ann", "team": "x"})


class TestPydanticDataclass:
    def test_undeclared_keys_are_dropped_and_values_checked(self):
        assert coerce_context(PydanticDataclass, {"user": "ann", "x": 1}) == PydanticDataclass(
            "ann"
        )
        with pytest.raises(ContextError) as raised:
            coerce_context(PydanticDataclass, {"user": "ann", "limit": "many"})
        assert raised.value.problems == [
            ("context.limit", "must be a valid integer, unable to parse string as an integer")
        ]

    def test_empty_values_are_none_where_a_key_is_required(self):
        assert coerce_context(PydanticDataclass, {}) is None

    def test_a_missing_key_is_named(self):
        with pytest.raises(ContextError, match=r"context\.user: is required"):
            coerce_context(PydanticDataclass, {"limit": 1})


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        (None, {"user": "ann"}),
        (Typed, {"user": "ann"}),
        (Defaults, {"user": "ann"}),
        (Defaults, {}),
        (Requires, {}),
        (OwnInit, {"limit": 3}),
        (Model, {"user": "ann"}),
        (Aliased, {"userId": "ann"}),
        (PydanticDataclass, {"user": "ann"}),
    ],
)
def test_the_graph_sees_what_was_made(schema, values):
    seen = []

    def node(state: dict, runtime: Runtime) -> None:
        seen.append(runtime.context)

    builder = StateGraph(dict, context_schema=schema)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    context = coerce_context(schema, values)

    builder.compile().invoke({}, context=context)

    assert seen[0] is context
