"""What handlers answer: conditions for the metadata of what a caller may reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runwait.storage.metadata import contains

Filters = Mapping[str, Any]
"""What metadata must contain (`storage.metadata.contains`) to be there for a caller."""


def filters_of(found: Mapping[str, Any]) -> Filters | None:
    """The condition that a handler's answer makes; None for an empty one.

    Args:
        found: a value, `{"$eq": value}` or `{"$contains": value or list}` for each field.

    Raises:
        ValueError: it is none of these.
    """
    return {_checked_name(name): _wanted(name, each) for name, each in found.items()} or None


def permits(filters: Filters | None, metadata: Mapping[str, Any]) -> bool:
    """Whether something with such metadata is there for the caller."""
    return filters is None or contains(metadata, filters)


def _checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"a filter's field must be a string, not {type(name).__name__}")
    return name


def _wanted(name: str, condition: Any) -> Any:
    if not isinstance(condition, Mapping):
        return _scalar(name, condition)
    if len(condition) != 1:
        raise ValueError(f"the filter of {name!r} must have one operator")
    ((operator, operand),) = condition.items()
    if operator == "$eq":
        return _scalar(name, operand)
    if operator == "$contains":
        many = operand if isinstance(operand, list | tuple | set | frozenset) else [operand]
        return [_scalar(name, each) for each in many]
    raise ValueError(f"the filter of {name!r} has the unknown operator {operator!r}")


def _scalar(name: str, value: Any) -> Any:
    if value is not None and not isinstance(value, str | int | float | bool):
        raise ValueError(f"the filter of {name!r} must compare with a text or a number")
    return value
