"""A run's static context: the values a caller gives, in the shape the graph's schema wants.

LangGraph makes an instance of a schema from a dict by itself, but a key that the schema doesn't
declare makes it fail, as does a required key when the caller gives no context at all. What comes
from here passes through LangGraph's own coercion unchanged.
"""

import inspect
import re
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo


class ContextError(ValueError):
    """The schema refuses a context.

    Attributes:
        problems: each offending path (`context.user`; `context` for the whole) and what is wrong.
    """

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {problem}" for path, problem in problems))
        self.problems = problems


def coerce_context(schema: type | None, values: dict[str, Any]) -> Any:
    """What to pass to the graph as its context.

    Args:
        schema: the graph's `context_schema`: a dataclass, pydantic model or TypedDict.
        values: the caller's context. Keys that the schema doesn't declare are dropped; without a
            schema all are kept.

    Returns:
        An instance of the schema; a dict for a TypedDict, another type, or no schema; None where
        the schema has required keys and none of the keys that it declares is given.

    Raises:
        ContextError: the schema refuses the values.
    """
    kind: Any = schema
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return _model(schema, values, kind.model_fields, kind.model_config)
    if isinstance(schema, type) and is_dataclass(schema):
        if hasattr(schema, "__pydantic_fields__"):
            return _model(schema, values, kind.__pydantic_fields__, kind.__pydantic_config__)
        return _dataclass(schema, values)
    if hasattr(schema, "__required_keys__"):  # a TypedDict, of typing or typing_extensions
        declared = kind.__required_keys__ | kind.__optional_keys__
        return {key: value for key, value in values.items() if key in declared}
    return values


def _model(
    schema: type, values: dict[str, Any], fields: dict[str, FieldInfo], config: ConfigDict
) -> Any:
    if config.get("extra") != "allow":
        by_name = config.get("validate_by_name") or config.get("populate_by_name")
        declared = {key for name, field in fields.items() for key in _keys(name, field, by_name)}
        values = {key: value for key, value in values.items() if key in declared}
    if not values and any(field.is_required() for field in fields.values()):
        return None
    return _make(schema, values)


def _keys(name: str, field: FieldInfo, by_name: Any) -> list[str]:
    """The keys under which a pydantic field is given."""
    alias = field.validation_alias
    aliases = alias.choices if isinstance(alias, AliasChoices) else [alias] if alias else []
    keys = [str(alias.path[0]) if isinstance(alias, AliasPath) else alias for alias in aliases]
    return [*keys, name] if by_name or not keys else keys


def _dataclass(schema: type, values: dict[str, Any]) -> Any:
    # The signature, unlike the fields, knows InitVars, `init=False` and an __init__ of its own.
    parameters = inspect.signature(schema).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    required = [p.name for p in named if p.default is p.empty]
    declared = {p.name for p in named}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        declared |= {field.name for field in fields(schema) if field.init}
    values = {key: value for key, value in values.items() if key in declared}
    if not values and required:
        return None
    if missing := [name for name in required if name not in values]:
        raise ContextError([(f"context.{name}", "is required") for name in missing])
    return _make(schema, values)


def _make(schema: type, values: dict[str, Any]) -> Any:
    try:
        return schema(**values)
    except ValidationError as exc:
        raise ContextError([_problem(error) for error in exc.errors()]) from exc
    except Exception as exc:
        # Whatever a constructor raises, it is what it makes of the caller's values.
        text = " ".join(str(exc).split()) or type(exc).__name__
        raise ContextError([("context", text)]) from exc


def _problem(error: Any) -> tuple[str, str]:
    path = ".".join(map(str, ("context", *error["loc"])))
    if error["type"] == "missing":
        return path, "is required"
    message = " ".join(error["msg"].split())
    # Pydantic's "Input should be a valid string", and a validator's own text after its prefix.
    message = re.sub(r"^(Value error|Assertion failed), ", "", message)
    return path, re.sub(r"^[A-Z]\w*( \w+)*? should ", "must ", message)
