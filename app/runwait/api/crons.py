"""/runs/crons and /threads/{thread_id}/runs/crons."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, current_app
from marshmallow import ValidationError, validates_schema

from runwait.api import fields
from runwait.api.answers import answer, page
from runwait.api.errors import InvalidRequest
from runwait.api.request import json_body
from runwait.api.schemas import Body, OnThread, RunBody
from runwait.api.threads import MOST, MOST_OFFSET
from runwait.crons.crons import Crons, milliseconds
from runwait.crons.schedule import InvalidSchedule, UnknownTimezone, schedule_of, timezone_of
from runwait.storage.crons import PUBLIC, SORTS, CronQuery

# What is a run's, and says nothing of the runs of a cron: checked, and without effect.
_UNUSED = ("on_completion", "on_disconnect", "after_seconds", "if_not_exists")
# What a cron has besides.
_OWN = (
    "assistant_id",
    "schedule",
    "timezone",
    "end_time",
    "enabled",
    "on_run_completed",
    "metadata",
)

blueprint = Blueprint("crons", __name__)


def _end_time(value: Any) -> int | None:
    """A time in ISO 8601 as ms since 1970, in UTC unless it says otherwise; None if it is none."""
    try:
        time = datetime.fromisoformat(value)
        return milliseconds((time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC))
    except (TypeError, ValueError, OverflowError):
        return None


def _is_timezone(value: Any) -> bool:
    try:
        return isinstance(value, str) and timezone_of(value) is not None
    except UnknownTimezone:
        return False


class CronBody(RunBody):
    """POST /runs/crons."""

    schedule = fields.text(required=True)
    timezone = fields.Strict(
        "the name of a timezone, such as Europe/Berlin", _is_timezone, allow_none=True
    )
    end_time = fields.Strict(
        "a time in ISO 8601, such as 2030-01-31T18:00:00Z, or null",
        lambda value: _end_time(value) is not None,
        convert=_end_time,
        allow_none=True,
    )
    enabled = fields.boolean()
    on_run_completed = fields.one_of(["delete", "keep"])

    @validates_schema
    def _comes(self, given: dict[str, Any], **_: Any) -> None:
        if "schedule" in given:
            try:
                schedule_of(given["schedule"])
            except InvalidSchedule as error:
                raise ValidationError(str(error), "schedule") from None


class ThreadCronBody(CronBody, OnThread):
    """POST /threads/{thread_id}/runs/crons."""


class PatchCronBody(CronBody):
    """PATCH /runs/crons/{cron_id}."""

    schedule = fields.text()
    assistant_id = fields.Strict("anything", lambda value: True, allow_none=True)


class CountCronsBody(Body):
    """POST /runs/crons/count."""

    assistant_id = fields.uuid()
    thread_id = fields.uuid()
    metadata = fields.filter_object()
    enabled = fields.boolean()


class SearchCronsBody(CountCronsBody):
    """POST /runs/crons/search."""

    limit = fields.integer(1, MOST)
    offset = fields.integer(0, MOST_OFFSET)
    sort_by = fields.one_of(SORTS)
    sort_order = fields.one_of(["asc", "desc"])
    # LangGraph's SDK for Python names `now`, too.
    select = fields.selection((*PUBLIC, "now"))


def _read(schema: CronBody) -> dict[str, Any]:
    """The request's body: what is the cron's own, and what its runs are asked, as it was sent."""
    sent = json_body()
    given = schema.of(sent)
    payload = {name: value for name, value in given.items() if name not in (*_OWN, *_UNUSED)}
    if "stream_mode" in payload:
        payload["stream_mode"] = sent["stream_mode"]
    return {name: given[name] for name in _OWN if name in given} | {"payload": payload}


_CRON_BODY, _THREAD_CRON_BODY, _PATCH_BODY = CronBody(), ThreadCronBody(), PatchCronBody()
_SEARCH_BODY, _COUNT_BODY = SearchCronsBody(), CountCronsBody()


@blueprint.post("/runs/crons")
def create() -> Response:
    """Start runs by the clock, each on a thread of its own."""
    return answer(_crons().create(**_read(_CRON_BODY)))


@blueprint.post("/threads/<thread_id>/runs/crons")
def create_on_thread(thread_id: str) -> Response:
    """Start runs by the clock, on a kept thread."""
    return answer(_crons().create(**_read(_THREAD_CRON_BODY), thread_id=thread_id))


@blueprint.get("/runs/crons/<cron_id>")
def get(cron_id: str) -> Response:
    """The cron."""
    return answer(_crons().get(cron_id))


@blueprint.patch("/runs/crons/<cron_id>")
def patch(cron_id: str) -> Response:
    """Change the cron."""
    body = _read(_PATCH_BODY)
    body.pop("assistant_id", None)
    if body == {"payload": {}}:
        raise InvalidRequest("the body must change something of the cron")
    return answer(_crons().patch(cron_id, **body))


@blueprint.delete("/runs/crons/<cron_id>")
def delete(cron_id: str) -> Response:
    """Remove the cron; its runs stay."""
    _crons().delete(cron_id)
    return Response(status=HTTPStatus.NO_CONTENT)


@blueprint.post("/runs/crons/search")
def search() -> Response:
    """Crons that match."""
    body = _SEARCH_BODY.of(json_body())
    names = body.pop("select", PUBLIC)
    query = CronQuery(**body)
    crons, total = _crons().search(query)
    now = {"now": datetime.now(UTC).isoformat()}
    shown = [{name: (each | now)[name] for name in names} for each in crons]
    following = query.offset + query.limit
    return page(shown, total, following if following < total else None)


@blueprint.post("/runs/crons/count")
def count() -> Response:
    """How many crons match."""
    return answer(_crons().count(CronQuery(**_COUNT_BODY.of(json_body()))))


def _crons() -> Crons:
    crons: Crons = current_app.extensions["runwait"].service.crons
    return crons
