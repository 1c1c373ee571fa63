"""Who calls, and whether they may: what every view asks before it does anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any
from uuid import UUID

from flask import Flask, g, request

from runwait.api import current, own_routes
from runwait.auth import request as asked
from runwait.auth.access import Access
from runwait.auth.filters import Filters, permits
from runwait.auth.user import CALLER, User
from runwait.graphs.assistants import uuid_of

OPEN = frozenset({"/", "/ok", "/ready", "/info", "/metrics", "/docs", "/openapi.json"})
"""The paths that everybody may ask for."""
OPEN_UNDER = ("/docs/", "/workbench/")
"""What the paths of static files begin with, which everybody may ask for too."""


def register(app: Flask, access: Access | None) -> None:
    """Have the app ask who calls, before it looks whether there is such a path."""
    if access is None:
        return  # nothing is asked of any request

    def authenticate() -> None:
        g.caller = None
        CALLER.set(None)
        if everybody_may() or (own_routes.is_asked() and not access.guards_own_routes):
            return
        g.caller = access.caller(_asked())
        CALLER.set(g.caller)

    def forget(error: BaseException | None) -> None:
        CALLER.set(None)

    app.before_request(authenticate)
    app.teardown_request(forget)


def everybody_may() -> bool:
    """Whether it does not matter who sent this request."""
    # /docs/../a begins like an open path, and is the project's own where that answers for it.
    return is_open(request.path) and not own_routes.is_asked()


def is_open(path: str) -> bool:
    """Whether everybody may ask for a path of the service."""
    return path in OPEN or path.startswith(OPEN_UNDER)


def caller() -> User | None:
    """Who calls; None where nobody is asked who they are."""
    user: User | None = g.get("caller")
    return user


def authorize(resource: str, action: str, value: dict[str, Any]) -> Filters | None:
    """Ask whether the caller may do something.

    Args:
        resource: threads, assistants, crons or store.
        action: create, read, update, delete, search, create_run; of the store put, get, search,
            delete, list_namespaces.
        value: what it is to be done with, as the Agent Server's handlers are given it. It may be
            changed: what it is then is what is to be done.

    Returns:
        What has to be in the metadata of whatever this is done to; None for no such condition.

    Raises:
        Refused, AuthFailed, AuthBusy: as `Access.authorize`.
    """
    user = caller()
    access = current.runwait().access
    if access is None or user is None:
        assert access is None  # an open path has nothing to authorize
        return None
    return access.authorize(user, resource, action, value)


def authorize_body(
    resource: str, action: str, body: dict[str, Any], names: Sequence[str], **given: Any
) -> Filters | None:
    """Ask as `authorize` does, with these fields of a body, which has what becomes of them.

    Args:
        resource, action: as of `authorize`.
        body: the valid body.
        names: of its fields that handlers are shown, and may change.
        given: what else they are shown.
    """
    if current.runwait().access is None:
        return None
    if "metadata" in names:
        body.setdefault("metadata", {})  # many a handler counts on it
    value = given | {name: body[name] for name in names if name in body}
    filters = authorize(resource, action, value)
    body.update((name, value[name]) for name in names if name in value)
    return filters


def reads(
    resource: str, filters: Filters | None, **given: Any
) -> Callable[[Mapping[str, Any]], bool] | None:
    """Whether something that was there before it was to be made is an answer, by its metadata; None
    where it always is.

    Args:
        resource: threads or assistants.
        filters: the condition under which the caller may make it; it must be one to be read, too.
        given: which it is.
    """

    if current.runwait().access is None:
        return None

    def is_there(metadata: Mapping[str, Any]) -> bool:
        asked = {**given, "metadata": {}}
        return permits(filters, metadata) and permits(authorize(resource, "read", asked), metadata)

    return is_there


def permitted_assistants(body: dict[str, Any]) -> Filters:
    """What the metadata of the assistants that are searched for must contain besides."""
    asked = deepcopy(body.get("metadata", {}))
    names = ["metadata", "graph_id", "limit", "offset"]
    filters = authorize_body("assistants", "search", body, names) or {}
    # What a handler adds to what was asked for is a condition too, but not for the system's.
    added, body["metadata"] = body.get("metadata", {}), asked
    return filters if added == asked else {**added, **filters}


def permit_assistant(
    action: str, assistant_id: str, body: dict[str, Any] | None = None, names: Sequence[str] = ()
) -> None:
    """Ask whether the caller may do this to an assistant, which may not be there for it.

    Args:
        action, body, names: as of `authorize_body`.
        assistant_id: its UUID, or its graph's name.

    Raises:
        AssistantNotFound: it is not.
        Refused, AuthFailed, AuthBusy, StorageUnavailable.
    """
    given: dict[str, Any] = {"assistant_id": uuid_of(assistant_id), "metadata": {}}
    filters = authorize_body("assistants", action, {} if body is None else body, names, **given)
    if filters is not None:
        current.service().assistants.require(assistant_id, filters)


def permit_thread(action: str, thread_id: str, /, **more: Any) -> None:
    """Ask whether the caller may do this to a thread, which may not be there for it.

    Raises:
        ThreadNotFound: it is not.
        Refused, AuthFailed, AuthBusy, StorageUnavailable.
    """
    if current.runwait().access is not None:
        filters = authorize("threads", action, {"thread_id": UUID(thread_id), **more})
        current.service().require_thread(thread_id, filters)


def permit_run(action: str, thread_id: str | None, run_id: str, /, **more: Any) -> None:
    """Ask whether the caller may do this to a run, which may not be there for it.

    Raises:
        RunNotFound: it is not.
        Refused, AuthFailed, AuthBusy, StorageUnavailable.
    """
    if current.runwait().access is not None:
        ids = {"thread_id": UUID(thread_id) if thread_id else None, "run_id": UUID(run_id)}
        filters = authorize("threads", action, {**ids, **more})
        current.service().require_run(thread_id, run_id, filters)


def _asked() -> asked.Request:
    """The request, as whoever decides is shown it."""
    address = request.remote_addr
    return asked.Request(
        method=request.method,
        url=asked.URL(
            request.scheme,
            request.host,
            request.root_path.rstrip("/") + request.path,
            request.query_string.decode("latin-1"),
            "",
        ),
        headers=asked.Headers(list(request.headers)),
        query_params=asked.QueryParams(list(request.args.items(multi=True))),
        path_params=dict(request.view_args or {}),
        client=asked.Address(address, int(request.environ.get("REMOTE_PORT") or 0))
        if address
        else None,
    )
