"""/webhooks/dead: webhooks that were given up."""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, Response

from runwait.api import current, fields
from runwait.api.answers import answer
from runwait.api.auth import authorize, permit_run
from runwait.api.errors import WebhookNotFound
from runwait.api.operation import Answer, operation
from runwait.api.resources import DeadWebhook
from runwait.api.schemas import PageQuery

blueprint = Blueprint("webhooks", __name__)


@blueprint.get("/webhooks/dead")
@operation(query=PageQuery(), gives=Answer("The webhooks.", fields.list_of(DeadWebhook)))
def dead(limit: int, offset: int) -> Response:
    """Webhooks that were given up, the last one first."""
    filters = authorize("threads", "search", {"metadata": {}, "limit": limit, "offset": offset})
    if filters is None:
        found = current.service().outbox.dead(limit, offset)
    else:
        found = current.service().dead_webhooks(limit, offset, filters)
    return answer([each.public() for each in found])


@blueprint.post("/webhooks/dead/<run_id>/retry")
@operation(
    gives=Answer("It is due now.", status=HTTPStatus.NO_CONTENT), refuses=[HTTPStatus.NOT_FOUND]
)
def retry(run_id: str) -> Response:
    """Have the webhook of a run sent again, from now on for as long as a new one."""
    permit_run("update", None, run_id)
    if not current.service().outbox.retry(run_id):
        raise WebhookNotFound(run_id)
    return Response(status=HTTPStatus.NO_CONTENT)
