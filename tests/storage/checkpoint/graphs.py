"""Graphs whose states are compared, and how they are."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, StateSnapshot, interrupt


class Talk(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]
    count: int


def build(saver: BaseCheckpointSaver[Any]) -> Any:
    """A graph that asks in a node twice, in two nodes at once, and in a subgraph; or does not."""

    def first(state: Talk) -> Talk:
        return {"log": ["first"], "count": state.get("count", 0) + 1}

    def chat(state: Talk) -> Talk:
        return {"messages": [AIMessage(f"you said {state['messages'][-1].content}")]}

    def twice(_: Talk) -> Talk:
        return {"log": [f"twice {interrupt('one')} {interrupt('two')}"]}

    def left(_: Talk) -> Talk:
        return {"log": [f"left {interrupt('left?')}"]}

    def right(_: Talk) -> Talk:
        return {"log": [f"right {interrupt('right?')}"]}

    def quick(_: Talk) -> Talk:
        return {"log": ["quick"]}

    def inner(_: Talk) -> Talk:
        return {"log": [f"inner {interrupt('inner?')}"]}

    def failing(_: Talk) -> Talk:
        if interrupt("fail?") == "yes":
            raise ValueError("as told")
        return {"log": ["not failed"]}

    def piece(state: Any) -> Talk:
        return {"log": [f"piece {state['number']}"]}

    def last(state: Talk) -> Talk:
        return {"log": [f"last of {len(state['log'])}"]}

    def route(state: Talk) -> Any:
        wanted = str(state["messages"][0].content)
        if wanted == "map":
            return [Send("piece", {"number": number}) for number in range(3)]
        return {
            "both": ["left", "right", "quick"],
            "twice": ["twice"],
            "sub": ["sub"],
            "fail": ["failing"],
        }.get(wanted, ["last"])

    subgraph = (
        StateGraph(Talk)
        .add_node(inner)
        .add_node("after", quick)
        .add_edge(START, "inner")
        .add_edge("inner", "after")
        .compile()
    )
    asking = [twice, left, right, quick, failing, piece]
    graph = StateGraph(Talk).add_node(first).add_node(chat).add_node(last).add_node("sub", subgraph)
    for each in asking:
        graph.add_node(each).add_edge(each.__name__, "last")
    return (
        graph.add_edge(START, "first")
        .add_edge("first", "chat")
        .add_conditional_edges("chat", route)
        .add_edge("sub", "last")
        .add_edge("last", END)
        .compile(checkpointer=saver)
    )


def say(text: str) -> Talk:
    """An input."""
    return {"messages": [HumanMessage(text)], "log": ["input"]}


def config_of(thread: str, run: str) -> Any:
    """The config of a run."""
    return {"configurable": {"thread_id": thread}, "metadata": {"run_id": run}}


Step = Callable[[Any, Any], Any]


def ask(text: str) -> Step:
    """A run with an input."""
    return lambda graph, config: say(text)


def answer(value: Any) -> Step:
    """A run that resumes all interrupts with a value."""
    return lambda graph, config: Command(resume=value)


def answer_one(question: str, value: Any) -> Step:
    """A run that resumes the one interrupt that asks this."""

    def make(graph: Any, config: Any) -> Command[Any]:
        (found,) = [i for i in graph.get_state(config).interrupts if i.value == question]
        return Command(resume={found.id: value})

    return make


def history(graph: Any, config: Any) -> list[Any]:
    """A thread's history and its latest state with subgraphs, without what differs by chance."""
    thread = {"configurable": {"thread_id": config["configurable"]["thread_id"]}}
    snapshots = [*graph.get_state_history(thread), graph.get_state(thread, subgraphs=True)]
    return [plain(each) for each in snapshots]


def plain(snapshot: StateSnapshot) -> Any:
    """What a snapshot says, without ids and times."""
    # Of LangGraph's own saver, lists are what tuples were.
    metadata: Any = json.loads(json.dumps(snapshot.metadata or {}))
    metadata["parents"] = sorted(metadata.get("parents", ()))
    return {
        "values": _plain_value(snapshot.values),
        "next": snapshot.next,
        "metadata": metadata,
        "has_parent": snapshot.parent_config is not None,
        "tasks": [
            (
                task.name,
                task.error and str(task.error),
                [each.value for each in task.interrupts],
                _plain_value(task.result),
                plain(task.state) if isinstance(task.state, StateSnapshot) else None,
            )
            for task in snapshot.tasks
        ],
    }


def _plain_value(value: Any) -> Any:
    if isinstance(value, BaseMessage):
        return type(value).__name__, value.content
    if isinstance(value, dict):
        return {name: _plain_value(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain_value(each) for each in value]
    return value
