"""What operators ask."""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version

from flask import Blueprint, Response, jsonify

from runwait.api import current, fields
from runwait.api.errors import refusal
from runwait.api.operation import Answer, operation
from runwait.api.resources import METRICS, Info, Ok, Ready
from runwait.api.schemas import Texts
from runwait.metrics import CONTENT_TYPE
from runwait.storage.connection import StorageUnavailable
from runwait.version import __version__

blueprint = Blueprint("system", __name__)
SERVICE_UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE


class OkQuery(Texts):
    """What else to look at."""

    check_db = fields.flag(about="Whether to ask Redis too, as /ready does.")


@blueprint.get("/ok")
@operation(query=OkQuery(), gives=Answer("It is.", Ok), stored=False, refuses=[SERVICE_UNAVAILABLE])
def ok(check_db: bool) -> Response:
    """The process is alive."""
    asks = check_db and "meta" not in current.http().disabled
    return (asks and _not_ready()) or jsonify(ok=True)


@blueprint.get("/ready")
@operation(gives=Answer("It can.", Ready))
def ready() -> Response:
    """The process can do all its work: Redis and the graphs are there."""
    service = current.service()
    warning = {"warning": service.warning} if service.warning else {}
    return _not_ready() or jsonify(ready=True, **warning)


def _not_ready() -> Response | None:
    problem = current.service().problem()
    return None if problem is None else refusal(SERVICE_UNAVAILABLE, problem)


class MetricsQuery(Texts):
    """In which form."""

    format = fields.one_of(
        ("prometheus", "json"),
        load_default="prometheus",
        about="prometheus (default): its text format; json: a summary.",
    )


@blueprint.get("/metrics")
@operation(query=MetricsQuery(), gives=METRICS, stored=False)
def metrics(format: str) -> Response:
    """What was counted, by all processes of this machine together."""
    runwait = current.runwait()
    try:
        queue = runwait.service.queue()
    except StorageUnavailable:
        queue = None
    if format == "json":
        settings = runwait.settings
        places = settings.run_concurrency * settings.web_concurrency
        return jsonify(runwait.metrics.summary(queue, places))
    return Response(runwait.metrics.text(queue), content_type=CONTENT_TYPE)


@blueprint.get("/info")
@operation(gives=Answer("What it is.", Info), stored=False)
def info() -> Response:
    """Versions, and what this server can do, as the SDKs read it."""
    runwait = current.runwait()
    return jsonify(
        version=__version__,
        langgraph_py_version=version("langgraph"),
        flags={
            "assistants": runwait.http.has("/assistants"),
            "crons": runwait.settings.cron_enabled and runwait.http.has("/runs/crons"),
            "langsmith": False,
            "strict_resume": True,
        },
    )
