"""/runs/crons and /threads/{thread_id}/runs/crons."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, ClassVar
from uuid import UUID

from flask import Blueprint, Response, request
from marshmallow import ValidationError, validates_schema

from runwait.api import current, fields
from runwait.api.answers import answer, page
from runwait.api.auth import authorize_body, caller, permit_thread
from runwait.api.errors import InvalidRequest
from runwait.api.operation import Answer, operation
from runwait.api.resources import A_COUNT, A_TIME, PAGED, Cron
from runwait.api.schemas import AN_ID, Body, OnThread, PageBody, RunBody
from runwait.api.threads import GONE, NOT_FOUND
from runwait.auth.filters import Filters
from runwait.crons.crons import milliseconds
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

THE_CRON = Answer("The cron.", Cron)

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
    """When runs are to start, and what they are asked."""

    example: ClassVar[Any] = {
        "assistant_id": "chat",
        "schedule": "30 8 * * 1-5",
        "input": {"messages": [{"role": "user", "content": "What is 6 * 7?"}]},
    }

    schedule = fields.text(
        required=True,
        about="Minute, hour, day, month and weekday, and perhaps seconds; or such as @daily.",
        example="0 9 * * 1-5",
    )
    timezone = fields.Strict(
        "the name of a timezone, such as Europe/Berlin",
        _is_timezone,
        allow_none=True,
        schema=fields.STRING,
        about="Whose clock the schedule means, UTC by default.",
        example="Europe/Berlin",
    )
    end_time = fields.Strict(
        "a time in ISO 8601, such as 2030-01-31T18:00:00Z, or null",
        lambda value: _end_time(value) is not None,
        allow_none=True,
        schema={**fields.STRING, "format": "date-time"},
        convert=_end_time,
        about="After it no run starts; in UTC, unless it has an offset.",
        example=A_TIME,
    )
    enabled = fields.boolean(about="Whether it starts runs, true by default.")
    on_run_completed = fields.one_of(
        ["delete", "keep"],
        about="What becomes of the thread of a run without one of its own, delete by default.",
    )

    @validates_schema
    def _comes(self, given: dict[str, Any], **_: Any) -> None:
        if "schedule" in given:
            try:
                schedule_of(given["schedule"])
            except InvalidSchedule as error:
                raise ValidationError(str(error), "schedule") from None

    def of(self, value: Any) -> dict[str, Any]:
        """What is the cron's own, and as its `payload` what its runs are asked, as it was sent."""
        given = super().of(value)
        payload = {name: each for name, each in given.items() if name not in (*_OWN, *_UNUSED)}
        if "stream_mode" in payload:
            payload["stream_mode"] = value["stream_mode"]
        return {name: given[name] for name in _OWN if name in given} | {"payload": payload}


class ThreadCronBody(CronBody, OnThread):
    """When runs are to start on a thread, and what they are asked."""


class PatchCronBody(CronBody):
    """What to change of a cron."""

    example: ClassVar[Any] = {"schedule": "30 8 * * 1-5", "enabled": True}

    schedule = fields.text(about="A new one counts from now.", example="@daily")
    assistant_id = fields.Strict(
        "anything", lambda value: True, allow_none=True, about="Of no effect.", example=AN_ID
    )

    def of(self, value: Any) -> dict[str, Any]:
        """The same; at least one of them."""
        changed = super().of(value)
        changed.pop("assistant_id", None)
        if changed == {"payload": {}}:
            raise InvalidRequest("the body must change something of the cron")
        return changed


class CountCronsBody(Body):
    """Which crons to count."""

    assistant_id = fields.uuid(about="Only those of this assistant.", example=AN_ID)
    thread_id = fields.uuid(about="Only those on this thread.", example=AN_ID)
    metadata = fields.filter_object(
        about="Only those whose metadata contain this.", example={"user": "ada"}
    )
    enabled = fields.boolean(about="Only those that start runs, or that do not.")


class SearchCronsBody(PageBody, CountCronsBody):
    """Which crons to find."""

    sort_by = fields.one_of(SORTS, about="What they are sorted by, created_at by default.")
    sort_order = fields.one_of(["asc", "desc"], about="Rising, or falling (the default).")
    # LangGraph's SDK for Python names `now`, too.
    select = fields.selection(
        (*PUBLIC, "now"), about="What of each; all but `now`, the time, if it is left out."
    )


@blueprint.post("/runs/crons")
@operation(body=CronBody(), gives=THE_CRON, refuses=[NOT_FOUND])
def create(body: dict[str, Any]) -> Response:
    """Start runs by the clock, each on a thread of its own."""
    return answer(_made(body))


@blueprint.post("/threads/<thread_id>/runs/crons")
@operation(body=ThreadCronBody(), gives=THE_CRON, refuses=[NOT_FOUND])
def create_on_thread(thread_id: str, body: dict[str, Any]) -> Response:
    """Start runs by the clock, on a kept thread."""
    permit_thread("read", thread_id)
    return answer(_made(body, thread_id))


@blueprint.get("/runs/crons/<cron_id>")
@operation(gives=THE_CRON, refuses=[NOT_FOUND])
def get(cron_id: str) -> Response:
    """The cron."""
    return answer(current.service().crons.get(cron_id, _filters("read", cron_id)))


@blueprint.patch("/runs/crons/<cron_id>")
@operation(body=PatchCronBody(), gives=THE_CRON, refuses=[NOT_FOUND, HTTPStatus.CONFLICT])
def patch(cron_id: str, body: dict[str, Any]) -> Response:
    """Change the cron."""
    filters = _filters("update", cron_id, body, ["payload", "schedule", "metadata"])
    return answer(current.service().crons.patch(cron_id, **body, filters=filters))


@blueprint.delete("/runs/crons/<cron_id>")
@operation(gives=GONE, refuses=[NOT_FOUND])
def delete(cron_id: str) -> Response:
    """Remove the cron; its runs stay."""
    current.service().crons.delete(cron_id, _filters("delete", cron_id))
    return Response(status=HTTPStatus.NO_CONTENT)


@blueprint.post("/runs/crons/search")
@operation(body=SearchCronsBody(), gives=Answer("The crons.", fields.list_of(Cron), headers=PAGED))
def search(body: dict[str, Any]) -> Response:
    """Crons that match."""
    permitted = _permitted(body)
    names = body.pop("select", PUBLIC)
    query = CronQuery(**body, permitted=permitted)
    crons, total = current.service().crons.search(query)
    now = {"now": datetime.now(UTC).isoformat()}
    shown = [{name: (each | now)[name] for name in names} for each in crons]
    following = query.offset + query.limit
    return page(shown, total, following if following < total else None)


@blueprint.post("/runs/crons/count")
@operation(body=CountCronsBody(), gives=A_COUNT)
def count(body: dict[str, Any]) -> Response:
    """How many crons match."""
    permitted = _permitted(body)
    return answer(current.service().crons.count(CronQuery(**body, permitted=permitted)))


def _made(body: dict[str, Any], thread_id: str | None = None) -> dict[str, Any]:
    user = caller()
    given = {
        "cron_id": None,
        "thread_id": UUID(thread_id) if thread_id else None,
        "user_id": user.identity if user else None,
        "end_time": body.get("end_time"),
    }
    authorize_body("crons", "create", body, ["payload", "schedule", "metadata"], **given)
    headers = current.http().configurable_headers.lasting(request.headers)
    return current.service().crons.create(**body, thread_id=thread_id, user=user, headers=headers)


def _filters(
    action: str, cron_id: str, body: dict[str, Any] | None = None, names: Sequence[str] = ()
) -> Filters | None:
    """What the metadata of a cron must contain to be there for the caller, who may do this."""
    given = {"cron_id": UUID(cron_id)}
    return authorize_body("crons", action, {} if body is None else body, names, **given)


def _permitted(body: dict[str, Any]) -> Filters:
    """What the metadata of the crons that are searched for must contain besides."""
    names = ["metadata", "assistant_id", "thread_id", "limit", "offset"]
    return authorize_body("crons", "search", body, names) or {}
