"""The HTTP edge: what comes in is validated here, what goes out is given its form here."""

from collections.abc import Iterator

from flask import Blueprint

from runwait.api.assistants import blueprint as _assistants
from runwait.api.crons import blueprint as _crons
from runwait.api.openapi import blueprint as _openapi
from runwait.api.protocol import blueprint as _protocol
from runwait.api.runs import blueprint as _runs
from runwait.api.states import blueprint as _states
from runwait.api.store import blueprint as _store
from runwait.api.system import blueprint as _system
from runwait.api.threads import blueprint as _threads
from runwait.api.webhooks import blueprint as _webhooks

_ALWAYS = (
    _runs,
    _crons,
    _threads,
    _states,
    _assistants,
    _store,
    _webhooks,
    _system,
    _protocol,
    _openapi,
)


def blueprints(disabled: frozenset[str]) -> Iterator[Blueprint]:
    """All there are. What speaks another protocol is not even imported where that is turned off."""
    yield from _ALWAYS
    if "mcp" not in disabled:
        from runwait.api.mcp import blueprint as mcp

        yield mcp
    if "a2a" not in disabled:
        from runwait.api.a2a import blueprint as a2a

        yield a2a
