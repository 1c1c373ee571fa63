"""The HTTP edge: what comes in is validated here, what goes out is given its form here."""

from app.api.runs import blueprint as _runs
from app.api.system import blueprint as _system

BLUEPRINTS = (_runs, _system)
