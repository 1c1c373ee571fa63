"""The HTTP edge: what comes in is validated here, what goes out is given its form here."""

from app.api.assistants import blueprint as _assistants
from app.api.runs import blueprint as _runs
from app.api.states import blueprint as _states
from app.api.store import blueprint as _store
from app.api.system import blueprint as _system
from app.api.threads import blueprint as _threads

BLUEPRINTS = (_runs, _threads, _states, _assistants, _store, _system)
