"""What operators ask."""

from __future__ import annotations

from importlib.metadata import version

from flask import Blueprint, Response, current_app, jsonify

from runwait.api.operation import Answer, operation
from runwait.api.resources import Info, Ok, Ready
from runwait.version import __version__

blueprint = Blueprint("system", __name__)


@blueprint.get("/ok")
@operation(gives=Answer("It is.", Ok), stored=False)
def ok() -> Response:
    """The process is alive."""
    return jsonify(ok=True)


@blueprint.get("/ready")
@operation(gives=Answer("It can.", Ready))
def ready() -> Response:
    """The process can do all its work: Redis and the graphs are there."""
    service = current_app.extensions["runwait"].service
    problem = service.problem()
    if problem is not None:
        response = jsonify(detail=problem)
        response.status_code = 503
        return response
    return jsonify(ready=True, **({"warning": service.warning} if service.warning else {}))


@blueprint.get("/info")
@operation(gives=Answer("What it is.", Info), stored=False)
def info() -> Response:
    """Versions, and what this server can do, as the SDKs read it."""
    settings = current_app.extensions["runwait"].settings
    return jsonify(
        version=__version__,
        langgraph_py_version=version("langgraph"),
        flags={
            "assistants": True,
            "crons": settings.cron_enabled,
            "langsmith": False,
            "strict_resume": True,
        },
    )
