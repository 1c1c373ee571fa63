"""The official client of the Agent2Agent protocol.

    a2a_client.py URL VERSION CALLS

The URL is an agent's, the version 1.0 or 0.3, each call what it does and with what. `TASK` stands
for the id of the task that was told of last. Prints a line of JSON for each call.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types.a2a_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    SendMessageRequest,
    SubscribeToTaskRequest,
)
from google.protobuf.json_format import MessageToDict, ParseDict


async def main(url: str, version: str, calls: str) -> None:
    """Make calls."""
    task_id = ""
    async with httpx.AsyncClient(timeout=60) as http:
        http.headers["A2A-Version"] = version
        card = await A2ACardResolver(http, url).get_agent_card()
        print(json.dumps(MessageToDict(card)))
        spoken = [each for each in card.supported_interfaces if each.protocol_version == version]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(spoken)
        for what, given in json.loads(calls):
            params = json.loads(json.dumps(given).replace("TASK", task_id))
            config = ClientConfig(httpx_client=http, streaming=what != "send")
            client = ClientFactory(config).create(card)
            told = []
            try:
                async for each in _called(client, what, params):
                    told.append(each)
                    task_id = _task_of(each) or task_id
            except Exception as error:
                told.append({"error": type(error).__name__, "message": str(error)})
            print(json.dumps(told), flush=True)


async def _called(client: Any, what: str, params: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    if what in ("send", "stream"):
        message = {"role": "ROLE_USER", "messageId": str(uuid4()), **params.pop("message")}
        request = ParseDict({"message": message, **params}, SendMessageRequest())
        async for each in client.send_message(request):
            yield MessageToDict(each)
    elif what == "subscribe":
        async for each in client.subscribe(ParseDict(params, SubscribeToTaskRequest())):
            yield MessageToDict(each)
    elif what == "get":
        yield MessageToDict(await client.get_task(ParseDict(params, GetTaskRequest())))
    elif what == "cancel":
        yield MessageToDict(await client.cancel_task(ParseDict(params, CancelTaskRequest())))
    elif what == "list":
        yield MessageToDict(await client.list_tasks(ParseDict(params, ListTasksRequest())))


def _task_of(told: dict[str, Any]) -> str:
    return told.get("task", {}).get("id") or told.get("statusUpdate", {}).get("taskId") or ""


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3]))
