"""What JSON-RPC's errors are answered with."""

from __future__ import annotations

from runwait.api import jsonrpc
from runwait.api.errors import BodyTooLarge


def test_what_could_not_be_read_has_the_status_that_it_has_elsewhere():
    response = jsonrpc.problem(None, BodyTooLarge("it is too large"))
    assert (response.status_code, response.json["id"]) == (413, None)
