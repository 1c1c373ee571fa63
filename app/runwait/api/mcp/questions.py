"""What a call's client is asked: a form for each interrupt, and the thread that waits meanwhile."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import token_urlsafe
from typing import Any, TypeGuard

from runwait.api import current
from runwait.api.auth import authorize, permit_thread
from runwait.api.mcp.eras import Era
from runwait.graphs.assistants import is_uuid
from runwait.serialization import dumps
from runwait.storage.threads import ThreadNotFound

# How long an answer may be awaited, in ms; then the thread of the call is gone.
ANSWER_TTL = 24 * 3_600_000
# What the metadata of a waiting call's thread has its proof under: whoever has it may answer.
_PROOF = "mcp"
# What a form of the protocol may ask for.
_PRIMITIVE = ("string", "number", "integer", "boolean")


class Declined(Exception):
    """The user did not answer what was asked; the text says it."""


@dataclass(frozen=True)
class Waiting:
    """The thread of a call whose client can be asked something.

    Attributes:
        thread_id, proof: make up `requestState`.
        schemas: of the answers that it waits for, by the ids of its interrupts.
    """

    thread_id: str
    proof: str
    schemas: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def new(cls, assistant_id: str) -> Waiting:
        """A thread for a run of this assistant. It outlives the run only if that asks something."""
        metadata = {_PROOF: token_urlsafe(32), "assistant_id": assistant_id}
        made = {"metadata": metadata}
        authorize("threads", "create", made)
        thread = current.service().threads.create(metadata=made["metadata"], ttl=ANSWER_TTL)
        return cls(thread["thread_id"], metadata[_PROOF])

    @classmethod
    def of(cls, state: Any, assistant_id: str, era: Era) -> Waiting:
        """The thread by the `requestState` that its client was given.

        Raises:
            RpcError: none of this assistant waits with it.
        """
        gone = era.wrong("requestState: there is no call that waits with it")
        thread_id, _, token = state.partition(".") if isinstance(state, str) else ("", "", "")
        if not is_uuid(thread_id):
            raise gone
        try:
            permit_thread("read", thread_id)
            metadata = current.service().threads.get(thread_id)["metadata"]
        except ThreadNotFound:
            raise gone from None
        known = metadata.get(_PROOF)
        if not isinstance(known, str) or not hmac.compare_digest(known.encode(), token.encode()):
            raise gone
        if metadata.get("assistant_id") != assistant_id:
            raise gone
        waiting = current.service().waiting_on(thread_id, assistant_id)
        if not waiting:
            raise gone
        return cls(thread_id, token, {each.id: each.response_schema for each in waiting})

    def answers(self, given: Any, era: Era) -> dict[str, Any]:
        """The values to resume with, of a request's `inputResponses`.

        Raises:
            RpcError: they do not answer what was asked.
            Declined: the user does not; the thread is gone.
        """
        if not isinstance(given, dict) or not given.keys() & self.schemas.keys():
            raise era.wrong(f"inputResponses: must answer {', '.join(self.schemas)}")
        resume = {}
        for each in self.schemas.keys() & given.keys():
            answer = given[each] if isinstance(given[each], dict) else {}
            content = answer.get("content")
            if answer.get("action") != "accept":
                current.service().threads.delete(self.thread_id)
                raise Declined(f"the user did not answer: {answer.get('action')}")
            _, whole = _form(self.schemas[each])
            if not isinstance(content, dict) or not (whole or "answer" in content):
                raise era.wrong(f"inputResponses.{each}.content: must fill in the form")
            resume[each] = content if whole else content["answer"]
        return resume

    def asking(self, interrupts: list[dict[str, Any]]) -> dict[str, Any]:
        """The result that asks the client for answers."""
        requests = {}
        for each in interrupts:
            value, (schema, _) = each["value"], _form(each["response_schema"])
            message = value if isinstance(value, str) else dumps(value).decode()
            params = {"mode": "form", "message": message, "requestedSchema": schema}
            requests[each["id"]] = {"method": "elicitation/create", "params": params}
        state = f"{self.thread_id}.{self.proof}"
        return {"resultType": "input_required", "inputRequests": requests, "requestState": state}


def _form(wanted: Any) -> tuple[dict[str, Any], bool]:
    """How an interrupt is asked about.

    Args:
        wanted: its response_schema, which may be None.

    Returns:
        The schema of a form, and whether the answer is the whole of what is filled in; else it is
        what is under `answer`.
    """
    schema = wanted if isinstance(wanted, dict) else {}
    parts = schema.get("properties")
    # Clients can show what is flat, of primitive values.
    is_flat = isinstance(parts, dict) and all(map(_is_plain, parts.values()))
    if schema.get("type") == "object" and is_flat:
        return schema, True
    answer = schema if _is_plain(schema) else {"type": "string"}
    return {"type": "object", "properties": {"answer": answer}, "required": ["answer"]}, False


def _is_plain(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") in _PRIMITIVE


def are_interrupts(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    """Whether this is a list of interrupts: a graph may give anything under their name."""
    return (
        isinstance(value, list)
        and value != []
        and all(
            isinstance(each, dict)
            and {"id", "value", "response_schema"} <= each.keys()
            and isinstance(each["id"], str)
            for each in value
        )
    )
