"""Who calls: what was found out about the client of a request, and goes with its runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any


class User(dict[str, Any]):
    """A caller, as LangGraph's `BaseUser`: an object of JSON, whose fields are attributes too.

    It is stored with the runs that it asks for, so that whichever process goes on with them does so
    as this caller. It may hold secrets, so that its repr shows the identity alone.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        """Make it from its fields, of which `identity` is required.

        Raises:
            TypeError: there is no identity, or it is not a non-empty text.
        """
        if not isinstance(fields.get("identity"), str) or not fields["identity"]:
            raise TypeError("a user must have an identity, a text that is not empty")
        identity = fields["identity"]
        defaults = {"display_name": identity, "is_authenticated": True, "permissions": []}
        given = {name: value for name, value in fields.items() if value is not None}
        super().__init__({**defaults, **given})

    @property
    def identity(self) -> str:
        """What tells it from others."""
        return str(self["identity"])

    @property
    def display_name(self) -> str:
        """What people call it."""
        return str(self["display_name"])

    @property
    def is_authenticated(self) -> bool:
        """Whether it is known who it is."""
        return bool(self["is_authenticated"])

    @property
    def permissions(self) -> list[str]:
        """What it may do, in the words of whoever decides that."""
        return list(self["permissions"])

    def __getattr__(self, name: str) -> Any:
        """A further field."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        """The identity alone."""
        return f"User({self.identity!r})"

    def configurable(self) -> dict[str, Any]:
        """What a graph's config has of it, as graphs for the Agent Server look for it."""
        return {
            "langgraph_auth_user": self,
            "langgraph_auth_user_id": self.identity,
            "langgraph_auth_permissions": self.permissions,
        }


RESERVED = "langgraph_auth_"
"""How the names begin that in a configurable are the service's alone to set."""

CALLER: ContextVar[User | None] = ContextVar("runwait_caller", default=None)
"""The caller of the request that this thread answers; None where nobody is asked who they are."""
