"""LangGraph's RemoteGraph, which stands for a graph of this service: alone, and in other graphs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command, Interrupt
from langgraph_sdk.schema import StreamPart

from tests.e2e.calls import Gate
from tests.e2e.chats import GISTS, TOKENS, TOLD, gist, said
from tests.servers import Server

# RemoteGraph asks for tuples of messages, as LangGraph's own mode of that name has them.
MODES = {**GISTS, "messages": GISTS["messages-tuple"]}
QUESTION = {"question": "May I go?"}


class Caller:
    """Calls graphs in one of their two ways."""

    def __init__(self, form: str) -> None:
        self._form = form

    def invoke(self, graph: Any, *args: Any, **options: Any) -> Any:
        """What the graph returns."""
        if self._form == "sync":
            return graph.invoke(*args, **options)

        async def call() -> Any:
            return await graph.ainvoke(*args, **options)

        return asyncio.run(call())

    def stream(self, graph: Any, *args: Any, **options: Any) -> Iterator[Any]:
        """What the graph yields, as it comes."""
        if self._form == "sync":
            yield from graph.stream(*args, **options)
            return
        chunks = graph.astream(*args, **options)

        async def next_chunk() -> Any:
            return await anext(chunks, None)

        with asyncio.Runner() as runner:
            while (chunk := runner.run(next_chunk())) is not None:
                yield chunk


@pytest.fixture(params=["sync", "async"])
def caller(request: pytest.FixtureRequest) -> Caller:
    return Caller(request.param)


@pytest.fixture
def remote(zoo: Server) -> Callable[[str], RemoteGraph]:
    """A graph of the zoo, by name; of a client of its own, as each event loop needs it."""
    return lambda name: RemoteGraph(name, url=zoo.url)


def on_a_thread() -> Any:
    """The config of a thread that is not there yet."""
    return {"configurable": {"thread_id": str(uuid4())}}


class Chat(MessagesState, total=False):
    gate: str


def in_another(graph: RemoteGraph) -> Any:
    """A graph that has the remote one as its only node."""
    return (
        StateGraph(Chat)
        .add_node("remote", graph)
        .add_edge(START, "remote")
        .compile(checkpointer=InMemorySaver())
    )


Remote = Callable[[str], RemoteGraph]


class TestAlone:
    def test_returns_its_output(self, caller: Caller, remote: Remote) -> None:
        assert caller.invoke(remote("echo"), {"value": ["ü", None]}) == {"value": ["ü", None]}
        answer = caller.invoke(remote("context_dataclass"), {}, context={"user": "ada"})
        assert answer["context"] == {"user": "ada", "level": 1}

    def test_keeps_its_thread(self, caller: Caller, remote: Remote) -> None:
        config = on_a_thread()
        caller.invoke(remote("chat"), said("first"), config)
        answer = caller.invoke(remote("chat"), said("second"), config)
        assert [each["content"] for each in answer["messages"]] == [
            *("first", "first"),
            *("second", "second"),
        ]
        assert remote("chat").get_state(config).values == answer

    @pytest.mark.parametrize("mode", MODES)
    def test_streams_a_mode(self, caller: Caller, remote: Remote, mode: str) -> None:
        chunks = caller.stream(remote("chat"), said(TOLD), on_a_thread(), stream_mode=mode)
        event = "messages" if mode == "messages-tuple" else mode
        gists = [gist(StreamPart(event, chunk)) for chunk in chunks]
        assert gists == MODES[mode]

    def test_streams_modes_together(self, caller: Caller, remote: Remote) -> None:
        modes = ["values", "updates", "messages", "custom", "tasks", "debug", "checkpoints"]
        chunks = [*caller.stream(remote("chat"), said(TOLD), on_a_thread(), stream_mode=[*modes])]
        for mode in modes:
            assert [gist(chunk) for chunk in chunks if chunk.event == mode] == MODES[mode]

    def test_streams_the_namespaces_of_subgraphs(self, caller: Caller, remote: Remote) -> None:
        graph, given = remote("chat_inside"), said(TOLD)
        chunks = [*caller.stream(graph, given, stream_mode="updates", subgraphs=True)]
        assert [(len(namespace), [*update]) for namespace, update in chunks] == [
            (1, ["ask"]),
            (1, ["answer"]),
            (0, ["chat"]),
        ]
        assert chunks[0][0][0].startswith("chat:")

    def test_streams_each_token_as_soon_as_it_is_there(
        self, caller: Caller, remote: Remote, tmp_path: Path
    ) -> None:
        with Gate(tmp_path) as gate:
            chunks = caller.stream(remote("chat"), said(TOLD, gate), stream_mode="messages")
            first, metadata = next(chunks)
            assert (first["content"], metadata["langgraph_node"]) == ("one ", "answer")
            gate.open()
            assert [first["content"], *(each["content"] for each, _ in chunks)] == [*TOKENS, ""]

    def test_is_interrupted_and_resumed(self, caller: Caller, remote: Remote) -> None:
        config, given = on_a_thread(), said("May I go?")
        [last] = caller.stream(remote("chat"), given, config)
        [pending] = last["__interrupt__"]
        assert pending["value"] == QUESTION
        answer = caller.invoke(remote("chat"), Command(resume="You may."), config)
        assert answer["messages"][-1]["content"] == "You may."

        assert caller.invoke(remote("chat"), given)["__interrupt__"][0]["value"] == QUESTION
        [interrupt] = caller.invoke(remote("chat"), given, version="v2").interrupts
        assert isinstance(interrupt, Interrupt)
        assert interrupt.value == QUESTION

    def test_stops_at_breakpoints_and_goes_on(self, caller: Caller, remote: Remote) -> None:
        config = on_a_thread()
        graph = remote("breakpoints")
        stopped = caller.invoke(graph, {}, config, interrupt_before=["b"])
        assert stopped == {"names": ["a"]}
        graph = remote("breakpoints")
        assert caller.invoke(graph, None, config) == {"names": ["a", "b", "c"]}

    def test_raises_its_error(self, caller: Caller, remote: Remote) -> None:
        with pytest.raises(RemoteException, match="no luck"):
            caller.invoke(remote("fails"), {})
        chunks = caller.stream(remote("fails"), {}, stream_mode=["updates", "values"])
        with pytest.raises(RemoteException, match="ValueError"):
            next(chunks)


class TestAsANode:
    def test_gives_its_output_to_the_graph(self, caller: Caller, remote: Remote) -> None:
        answer = caller.invoke(in_another(remote("chat")), said(TOLD), on_a_thread())
        assert [message.text for message in answer["messages"]] == [TOLD, TOLD]

    def test_streams_into_the_graphs_stream(
        self, caller: Caller, remote: Remote, tmp_path: Path
    ) -> None:
        graph = in_another(remote("chat"))
        modes = ["updates", "custom", "messages"]
        with Gate(tmp_path) as gate:
            chunks = caller.stream(
                graph, said(TOLD, gate), on_a_thread(), stream_mode=modes, subgraphs=True
            )
            # No more come before the gate is open.
            seen = []
            while not seen or seen[-1][1] != "messages":
                seen.append(next(chunks))
            gate.open()
            seen += chunks
        inside = [(mode, data) for namespace, mode, data in seen if namespace]
        for mode in modes:
            gists = [gist(StreamPart(mode, data)) for each, data in inside if each == mode]
            assert gists == MODES[mode]
        assert {namespace[0].partition(":")[0] for namespace, _, _ in seen if namespace} == {
            "remote"
        }
        assert [[*data] for namespace, _, data in seen if not namespace] == [["remote"]]

    def test_interrupts_the_graph(self, caller: Caller, remote: Remote) -> None:
        config = on_a_thread()
        graph = in_another(remote("chat"))
        answer = caller.invoke(graph, said("May I go?"), config)
        assert [each.value for each in answer["__interrupt__"]] == [QUESTION]
        # The remote graph waits on the thread of that name, for whoever answers it.
        answer = caller.invoke(remote("chat"), Command(resume="You may."), config)
        assert answer["messages"][-1]["content"] == "You may."

    def test_fails_the_graph(self, caller: Caller, remote: Remote) -> None:
        with pytest.raises(RemoteException, match="no luck"):
            caller.invoke(in_another(remote("fails")), said(TOLD), on_a_thread())
