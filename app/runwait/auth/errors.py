"""What keeps a caller out."""

from __future__ import annotations

from collections.abc import Mapping


class Refused(Exception):
    """The caller may not do this, or it is not known who it is; the text may be shown to it.

    Attributes:
        status: HTTP's status for it.
        headers: what the answer has besides.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})


class AuthFailed(Exception):
    """The project's own auth raised, or answered what nobody can act on; its cause says more.

    Nobody gets in then, and the caller is told nothing of it.
    """


class AuthBusy(Exception):
    """The project's own auth does not answer in time, or is asked too much at once."""
