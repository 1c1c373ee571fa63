"""LangChain's adapters, which make an agent's tools of a server's.

    adapters_client.py URL CALLS

Prints the names of the tools, and what each call gave, as lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys

from langchain_mcp_adapters.client import MultiServerMCPClient


async def main(url: str, calls: str) -> None:
    """Make calls."""
    client = MultiServerMCPClient({"runwait": {"transport": "streamable_http", "url": url}})
    tools = {tool.name: tool for tool in await client.get_tools()}
    print(json.dumps(sorted(tools)))
    for name, arguments in json.loads(calls):
        try:
            print(json.dumps({"given": await tools[name].ainvoke(arguments)}))
        except Exception as error:
            print(json.dumps({"error": str(error)}))


asyncio.run(main(sys.argv[1], sys.argv[2]))
