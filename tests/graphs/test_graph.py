import asyncio
import contextlib
import functools
import operator
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel
from langgraph.store.memory import InMemoryStore
from langgraph.types import RetryPolicy
from langgraph_sdk.runtime import ServerRuntime

from runwait.auth.user import CALLER, User
from runwait.graphs.graph import Graph, needs_checkpointer

if TYPE_CHECKING:
    from elsewhere import Context as NotImported

CONFIG: RunnableConfig = {"configurable": {"thread_id": "t"}, "metadata": {}, "tags": []}
CONTEXT = {"user": "ann"}
STORE = InMemoryStore()


class State(TypedDict):
    log: Annotated[list[str], operator.add]


@dataclass
class Context:
    user: str = "nobody"


def builder(node: Any = lambda state: {"log": ["step"]}) -> StateGraph[State, Any, State, State]:
    graph = StateGraph(State, context_schema=Context)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph


def compiled(**options: Any) -> Any:
    return builder().compile(**options)


def run(graph: Graph) -> Any:
    with graph.make(CONFIG, CONTEXT, STORE) as made:
        return made.invoke({"log": []})


def arun(graph: Graph) -> Any:
    async def main() -> Any:
        async with graph.amake(CONFIG, CONTEXT, STORE) as made:
            return await made.ainvoke({"log": []})

    return asyncio.run(main())


class TestCompiledGraph:
    def test_says_what_it_is(self):
        graph = Graph("agent", compiled(), description="Answers.")

        assert graph.graph_id == "agent"
        assert graph.description == "Answers."
        assert graph.nodes == {"node"}
        assert graph.context_schema is Context
        assert graph.execution == "sync"
        assert graph.is_async_factory is False
        assert graph.needs_checkpointer is False

    def test_with_a_name_is_used_as_it_is(self):
        source = compiled(name="mine")
        graph = Graph("agent", source)

        assert graph.compiled is source
        with graph.make(CONFIG, CONTEXT, STORE) as made:
            assert made is source

    def test_runs_by_make_and_by_amake(self):
        graph = Graph("agent", compiled())

        assert run(graph) == arun(graph) == {"log": ["step"]}

    def test_is_run_on_the_loop_unless_proven_synchronous(self):
        async def node(state: State) -> dict[str, Any]:
            return {"log": ["step"]}

        assert Graph("agent", builder(node).compile()).execution == "async"

    def test_is_run_as_langgraph_json_forces_it(self):
        assert Graph("agent", compiled(), execution="async").execution == "async"

    def test_may_be_an_entrypoint(self):
        @entrypoint()
        def double(number: int) -> int:
            return number * 2

        graph = Graph("agent", double)

        assert graph.nodes == {"double"}
        assert graph.execution == "async"
        with graph.make(CONFIG, CONTEXT, STORE) as made:
            assert made.invoke(2) == 4

    def test_is_made_once_of_a_graph_that_is_not_compiled(self):
        graph = Graph("agent", builder())

        assert graph.nodes == {"node"}
        with (
            graph.make(CONFIG, CONTEXT, STORE) as first,
            graph.make(CONFIG, CONTEXT, STORE) as second,
        ):
            assert first is second is graph.compiled
        assert run(graph) == {"log": ["step"]}

    @pytest.mark.parametrize("source", [builder(), compiled(), compiled])
    def test_without_a_name_has_its_id_as_its_name(self, source):
        with Graph("agent", source).make(CONFIG, CONTEXT, STORE) as made:
            assert made.name == "agent"

    def test_that_does_not_compile_is_a_value_error(self):
        with pytest.raises(ValueError, match="must have an entrypoint"):
            Graph("agent", StateGraph(State))


@pytest.mark.parametrize("source", [None, 5, "graph", {}, RunnableLambda(len)])
def test_what_is_neither_a_graph_nor_can_make_one_is_a_type_error(source):
    with pytest.raises(TypeError, match=r"an? \w+ is neither a graph nor a function that makes"):
        Graph("agent", source)


class TestCheckpointerAndStore:
    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"checkpointer": InMemorySaver()}, "use the checkpointer it was"),
            ({"store": InMemoryStore()}, "use the store it was"),
            (
                {"checkpointer": InMemorySaver(), "store": InMemoryStore()},
                "use the checkpointer and the store it was",
            ),
        ],
    )
    def test_compiled_in_are_dropped_with_one_warning(self, caplog, options, named):
        source = compiled(**options)

        graph = Graph("agent", source)

        assert graph.compiled is not None
        assert graph.compiled.checkpointer is None
        assert graph.compiled.store is None
        assert [record.name for record in caplog.records] == ["runwait.graphs"]
        assert f"graph 'agent': does not {named} compiled with" in caplog.text
        # The project's own object stays as it was.
        assert source.checkpointer is options.get("checkpointer")
        assert source.store is options.get("store")

    def test_are_dropped_from_what_a_factory_makes_with_one_warning_for_all_runs(self, caplog):
        graph = Graph("agent", lambda: compiled(checkpointer=InMemorySaver()))

        for _ in range(3):
            with graph.make(CONFIG, CONTEXT, STORE) as made:
                assert made.checkpointer is None
        arun(graph)

        assert len(caplog.records) == 1

    def test_leave_everything_else_alone(self):
        cache = InMemoryCache()
        retry = RetryPolicy(max_attempts=7)
        source = compiled(
            checkpointer=InMemorySaver(), cache=cache, name="mine", interrupt_before=["node"]
        ).with_config(tags=["mine"], recursion_limit=9)
        source.retry_policy = (retry,)
        source.note = "the project's own"

        made: Any = Graph("agent", source).compiled

        assert made.cache is cache
        assert made.name == "mine"
        assert made.interrupt_before_nodes == ["node"]
        assert made.retry_policy == (retry,)
        assert made.config["tags"] == ["mine"]
        assert made.config["recursion_limit"] == 9
        assert made.note == "the project's own"
        assert type(made) is type(source)

    def test_that_are_refused_stay_refused(self, caplog):
        graph = Graph("agent", compiled(checkpointer=False))

        assert graph.compiled is not None
        assert graph.compiled.checkpointer is False
        assert caplog.records == []

    def test_that_are_asked_for_are_left_to_the_run(self, caplog):
        # LangGraph refuses checkpointer=True in a graph that nothing calls.
        graph = Graph("agent", compiled(checkpointer=True))

        assert run(graph) == {"log": ["step"]}
        assert caplog.records == []


def told(*given: Any, **named: Any) -> Any:
    """A graph whose output is what its factory was given."""

    def what(value: Any) -> str:
        if isinstance(value, dict):
            return f"config of {value['configurable']['thread_id']}"
        runtime = value.execution_runtime
        assert runtime.store is STORE
        assert runtime.user is None
        return f"{runtime.access_context} with {runtime.context}"

    log = [what(value) for value in given] + [f"{k}={what(v)}" for k, v in named.items()]
    return builder(lambda state: {"log": log}).compile()


A_CONFIG = "config of t"
A_RUNTIME = "threads.create_run with {'user': 'ann'}"


def unannotated(something): return told(something)  # fmt: skip


def unannotated_with_default(something=None): return told(something)  # fmt: skip


def annotated_otherwise(something: dict): return told(something)  # fmt: skip


def by_name_config(config): return told(config)  # fmt: skip


def by_name_runtime(runtime): return told(runtime)  # fmt: skip


def by_names(runtime, config): return told(runtime, config)  # fmt: skip


def by_annotation_config(c: RunnableConfig): return told(c)  # fmt: skip


def by_annotation_optional(c: RunnableConfig | None = None): return told(c)  # fmt: skip


def by_annotation_runtime(r: ServerRuntime): return told(r)  # fmt: skip


def by_annotation_typed_runtime(r: ServerRuntime[Context]): return told(r)  # fmt: skip


def by_annotation_not_evaluated(r: "ServerRuntime[NotImported]"): return told(r)  # fmt: skip


def by_annotations(c: RunnableConfig, r: ServerRuntime): return told(c, r)  # fmt: skip


def by_keyword(*, runtime: ServerRuntime, config): return told(r=runtime, c=config)  # fmt: skip


def with_a_default(config, *args, limit=5, **more):
    assert (limit, args, more) == (5, (), {})
    return told(config)


class Factory:
    def __call__(self, config: RunnableConfig) -> Any:
        return told(config)

    def method(self, runtime: ServerRuntime) -> Any:
        return told(runtime)


class FactoryClass:
    def __new__(cls, config: RunnableConfig) -> Any:
        return told(config)


FACTORIES: dict[Any, list[str]] = {
    unannotated: [A_CONFIG],
    unannotated_with_default: [A_CONFIG],
    annotated_otherwise: [A_CONFIG],
    by_name_config: [A_CONFIG],
    by_name_runtime: [A_RUNTIME],
    by_names: [A_RUNTIME, A_CONFIG],
    by_annotation_config: [A_CONFIG],
    by_annotation_optional: [A_CONFIG],
    by_annotation_runtime: [A_RUNTIME],
    by_annotation_typed_runtime: [A_RUNTIME],
    by_annotation_not_evaluated: [A_RUNTIME],
    by_annotations: [A_CONFIG, A_RUNTIME],
    by_keyword: [f"r={A_RUNTIME}", f"c={A_CONFIG}"],
    with_a_default: [A_CONFIG],
    Factory(): [A_CONFIG],
    Factory().method: [A_RUNTIME],
    FactoryClass: [A_CONFIG],
    functools.partial(with_a_default, limit=5): [A_CONFIG],
}


class TestFactory:
    @pytest.mark.parametrize(
        ("factory", "given"),
        FACTORIES.items(),
        ids=[getattr(factory, "__qualname__", repr(type(factory))) for factory in FACTORIES],
    )
    def test_is_given_the_config_and_the_runtime(self, factory, given):
        graph = Graph("agent", factory)

        assert run(graph) == arun(graph) == {"log": given}

    def test_that_takes_nothing_is_called_for_each_run(self):
        made: list[Any] = []

        def factory() -> Any:
            made.append(compiled())
            return made[-1]

        graph = Graph("agent", factory)
        run(graph)
        arun(graph)

        assert len(made) == 2

    def test_says_little_of_its_graphs(self):
        graph = Graph("agent", lambda: compiled(), execution=None)

        assert graph.compiled is None
        assert graph.nodes is None
        assert graph.context_schema is None
        assert graph.execution is None
        assert graph.needs_checkpointer is None
        assert graph.is_async_factory is False

    def test_is_run_as_langgraph_json_forces_it(self):
        assert Graph("agent", lambda: compiled(), execution="sync").execution == "sync"

    def test_may_give_a_graph_that_is_not_compiled(self):
        graph = Graph("agent", lambda: builder())

        assert run(graph) == arun(graph) == {"log": ["step"]}

    def test_may_be_async(self):
        async def factory(config: RunnableConfig) -> Any:
            await asyncio.sleep(0)
            return told(config)

        graph = Graph("agent", factory)

        assert graph.is_async_factory
        assert arun(graph) == {"log": [A_CONFIG]}

    def test_that_is_async_can_be_any_callable(self):
        class AsyncFactory:
            async def __call__(self) -> Any:
                return compiled()

        assert Graph("agent", AsyncFactory()).is_async_factory
        assert Graph("agent", functools.partial(AsyncFactory().__call__)).is_async_factory
        assert arun(Graph("agent", AsyncFactory())) == {"log": ["step"]}

    def test_that_is_async_cannot_be_forced_to_be_sync(self):
        async def factory() -> Any:
            return compiled()

        with pytest.raises(TypeError, match="an async factory can't have the execution sync"):
            Graph("agent", factory, execution="sync")

    def test_with_a_parameter_that_nothing_fills_is_refused(self):
        def factory(config: RunnableConfig, model: str) -> Any:
            return compiled()

        with pytest.raises(TypeError, match="not model: str"):
            Graph("agent", factory)

    @pytest.mark.parametrize("result", [None, RunnableLambda(len), [compiled()]])
    def test_that_gives_no_graph_is_a_type_error_that_names_the_graph(self, result):
        graph = Graph("agent", lambda: result)

        with pytest.raises(TypeError, match=r"graph 'agent': its factory gave an? \w+, no graph$"):
            run(graph)
        with pytest.raises(TypeError, match="graph 'agent': its factory gave"):
            arun(graph)

    def test_that_turns_out_to_be_async_works_by_amake_and_is_refused_by_make(self):
        async def factory() -> Any:
            return compiled()

        graph = Graph("agent", lambda: factory())

        assert arun(graph) == {"log": ["step"]}
        with pytest.raises(TypeError, match="must be awaited needs the execution async"):
            run(graph)

    def test_raises_what_it_raises(self):
        def factory() -> Any:
            raise RuntimeError("no model")

        with pytest.raises(RuntimeError, match="no model"):
            run(Graph("agent", factory))

    def test_that_blocks_does_not_hold_up_the_loop(self):
        threads: list[threading.Thread] = []

        @contextlib.contextmanager
        def factory() -> Iterator[Any]:
            threads.append(threading.current_thread())
            yield compiled()
            threads.append(threading.current_thread())

        arun(Graph("agent", factory))

        assert len(threads) == 2
        assert threading.current_thread() not in threads


class TestContextManager:
    def managers(self, events: list[str]) -> list[Callable[[], Any]]:
        @contextlib.contextmanager
        def sync() -> Iterator[Any]:
            events.append("enter")
            try:
                yield builder(lambda state: events.append("run"))
            finally:
                events.append("exit")

        @contextlib.asynccontextmanager
        async def asynchronous() -> AsyncIterator[Any]:
            with sync() as made:
                yield made

        async def returns_one() -> Any:
            return asynchronous()

        return [sync, asynchronous, returns_one]

    @pytest.mark.parametrize("which", [0, 1, 2])
    def test_is_entered_and_left_around_each_run(self, which):
        events: list[str] = []
        graph = Graph("agent", self.managers(events)[which])

        arun(graph)
        arun(graph)

        assert events == ["enter", "run", "exit"] * 2

    def test_is_entered_and_left_without_a_loop(self):
        events: list[str] = []
        graph = Graph("agent", self.managers(events)[0])

        run(graph)

        assert events == ["enter", "run", "exit"]

    def test_is_known_to_be_async(self):
        assert [Graph("agent", f).is_async_factory for f in self.managers([])] == [
            False,
            True,
            True,
        ]

    @pytest.mark.parametrize("which", [0, 1])
    def test_is_left_when_the_run_fails(self, which):
        events: list[str] = []
        graph = Graph("agent", self.managers(events)[which])

        async def main() -> None:
            async with graph.amake(CONFIG, CONTEXT, STORE):
                raise KeyError("run")

        with pytest.raises(KeyError, match="run"):
            asyncio.run(main())
        assert events == ["enter", "exit"]

    def test_cannot_swallow_how_a_run_ended(self):
        @contextlib.contextmanager
        def swallows() -> Iterator[Any]:
            with contextlib.suppress(Exception):
                yield compiled()

        graph = Graph("agent", swallows)

        async def main() -> None:
            async with graph.amake(CONFIG, CONTEXT, STORE):
                raise KeyError("run")

        with pytest.raises(KeyError, match="run"):
            asyncio.run(main())
        with pytest.raises(KeyError, match="run"), graph.make(CONFIG, CONTEXT, STORE):
            raise KeyError("run")

    def test_is_left_when_what_it_gives_is_no_graph(self):
        events: list[str] = []

        @contextlib.contextmanager
        def factory() -> Iterator[Any]:
            yield None
            events.append("unreachable")

        with pytest.raises(TypeError, match="gave a NoneType, no graph"):
            run(Graph("agent", factory))
        assert events == []


def remembering() -> Any:
    """A subgraph that remembers: it counts what is in its log."""
    graph = StateGraph(State)
    graph.add_node("count", lambda state: {"log": [str(len(state["log"]))]})
    graph.add_edge(START, "count")
    return graph.compile(checkpointer=True)


def looping(node: Any) -> Any:
    """A graph that runs its node twice."""
    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.add_conditional_edges("node", lambda state: "node" if len(state["log"]) < 6 else END)
    return graph.compile()


def calling(child: Any) -> Any:
    def node(state: State) -> dict[str, Any]:
        return {"log": child.invoke({"log": ["in"]})["log"]}

    return node


class Caller:
    def __init__(self, child: Any) -> None:
        self.children = {"first": child}

    def node(self, state: State) -> dict[str, Any]:
        return {"log": self.children["first"].invoke({"log": ["in"]})["log"]}


def with_tool(child: Any) -> Any:
    children = {"first": child}

    @tool
    def ask(question: str) -> str:
        """Ask the child."""
        return str(children["first"].invoke({"log": [question]})["log"])

    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([ask]))
    graph.add_edge(START, "tools")
    return graph.compile()


def with_edge(child: Any) -> Any:
    def path(state: State) -> str:
        child.invoke({"log": ["in"]})
        return END

    graph = builder()
    graph.add_conditional_edges("node", path, [END])
    return graph.compile()


HOLDERS: dict[str, Callable[[Any], Pregel]] = {
    "node": looping,
    "function": lambda child: looping(calling(child)),
    "method": lambda child: looping(Caller(child).node),
    "sequence": lambda child: looping(RunnableLambda(lambda state: state) | child),
    "RunnableLambda": lambda child: looping(RunnableLambda(calling(child))),
    "subgraph": lambda child: looping(builder(child).compile()),
    "tool": with_tool,
    "edge": with_edge,
}


class TestNeedsCheckpointer:
    @pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
    def test_if_a_subgraph_remembers(self, holder):
        assert needs_checkpointer(holder(remembering()))
        assert Graph("agent", holder(remembering())).needs_checkpointer

    @pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
    def test_not_for_other_subgraphs(self, holder):
        assert not needs_checkpointer(holder(compiled()))
        assert not needs_checkpointer(holder(compiled(checkpointer=False)))
        assert not needs_checkpointer(holder(compiled(checkpointer=InMemorySaver())))

    def test_not_for_a_graph_by_itself(self):
        assert not needs_checkpointer(remembering())

    def test_because_langgraph_answers_otherwise_without_one(self):
        # LangGraph 1.2 doesn't fail, as one might think; the subgraph just doesn't remember.
        graph = looping(calling(remembering()))
        without = graph.invoke({"log": []})
        graph.checkpointer = InMemorySaver()
        with_one = graph.invoke({"log": []}, CONFIG)

        assert without == {"log": ["in", "1"] * 3}
        assert with_one == {"log": ["in", "1", "in", "1", "in", "3"]}


@pytest.mark.parametrize("access", ["threads.create_run", "threads.read", "assistants.read"])
def test_a_factory_is_told_who_calls_whatever_a_config_claims(access):
    ada = User({"identity": "ada"})
    seen: list[Any] = []

    def factory(config: RunnableConfig, runtime: ServerRuntime) -> Any:
        seen.append((config["configurable"].get("langgraph_auth_user"), runtime.user))
        return told()

    graph = Graph("g", factory)
    config: Any = {"configurable": {"langgraph_auth_user": "eve"}}
    if access == "threads.create_run":
        config["configurable"] |= ada.configurable()
    token = CALLER.set(ada)
    try:
        with graph.make(config, None, STORE, access):
            pass
    finally:
        CALLER.reset(token)
    assert seen == [(ada, ada)]
    if access != "threads.create_run":
        with graph.make(config, None, STORE, access):
            pass
        assert seen[1] == (None, None)
