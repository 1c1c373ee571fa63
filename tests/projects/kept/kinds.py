"""Classes that no schema of the graphs names."""

import dataclasses
import enum
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from langchain_core.agents import AgentAction
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from pydantic import BaseModel, Field, field_serializer


class Question(BaseModel):
    text: str


class Step(BaseModel):
    name: str


class Search(Step):
    query: str


class Plan(BaseModel):
    steps: list[Step]
    token: str = Field(exclude=True)
    price: Decimal

    @field_serializer("price")
    def shown(self, value: Decimal) -> str:
        return f"{value} EUR"


class Talk(BaseModel):
    messages: list[BaseMessage]


@dataclasses.dataclass
class Game:
    score: int
    seed: dataclasses.InitVar[int]


class Colour(enum.Enum):
    RED = (255, 0, 0)


class Point(NamedTuple):
    x: int
    y: int


class Refused(Exception):
    def __init__(self, reason: str, code: int) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code


class Unkept(Exception):
    """One that holds what cannot be kept."""

    def __init__(self) -> None:
        super().__init__("holds a function", lambda: None)


def all_kinds() -> list[Any]:
    call = {"name": "f", "args": {"a": 1}, "id": "1"}
    groups = defaultdict(list, a=[1])
    return [
        {(1, 2), (3, 4)},
        Plan(steps=[Search(name="s", query="q")], token="t", price=Decimal("1.50")),
        Talk(messages=[AIMessage("", tool_calls=[call]), ToolMessage("r", tool_call_id="1")]),
        *(Game(1, 2), Colour.RED, Point(1, 2), Refused("no", 5)),
        *(Counter("aab"), groups, OrderedDict(a=1), deque([1, 2], maxlen=2)),
        *(AgentAction("tool", "input", "log"), datetime(2026, 1, 2, tzinfo=ZoneInfo("Asia/Tokyo"))),
    ]


def shown(values: list[Any]) -> list[str]:
    """The values as text that tells all of them."""
    told = [{type(each).__name__: getattr(each, "__dict__", {})} for each in values]
    return [f"{each!r} {more!r}" for each, more in zip(values, told, strict=True)]
