"""`threads.stream` of LangGraph's Python SDK, and the streaming of RemoteGraph on top of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command
from langgraph_sdk import get_client, get_sync_client

from tests.e2e.calls import Gate
from tests.e2e.chats import said
from tests.servers import PATIENCE, Server, eventually

QUESTION = {"question": "May I go?"}


class Held:
    """Runs that do not end before a projection of their thread's stream is subscribed to.

    For the end of a run that ended before, the SDK waits without end: it was told of it already.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._gates: list[Gate] = []

    def gate(self) -> Gate:
        """One that opens with the next subscription."""
        self._gates.append(Gate(self._folder))
        return self._gates[-1]

    def open(self) -> None:
        for each in self._gates:
            each.open()

    def note(self, response: httpx.Response) -> None:
        """A client was answered."""
        asked = response.request
        if not asked.url.path.endswith("/stream/events"):
            return
        # All streams of threads follow these, from their beginning.
        if {*json.loads(asked.content)["channels"]} != {"lifecycle", "input"}:
            self.open()

    async def anote(self, response: httpx.Response) -> None:
        self.note(response)


class Async:
    """A thread's stream of the asynchronous client, called from where there is no loop."""

    def __init__(self, call: Callable[[Any], Any], stream: Any) -> None:
        self._call = call
        self._stream = stream

    def start(self, **params: Any) -> Any:
        return self._call(self._stream.run.start(**params))

    def respond(self, *args: Any, **params: Any) -> Any:
        return self._call(self._stream.run.respond(*args, **params))

    def all(self, name: str) -> list[Any]:
        """All that a projection has, up to the run's end."""

        async def take() -> list[Any]:
            return [each async for each in self._projection(name)]

        return self._call(take())

    def read(self, value: Any) -> Any:
        """What a part of a projection's item came to."""

        async def wait() -> Any:
            return await value

        return self._call(wait())

    @property
    def output(self) -> Any:
        return self.read(self._stream.output)

    @property
    def interrupts(self) -> list[Any]:
        """What it was told is asked, by now."""
        self._call(asyncio.sleep(0))
        interrupts: list[Any] = self._stream.interrupts
        return interrupts

    def _projection(self, name: str) -> Any:
        name, _, extension = name.partition(":")
        found = getattr(self._stream, name)
        return found[extension] if extension else found


class Sync(Async):
    """A thread's stream of the synchronous client."""

    def __init__(self, stream: Any) -> None:
        super().__init__(lambda value: value, stream)

    @property
    def interrupts(self) -> list[Any]:
        interrupts: list[Any] = self._stream.interrupts
        return interrupts

    def all(self, name: str) -> list[Any]:
        return list(self._projection(name))

    def read(self, value: Any) -> Any:
        return value


Open = Callable[..., Any]


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    held = Held(tmp_path)
    yield held
    held.open()


@pytest.fixture(params=["sync", "async"])
def opened(request: pytest.FixtureRequest, zoo: Server, held: Held) -> Iterator[Open]:
    """Opens streams of threads; they are closed with the test."""
    if request.param == "sync":
        streams: list[Any] = []
        with get_sync_client(url=zoo.url) as client:
            client.http.client.event_hooks["response"].append(held.note)

            def open_sync(assistant_id: str, thread_id: str | None = None) -> Any:
                streams.append(client.threads.stream(thread_id, assistant_id=assistant_id))
                return Sync(streams[-1].__enter__())

            yield open_sync
            for each in streams:
                each.close()
        return
    with asyncio.Runner() as runner:

        def call(work: Any) -> Any:
            return runner.run(asyncio.wait_for(work, PATIENCE))

        aclient = get_client(url=zoo.url)
        aclient.http.client.event_hooks["response"].append(held.anote)
        async_streams: list[Any] = []

        def open_async(assistant_id: str, thread_id: str | None = None) -> Any:
            async_streams.append(aclient.threads.stream(thread_id, assistant_id=assistant_id))
            return Async(call, call(async_streams[-1].__aenter__()))

        yield open_async
        for each in async_streams:
            call(each.close())
        call(aclient.aclose())


def contents(values: Any) -> list[str]:
    """The text of each message of a state."""
    texts = []
    for message in values["messages"]:
        content = message["content"]
        if not isinstance(content, str):
            content = "".join(block.get("text", "") for block in content)
        texts.append(content)
    return texts


class TestThreadStream:
    def test_has_messages_values_and_the_output(self, opened: Open, held: Held) -> None:
        thread = opened("chat")
        thread.start(input=said("one two", held.gate()))
        (message,) = thread.all("messages")
        assert str(thread.read(message.text)) == "one two"
        assert message.node == "answer"
        assert contents(thread.output) == ["one two", "one two"]

    def test_goes_on_with_a_thread_from_run_to_run(self, opened: Open, held: Held) -> None:
        thread_id = str(uuid4())
        said_so_far: list[str] = []
        for text in ("one", "two", "three"):
            thread = opened("chat", thread_id)
            thread.start(input=said(text, held.gate()))
            (message,) = thread.all("messages")
            assert str(thread.read(message.text)) == text
            said_so_far += [text, text]
            assert contents(thread.output) == said_so_far

    def test_answers_an_interrupt(self, opened: Open) -> None:
        thread = opened("chat_inside")
        thread.start(input=said("May I go?"))
        (asked,) = eventually(lambda: thread.interrupts)
        assert asked["value"] == QUESTION
        assert thread.respond("You may") == {}
        assert contents(thread.output)[:2] == ["May I go?", "You may"]

    def test_of_another_process_is_told_what_is_asked(self, opened: Open) -> None:
        thread_id = str(uuid4())
        first = opened("chat", thread_id)
        first.start(input=said("May I go?"))
        eventually(lambda: first.interrupts)
        second = opened("chat", thread_id)
        eventually(lambda: second.interrupts)
        assert [each["value"] for each in second.interrupts] == [QUESTION]
        second.respond("You may")
        assert contents(second.output)[:2] == ["May I go?", "You may"]

    def test_has_subgraphs_and_what_tools_do(self, opened: Open, held: Held) -> None:
        thread = opened("chat_inside")
        thread.start(input=said("Count: one two", held.gate()))
        (child,) = thread.all("subgraphs")
        assert (child.graph_name, child.status) == ("chat", "completed")
        thread = opened("chat")
        thread.start(input=said("Count: one two", held.gate()))
        (called,) = thread.all("tool_calls")
        assert (called.name, called.input) == ("count", {"text": "one two"})
        assert thread.read(called.output)["content"] == "2"

    def test_has_what_a_graphs_own_transformers_tell(self, opened: Open, held: Held) -> None:
        thread = opened("writes_counted")
        thread.start(input={"n": 2, "gate": str(held.gate().path)})
        assert [each["payload"] for each in thread.all("extensions:counts")] == [1, 2]

    def test_raises_what_a_run_failed_with(self, opened: Open) -> None:
        thread = opened("fails")
        thread.start(input={})
        with pytest.raises(RuntimeError, match="ValueError: no luck"):
            _ = thread.output

    def test_is_refused_what_cannot_be_run(self, opened: Open) -> None:
        thread = opened("nothing")
        with pytest.raises(RuntimeError, match="invalid_argument"):
            thread.start(input={})


class TestRemoteGraph:
    def test_streams_events(self, zoo: Server, held: Held) -> None:
        client = get_sync_client(url=zoo.url)
        client.http.client.event_hooks["response"].append(held.note)
        graph = RemoteGraph("chat", sync_client=client)
        given = said("one two", held.gate())
        with client, graph.stream_events(given, version="v3") as run:
            came = list(run.interleave("updates", "values"))
            assert contents(run.output) == ["one two", "one two"]
        assert [list(each) for name, each in came if name == "updates"] == [["ask"], ["answer"]]
        assert contents(came[-1][1]) == ["one two", "one two"]

    def test_resumes_with_a_command(self, zoo: Server) -> None:
        graph = RemoteGraph("chat", url=zoo.url)
        config: Any = {"configurable": {"thread_id": str(uuid4())}}
        with graph.stream_events(said("May I go?"), config, version="v3") as run:
            eventually(lambda: run.interrupted)
            assert [each["value"] for each in run.interrupts] == [QUESTION]
        with graph.stream_events(Command(resume="You may"), config, version="v3") as run:
            assert contents(run.output)[:2] == ["May I go?", "You may"]

    def test_streams_events_asynchronously(self, zoo: Server, gate: Gate) -> None:
        async def told() -> tuple[list[Any], Any]:
            graph = RemoteGraph("chat", url=zoo.url)
            given = said("one two", gate)
            async with await graph.astream_events(given, version="v3") as run:
                written = []
                async for each in run.extensions["custom"]:
                    written.append(each)
                    gate.open()
                return written, await run.output()

        written, output = asyncio.run(told())
        assert written == [{"payload": {"told": 1}}]
        assert contents(output) == ["one two", "one two"]
