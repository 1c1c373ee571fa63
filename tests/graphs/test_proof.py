import asyncio
import functools
import inspect
import operator
import sys
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import BaseTool, StructuredTool, Tool
from langgraph.cache.base import BaseCache
from langgraph.cache.memory import InMemoryCache
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import CachePolicy, Command, RetryPolicy, Send

from runwait.graphs.proof import proven_sync

Compiled = Pregel[Any, Any, Any, Any]


class State(TypedDict):
    log: Annotated[list[str], operator.add]


INPUT: State = {"log": ["in"]}
CALL = AIMessage("", tool_calls=[{"name": "look", "args": {"query": "x"}, "id": "1"}], id="0")


def one(node: Any, **options: Any) -> Compiled:
    builder = StateGraph(State)
    builder.add_node("node", node, **options)
    builder.add_edge(START, "node")
    return builder.compile()


def after(path: Any) -> Compiled:
    """A graph with a conditional edge."""
    builder = StateGraph(State)
    builder.add_node("node", step)
    builder.add_edge(START, "node")
    builder.add_conditional_edges("node", path, [END])
    return builder.compile()


def tools(*given: Any, **options: Any) -> Compiled:
    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode(given, **options))
    builder.add_edge(START, "tools")
    return builder.compile()


def step(state: State) -> dict[str, Any]:
    return {"log": ["step"]}


async def astep(state: State) -> dict[str, Any]:
    return {"log": ["step"]}


def steps(state: State) -> Any:
    yield {"log": ["step"]}


async def asteps(state: State) -> Any:
    yield {"log": ["step"]}


def fails(state: State) -> dict[str, Any]:
    raise ValueError("no")


def path(state: State) -> str:
    return END


async def apath(state: State) -> str:
    return END


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class Step:
    def __call__(self, state: State) -> dict[str, Any]:
        return {"log": ["step"]}

    def method(self, state: State) -> dict[str, Any]:
        return {"log": ["step"]}


class AsyncStep:
    async def __call__(self, state: State) -> dict[str, Any]:
        return {"log": ["step"]}

    async def method(self, state: State) -> dict[str, Any]:
        return {"log": ["step"]}


class UnknownRunnable(Runnable[State, dict[str, Any]]):
    def invoke(self, input: State, config: Any = None, **kwargs: Any) -> dict[str, Any]:
        return {"log": ["step"]}


class Model(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "fixed"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("hello", id="1"))])


@task
def double(text: str) -> str:
    return text * 2


@task
async def adouble(text: str) -> str:
    return text * 2


@entrypoint()
def workflow(state: State) -> dict[str, Any]:
    return {"log": [double("a").result()]}


def look(query: str) -> str:
    """Look it up."""
    return "found"


async def alook(query: str) -> str:
    """Look it up."""
    return "found"


def made(**functions: Any) -> StructuredTool:
    return StructuredTool.from_function(name="look", description="Look it up.", **functions)


class Look(BaseTool):
    name: str = "look"
    description: str = "Look it up."

    def _run(self, query: str) -> str:
        return "found"


class LookBothWays(Look):
    async def _arun(self, query: str) -> str:
        return "found"


class LookOnlyAsync(LookBothWays):
    def _run(self, query: str) -> str:
        raise NotImplementedError("use async")


def wrap(request: Any, execute: Any) -> Any:
    return execute(request).model_copy(update={"content": "wrapped"})


async def awrap(request: Any, execute: Any) -> Any:
    return (await execute(request)).model_copy(update={"content": "wrapped"})


def retried() -> Compiled:
    attempts = iter([ValueError("at first"), None] * 2)

    def node(state: State) -> dict[str, Any]:
        if error := next(attempts):
            raise error
        return {"log": ["step"]}

    return one(node, retry_policy=RetryPolicy(retry_on=ValueError, initial_interval=0.001))


def cached(cache: BaseCache[Any]) -> Compiled:
    builder = StateGraph(State)
    builder.add_node("node", step, cache_policy=CachePolicy())
    builder.add_edge(START, "node")
    return builder.compile(cache=cache)


def fan_out() -> Compiled:
    builder = StateGraph(State)
    builder.add_node("node", step)
    builder.add_node("last", lambda state: Command(update={"log": ["last"]}, goto=END))
    builder.add_conditional_edges(START, lambda state: [Send("node", state), Send("node", state)])
    builder.add_edge("node", "last")
    return builder.compile()


def calls_double(state: State) -> dict[str, Any]:
    return {"log": [future.result() for future in [double(text) for text in state["log"]]]}


def calls_adouble(state: State) -> dict[str, Any]:
    return {"log": [future.result() for future in [adouble(text) for text in state["log"]]]}


def calls_model(state: State) -> dict[str, Any]:
    return {"log": [MODEL.invoke("hi").content]}


MODEL = Model()
CHILD = one(step)


def calls_child(state: State) -> dict[str, Any]:
    return {"log": CHILD.invoke({"log": ["child"]})["log"]}


PROVEN = {
    "function": lambda: one(step),
    "lambda": lambda: one(lambda state: {"log": ["step"]}),
    "method": lambda: one(Step().method),
    "object that can be called": lambda: one(Step()),
    "partial": lambda: one(functools.partial(step)),
    "decorated function": lambda: one(logged(step)),
    "generator": lambda: one(steps),
    "several nodes and a command": fan_out,
    "RunnableLambda": lambda: one(RunnableLambda(step)),
    "RunnableLambda that returns a runnable": lambda: one(
        RunnableLambda(lambda state: RunnableLambda(step))
    ),
    "sequence": lambda: one(RunnableLambda(lambda state: state) | step),
    "parallel": lambda: one({"log": lambda state: ["step"]}),
    "binding": lambda: one(RunnableLambda(step).with_config(tags=["a"])),
    "subgraph": lambda: one(one(step)),
    "configured subgraph": lambda: one(one(step).with_config(tags=["a"])),
    "function that calls a subgraph": lambda: one(calls_child),
    "function that calls a task": lambda: one(calls_double),
    "function that calls a chat model": lambda: one(calls_model),
    "conditional edge": lambda: after(path),
    "conditional edge by an object": lambda: after(functools.partial(path)),
    "error handler": lambda: one(fails, error_handler=step),
    "retries": retried,
    "cache": lambda: cached(InMemoryCache()),
}

PROVEN_TOOLS = {
    "function": lambda: tools(look),
    "StructuredTool": lambda: tools(made(func=look)),
    "Tool": lambda: tools(Tool("look", look, "Look it up.")),
    "BaseTool": lambda: tools(Look()),
    "wrapper": lambda: tools(look, wrap_tool_call=wrap),
}


def both_ways(make: Callable[[], Compiled], input: Any) -> tuple[Any, Any]:
    return make().invoke(input), asyncio.run(make().ainvoke(input))


@pytest.mark.parametrize("make", PROVEN.values(), ids=PROVEN)
def test_a_synchronous_graph_is_proven_and_runs_both_ways_alike(make):
    assert proven_sync(make())

    by_invoke, by_ainvoke = both_ways(make, INPUT)

    assert by_invoke == by_ainvoke
    assert by_invoke != INPUT


@pytest.mark.parametrize("make", PROVEN_TOOLS.values(), ids=PROVEN_TOOLS)
def test_a_synchronous_tool_is_proven_and_runs_both_ways_alike(make):
    assert proven_sync(make())

    by_invoke, by_ainvoke = (
        [message.content for message in result["messages"]]
        for result in both_ways(make, {"messages": [CALL]})
    )

    assert by_invoke == by_ainvoke
    assert by_invoke[-1] in ("found", "wrapped")


async def aparallel(state: State) -> list[str]:
    return ["step"]


def default_handler() -> Compiled:
    builder = StateGraph(State).set_node_defaults(error_handler=astep)
    builder.add_node("node", fails)
    builder.add_edge(START, "node")
    return builder.compile()


def first_edge() -> Compiled:
    async def aenter(state: State) -> str:
        return "node"

    builder = StateGraph(State)
    builder.add_node("node", step)
    builder.add_conditional_edges(START, aenter, ["node"])
    return builder.compile()


CHAIN = RunnableLambda(astep)

ONLY_ASYNC = {
    "function": lambda: one(astep),
    "method": lambda: one(AsyncStep().method),
    "object that can be called": lambda: one(AsyncStep()),
    "partial": lambda: one(functools.partial(astep)),
    "generator": lambda: one(asteps),
    "RunnableLambda": lambda: one(RunnableLambda(astep)),
    "RunnableLambda that returns a runnable": lambda: one(RunnableLambda(lambda state: CHAIN)),
    "function that returns a runnable": lambda: one(lambda state: CHAIN),
    "function that makes a runnable": lambda: one(lambda state: RunnableLambda(astep)),
    "sequence": lambda: one(RunnableLambda(step) | astep),
    "parallel": lambda: one({"log": aparallel}),
    "binding": lambda: one(RunnableLambda(astep).with_config(tags=["a"])),
    "subgraph": lambda: one(one(astep)),
    "subgraph in a sequence": lambda: one(RunnableLambda(lambda state: state) | one(astep)),
    "function that calls a task": lambda: one(calls_adouble),
    "conditional edge": lambda: after(apath),
    "first conditional edge": first_edge,
    "error handler": lambda: one(fails, error_handler=astep),
    "default error handler": default_handler,
    "subgraph with a timeout": lambda: one(one(step), timeout=10),
}

ONLY_ASYNC_TOOLS = {
    "StructuredTool": lambda: tools(made(coroutine=alook)),
    "one of two": lambda: tools(
        StructuredTool.from_function(name="other", description="Other.", func=look),
        made(coroutine=alook),
    ),
    "Tool": lambda: tools(Tool("look", None, "Look it up.", coroutine=alook)),
    "BaseTool with a stub": lambda: tools(LookOnlyAsync()),
}


@pytest.mark.parametrize("make", ONLY_ASYNC.values(), ids=ONLY_ASYNC)
def test_what_runs_only_by_ainvoke_is_not_proven(make):
    assert not proven_sync(make())

    assert asyncio.run(make().ainvoke(INPUT)) != INPUT
    with pytest.raises((TypeError, RuntimeError, ValueError)):
        make().invoke(INPUT)


@pytest.mark.parametrize("make", ONLY_ASYNC_TOOLS.values(), ids=ONLY_ASYNC_TOOLS)
def test_a_tool_that_runs_only_by_ainvoke_is_not_proven(make):
    assert not proven_sync(make())

    assert asyncio.run(make().ainvoke({"messages": [CALL]}))["messages"][-1].content == "found"
    with pytest.raises(NotImplementedError):
        make().invoke({"messages": [CALL]})


def differing(state: State) -> dict[str, Any]:
    return {"log": ["sync"]}


async def adiffering(state: State) -> dict[str, Any]:
    return {"log": ["async"]}


@pytest.mark.parametrize(
    "make",
    [
        lambda: one(RunnableLambda(differing, adiffering)),
        lambda: tools(made(func=look, coroutine=alook)),
        lambda: tools(LookBothWays()),
        lambda: tools(look, awrap_tool_call=awrap),
        lambda: tools(look, wrap_tool_call=wrap, awrap_tool_call=awrap),
    ],
    ids=["RunnableLambda", "StructuredTool", "BaseTool", "async wrapper", "both wrappers"],
)
def test_a_synchronous_function_beside_a_coroutine_function_is_no_proof(make):
    assert not proven_sync(make())


class ForeignCache(InMemoryCache[Any]):
    """Stands for one whose synchronous side may be a stub."""


class OtherToolNode(ToolNode):
    pass


@pytest.mark.parametrize(
    "make",
    [
        lambda: one(UnknownRunnable()),
        lambda: one(MODEL),
        lambda: one(RunnableLambda(step).with_retry()),
        lambda: one(RunnableLambda(step).with_fallbacks([RunnableLambda(step)])),
        lambda: one(RunnableLambda(step) | UnknownRunnable()),
        lambda: workflow,
        lambda: one(workflow),
        lambda: one(RemoteGraph("agent", url="http://127.0.0.1:9")),
        lambda: one(OtherToolNode([look])),
        lambda: cached(ForeignCache()),
        lambda: one(logged(astep)),
        lambda: tools(made(func=alook)),
    ],
    ids=[
        "runnable class",
        "chat model",
        "retry",
        "fallbacks",
        "step of a sequence",
        "entrypoint",
        "entrypoint as node",
        "remote graph",
        "subclass of ToolNode",
        "cache",
        "plain decorator around a coroutine function",
        "tool whose func is a coroutine function",
    ],
)
def test_what_the_walk_does_not_know_is_not_proven(make):
    assert not proven_sync(make())


if sys.version_info >= (3, 12):  # which brought the mark

    def test_a_function_marked_as_a_coroutine_function_is_not_proven():
        @inspect.markcoroutinefunction
        def marked(state: State) -> Any:
            return astep(state)

        assert not proven_sync(one(marked))
        assert not proven_sync(after(marked))


def test_a_graph_that_calls_itself_is_walked_once():
    graphs: list[Compiled] = []

    def node(state: State) -> dict[str, Any]:
        return {"log": ["step"] if len(state["log"]) > 1 else graphs[0].invoke({"log": ["a", "b"]})}

    graphs.append(one(node))

    assert proven_sync(graphs[0])


def test_a_release_that_changes_a_class_proves_nothing():
    graph = tools(look)
    del graph.nodes["tools"].bound._wrap_tool_call

    assert not proven_sync(graph)
