"""What a start needs beside graphs that load, for the commands that try it."""

from __future__ import annotations

from runwait.api.own_routes import own_app
from runwait.graphs.config import GraphLoadError, LanggraphConfig
from runwait.graphs.loader import load_modules, report
from runwait.options import options_of
from runwait.settings import Settings


def problem_beside_graphs(settings: Settings, file: LanggraphConfig) -> str | None:
    """What is wrong with the rest of langgraph.json, what that names, or STATE_MODULES.

    Args:
        settings: the service's.
        file: langgraph.json, whose graphs were loaded.

    Returns:
        One line, and then those that raised, if it is the project's code; None if nothing is wrong.
    """
    try:
        load_modules(file, settings.state_modules or ())
        own_app(file, options_of(settings, file).http)
    except GraphLoadError as error:
        return report(error, whole=settings.log_level == "DEBUG")
    except ValueError as error:
        return str(error)
    return None
