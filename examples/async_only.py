"""Coroutines throughout: nodes and the conditional edge can only be awaited.

The service runs such a graph on its event loop, where many runs wait at the same time. Here one
node asks three shops for a price at once, and the edge decides whether to buy.

    curl http://localhost:8000/runs/wait -d '{
      "assistant_id": "async_only",
      "input": {"item": "lamp", "budget": 25}
    }'
"""

import asyncio
from typing import Literal, TypedDict

from langgraph.graph import START, StateGraph

PRICES = {
    "corner shop": {"lamp": 30, "book": 12},
    "market": {"lamp": 20},
    "mail order": {"lamp": 24, "book": 9},
}


class State(TypedDict, total=False):
    item: str
    budget: int
    offers: dict[str, int]
    decision: str


async def ask(shop: str, item: str) -> int | None:
    await asyncio.sleep(0)  # a real shop would answer over the network here
    return PRICES[shop].get(item)


async def collect(state: State) -> State:
    prices = await asyncio.gather(*(ask(shop, state["item"]) for shop in PRICES))
    offers = zip(PRICES, prices, strict=True)
    return {"offers": {shop: price for shop, price in offers if price is not None}}


async def affordable(state: State) -> Literal["buy", "decline"]:
    await asyncio.sleep(0)
    return "buy" if min(state["offers"].values(), default=1e9) <= state["budget"] else "decline"


async def buy(state: State) -> State:
    shop, price = min(state["offers"].items(), key=lambda offer: offer[1])
    return {"decision": f"Buy the {state['item']} at the {shop} for {price}."}


async def decline(state: State) -> State:
    return {"decision": f"No {state['item']} for {state['budget']} or less."}


builder = StateGraph(State)
builder.add_node(collect)
builder.add_node(buy)
builder.add_node(decline)
builder.add_edge(START, "collect")
builder.add_conditional_edges("collect", affordable)
graph = builder.compile(name="async_only")
