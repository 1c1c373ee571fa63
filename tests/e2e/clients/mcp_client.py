"""The official client of the Model Context Protocol.

    mcp_client.py URL MODE CALLS

Prints a line of JSON for each call.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from mcp import MCPError
from mcp.client.client import Client
from mcp_types import ElicitResult


def tell(**what: Any) -> None:
    """Print what came of a call."""
    print(json.dumps(what), flush=True)


async def main(url: str, mode: str) -> None:
    """Make calls."""
    asked = []
    steps = []

    async def elicit(context: Any, params: Any) -> ElicitResult:
        asked.append({"message": params.message, "schema": params.requested_schema})
        if "decline" in params.message:
            return ElicitResult(action="decline")
        field = next(iter(params.requested_schema["properties"]))
        return ElicitResult(action="accept", content={field: True if field == "sure" else "blue"})

    async def progress(done: float, total: float | None, message: str | None) -> None:
        steps.append([done, message])

    async with Client(url, elicitation_callback=elicit, mode=mode) as client:
        tools = (await client.list_tools()).tools
        tell(
            tools=[each.model_dump(by_alias=True) for each in tools], spoken=client.protocol_version
        )
        for name, arguments in json.loads(sys.argv[3]):
            steps.clear()
            asked.clear()
            try:
                result = await client.call_tool(name, arguments, progress_callback=progress)
            except MCPError as error:
                tell(error=error.error.code, message=error.error.message)
                continue
            texts = [each.text for each in result.content]
            tell(
                texts=texts,
                structured=result.structured_content,
                is_error=result.is_error,
                steps=list(steps),
                asked=list(asked),
            )


asyncio.run(main(sys.argv[1], sys.argv[2]))
