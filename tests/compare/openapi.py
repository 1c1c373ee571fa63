"""Facts of a description of an API: what each call takes and is answered with, by names alone.

    python -m tests.compare.openapi http://127.0.0.1:2024 > tests/api/observed.json

writes down those of a reference Agent Server that runs there; tests/api/test_observed.py compares
them with Runwait's own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import httpx

Facts = dict[str, dict[str, list[str]]]


def facts(document: dict[str, Any]) -> Facts:
    """What each call of a description takes and is answered with.

    By `METHOD path`: `parameters`, such as `query limit`; the fields of its `body`; those of its
    `answer`; and the `types` of that.
    """
    return {
        f"{method.upper()} {path}": _call(document, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in ("get", "put", "post", "patch", "delete")
    }


def _call(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, list[str]]:
    parameters = [_found(document, each) for each in operation.get("parameters", [])]
    good = [each for status, each in operation["responses"].items() if status.startswith("2")]
    contents = [_found(document, each).get("content", {}) for each in good]
    return {
        "parameters": sorted({f"{each['in']} {each['name']}" for each in parameters}),
        "body": _of_content(document, operation.get("requestBody", {}).get("content", {})),
        "answer": sorted({name for each in contents for name in _of_content(document, each)}),
        "types": sorted({kind for each in contents for kind in each}),
    }


def _of_content(document: dict[str, Any], content: dict[str, Any]) -> list[str]:
    return sorted(
        {name for each in content.values() for name in _fields(document, each.get("schema", {}))}
    )


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    """The names that an object of a schema may have, or one in a list of it."""
    schema = _found(document, schema)
    yield from schema.get("properties", {})
    inner = [schema["items"]] if "items" in schema else []
    for each in [*inner, *(each for key in _OF_MANY for each in schema.get(key, []))]:
        yield from _fields(document, each)


_OF_MANY = ("allOf", "anyOf", "oneOf")


def _found(document: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in given:
        found: Any = document
        for name in given["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        given = found
    return given


if __name__ == "__main__":
    print(json.dumps(facts(httpx.get(f"{sys.argv[1]}/openapi.json").json()), indent=1))
