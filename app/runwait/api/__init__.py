"""The HTTP edge: what comes in is validated here, what goes out is given its form here."""

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

BLUEPRINTS = (
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
