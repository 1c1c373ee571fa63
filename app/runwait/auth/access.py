"""Who is let in, and what they may do: by API keys, or as the project's own auth decides."""

from __future__ import annotations

from typing import Any, Protocol

from runwait.auth.filters import Filters
from runwait.auth.keys import ApiKeys
from runwait.auth.request import Request
from runwait.auth.user import User

OWNER = "runwait_key"
"""Where ISOLATE_KEYS notes in metadata whose something is."""

_FILTERED = ("threads", "assistants", "crons")
_MADE = ("create", "update", "create_run")


class Access(Protocol):
    """Decides who is let in, and what they may do. Its methods may block for a while.

    Attributes:
        isolates: whether what one caller made is not there for another, also where a run is asked
            for by an assistant, and in the graphs' store.
        guards_own_routes: whether it is asked of the project's own routes too.
        asks_for_keys: whether it is API_KEYS that let somebody in.
    """

    isolates: bool
    asks_for_keys: bool
    guards_own_routes: bool

    def caller(self, request: Request) -> User:
        """Who calls.

        Raises:
            Refused: nobody who is let in.
            AuthFailed, AuthBusy: nobody knows.
        """

    def authorize(
        self, user: User, resource: str, action: str, value: dict[str, Any]
    ) -> Filters | None:
        """Whether a caller may do something.

        Args:
            user: the caller.
            resource, action: what it is, as in `langgraph_sdk.Auth.on`.
            value: what it is done with. It may be changed: what it is then is what is to be done.

        Returns:
            What the metadata of what it is done to must contain, or else it is not there; None for
            no condition.

        Raises:
            Refused: no.
            AuthFailed, AuthBusy: nobody knows.
        """


class KeyAccess:
    """Whoever has a key may do all there is to be done, or all to what is its own."""

    asks_for_keys = True
    guards_own_routes = True

    def __init__(self, keys: ApiKeys, *, isolates: bool = False) -> None:
        self._keys = keys
        self.isolates = isolates

    def caller(self, request: Request) -> User:
        """Whose key it is."""
        return self._keys.caller(request)

    def authorize(
        self, user: User, resource: str, action: str, value: dict[str, Any]
    ) -> Filters | None:
        """Yes; of isolated keys, what they make is marked, and only that is there for them."""
        if not self.isolates or resource not in _FILTERED:
            return None
        owned = {OWNER: user.identity}
        if action in _MADE:
            # Also over what a body says: nothing is given to another, nor taken over.
            value["metadata"] = {**(value.get("metadata") or {}), **owned}
        return owned
