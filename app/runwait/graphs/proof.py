"""Which graphs can run on a thread: the proof that all of a graph's code has a synchronous side.

`graph.invoke` costs less than half of `graph.ainvoke`, but fails as soon as it meets something
that exists only as a coroutine, and nothing on the graph's surface says whether it will: a ToolNode
has a synchronous function whatever its tools are. So the graph is walked. What the walk doesn't
know counts as not proven: such a graph runs on the event loop, where everything runs.

Where a synchronous function and a coroutine function stand side by side (a tool with `func` and
`coroutine`, the model node of a prebuilt agent), the synchronous one is no proof: it may be a stub
that raises, call something that is async only, or answer differently.

LangGraph's classes are compared by name, since most of them can only be imported from private
modules: a release that moves one costs speed, not the start.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from langchain_core.runnables import Runnable
from langchain_core.runnables.config import run_in_executor
from langchain_core.tools import BaseTool
from langgraph.pregel import Pregel


def proven_sync(graph: Pregel[Any, Any, Any, Any]) -> bool:
    """Whether everything that `graph.invoke` may call is known to be synchronous, so that it works
    and gives what `ainvoke` gives. False where that isn't known.

    A plain function that returns a coroutine can't be told from others; it fails either way.
    """
    try:
        return _proven(graph, {})
    except AttributeError:
        # A class of LangGraph's that no longer looks as it did.
        return False


def mentioned(function: FunctionType) -> list[Any]:
    """What `function` refers to from outside itself: its closure, the globals it names, what it
    names in modules, and what the lists and dicts among these hold. It may list values that the
    function never touches, and misses what is reached through other objects' attributes."""
    names: set[str] = set()
    codes = [function.__code__]
    for code in codes:
        names.update(code.co_names)
        codes.extend(const for const in code.co_consts if isinstance(const, CodeType))

    values = [function.__globals__[name] for name in names if name in function.__globals__]
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # a name that the enclosing function hasn't bound yet
            continue
    for value in list(values):
        if isinstance(value, ModuleType):
            members = vars(value)
            values.extend(members[name] for name in names if name in members)
        elif isinstance(value, dict):
            values.extend(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            values.extend(value)
    return values


def layers(function: Any) -> Iterator[Any]:
    """A callable, and what it wraps: the function in a partial, behind a method, under decorators,
    in an object's `__call__`. The last is the one that does the work."""
    seen: set[int] = set()
    while id(function) not in seen:
        seen.add(id(function))
        yield function
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        elif "__wrapped__" in getattr(function, "__dict__", {}):
            function = function.__wrapped__
        elif callable(function) and not isinstance(
            function, FunctionType | BuiltinFunctionType | type
        ):
            function = type(function).__call__


def _proven(thing: Any, seen: dict[int, Any]) -> bool:
    if id(thing) in seen:
        return True
    seen[id(thing)] = thing
    if not isinstance(thing, Runnable):
        return _proven_function(thing, seen)
    parts = _parts(thing)
    return parts is not None and all(_proven(part, seen) for part in parts)


def _parts(thing: Any) -> Iterable[Any] | None:
    """The runnables and functions that `thing.invoke` may call, or None where that isn't known."""
    match _kind(thing):
        case "langgraph.CompiledStateGraph":
            # A timeout works only on the loop, and somebody's own cache may too.
            if any(node.timeout for node in thing.nodes.values()) or not _known_cache(thing.cache):
                return None
            return [p for node in thing.nodes.values() for p in (node.bound, *node.writers)]
        case "langgraph.RunnableSeq" | "langchain_core.RunnableSequence":
            return list(thing.steps)
        case "langchain_core.RunnableParallel":
            return list(thing.steps__.values())
        case "langchain_core.RunnableBinding":
            return [thing.bound]
        case "langchain_core.RunnableLambda":
            # It has either attribute only where it was given the function.
            return None if hasattr(thing, "afunc") else [thing.func]
        case "langgraph.ChannelWrite":
            return []
        case "langgraph.RunnableCallable":
            return _callable_parts(thing)
        case "langgraph.ToolNode":
            if thing._awrap_tool_call is not None:
                return None
            wrap = thing._wrap_tool_call
            return [*thing.tools_by_name.values(), *([wrap] if wrap is not None else [])]
        case "langchain_core.StructuredTool" | "langchain_core.Tool":
            return [thing.func] if thing.func is not None and thing.coroutine is None else None
        case _ if isinstance(thing, BaseTool):
            cls = type(thing)
            ours = ("invoke", "ainvoke", "run", "arun", "_arun")
            unchanged = all(getattr(cls, name) is getattr(BaseTool, name) for name in ours)
            return [cls._run] if unchanged else None
        case _:
            return None


def _callable_parts(thing: Any) -> list[Any] | None:
    # A conditional edge: LangGraph's own pair of functions around the user's path.
    branch: Any = getattr(thing.func, "__self__", None)
    if _kind(branch) == "langgraph.BranchSpec":
        return [branch.path]
    # Given one plain function, LangGraph makes the other side of it by a thread.
    afunc = thing.afunc
    if afunc is None or (isinstance(afunc, partial) and afunc.func is run_in_executor):
        return [thing.func]
    return None


def _proven_function(function: Any, seen: dict[int, Any]) -> bool:
    stack = list(layers(function))
    if any(_is_async(layer) for layer in stack):
        return False
    if not isinstance(stack[-1], FunctionType | BuiltinFunctionType):
        return False
    return all(
        _proven_mention(value, seen)
        for layer in stack
        if isinstance(layer, FunctionType)
        for value in mentioned(layer)
    )


def _proven_mention(value: Any, seen: dict[int, Any]) -> bool:
    """Whether a function that mentions `value` can still be synchronous. It can't be known where
    `value` is async: LangGraph runs a runnable that a node returns, and lets a node call an async
    @task only under `ainvoke`. Of a runnable that the walk doesn't know, a chat model say, it is
    taken that the function calls its synchronous side."""
    if isinstance(value, Runnable) and not isinstance(value, BaseTool):
        known = isinstance(value, Pregel) or _kind(value) in _KNOWN
        return not known or _proven(value, seen)
    if callable(value) and not isinstance(value, type | Runnable):
        return not any(_is_async(layer) for layer in layers(value))
    return True


_KNOWN = frozenset(
    (
        "langchain_core.RunnableBinding",
        "langchain_core.RunnableLambda",
        "langchain_core.RunnableParallel",
        "langchain_core.RunnableSequence",
        "langgraph.RunnableCallable",
        "langgraph.RunnableSeq",
    )
)


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _kind(thing: object) -> str:
    cls = type(thing)
    return f"{cls.__module__.partition('.')[0]}.{cls.__name__}"


def _known_cache(cache: object) -> bool:
    return cache is None or type(cache).__module__.startswith("langgraph.cache.")
