"""States that more than one module uses."""

import operator
from typing import Annotated, Any, TypedDict


class Value(TypedDict, total=False):
    value: Any


class Names(TypedDict, total=False):
    names: Annotated[list[str], operator.add]
    value: Any
