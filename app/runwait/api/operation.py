"""What a call takes and gives, declared once, on its view.

The declaration checks each request, and the API's description is made of it (openapi.py):

    @blueprint.get("/threads/<thread_id>/runs/<run_id>/join")
    @operation(query=JoinQuery, gives=WAITED, refuses=[HTTPStatus.NOT_FOUND])
    def join(thread_id: str, run_id: str, cancel_on_disconnect: bool) -> Response:
        \"""Wait for the run; answered with its document.\"""

A view is given the ids of its path, the fields of its query and of its headers, and `body`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from flask import Response, request

from runwait.api.errors import InvalidRequest
from runwait.api.request import json_body
from runwait.api.schemas import Batch, Body, Texts

View = Callable[..., Response]


@dataclass(frozen=True)
class Answer:
    """What a call is answered with if all goes well.

    Attributes:
        about: a sentence for the API's description.
        schema: of its JSON: a marshmallow schema, or JSON Schema; None if it has no body.
        headers: those that it may have, each with a sentence on it.
    """

    about: str
    schema: Any = None
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    mimetype: str = "application/json"


@dataclass(frozen=True)
class Operation:
    """What the call of a view takes and gives.

    Attributes:
        gives: its answers if all goes well.
        refuses: the statuses of answers that say why not, beside those that follow from the rest.
        stored: whether it needs Redis, or room for a run: 503 where there is none.
        invalid: the error for a request that is not as it must be.
    """

    gives: tuple[Answer, ...]
    body: Body | Batch | None
    query: Texts | None
    headers: Texts | None
    refuses: frozenset[int]
    stored: bool
    invalid: type[Exception]

    def read(self) -> dict[str, Any]:
        """What the request asks, as arguments of the view.

        Raises:
            BodyTooLarge, BrokenRequest: see json_body.
            InvalidRequest: it is not as it must be; the text names all that is not.
        """
        body = None if self.body is None else json_body()
        asked: dict[str, Any] = {}
        wrong = []
        parts: tuple[tuple[Body | Batch | Texts | None, Any], ...] = (
            (self.query, request.args),
            (self.headers, request.headers),
            (self.body, body),
        )
        for part, given in parts:
            if part is None:
                continue
            try:
                valid: Any = part.of(given)
            except InvalidRequest as error:
                wrong.append(str(error))
            else:
                asked |= {"body": valid} if part is self.body else valid
        if wrong:
            raise InvalidRequest("; ".join(wrong))
        return asked


def operation(
    *,
    gives: Answer | Sequence[Answer],
    body: Body | Batch | None = None,
    query: Texts | None = None,
    headers: Texts | None = None,
    refuses: Iterable[int] = (),
    stored: bool = True,
    invalid: type[Exception] = InvalidRequest,
) -> Callable[[View], View]:
    """Declare what the call of a view takes and gives; see Operation."""
    answers = (gives,) if isinstance(gives, Answer) else tuple(gives)
    declared = Operation(answers, body, query, headers, frozenset(refuses), stored, invalid)

    def declare(view: View) -> View:
        @functools.wraps(view)
        def checked(**ids: str) -> Response:
            try:
                asked = declared.read()
            except InvalidRequest as error:
                raise invalid(str(error)) from None
            return view(**ids, **asked)

        vars(checked)["operation"] = declared
        return checked

    return declare


def declared_by(view: Any) -> Operation | None:
    """What is declared of a view, if anything is."""
    found: Operation | None = vars(view).get("operation")
    return found
