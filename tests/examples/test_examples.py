"""The examples, run by LangGraph alone: what a newcomer is told they do, they do."""

import asyncio
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIG = json.loads((EXAMPLES / "langgraph.json").read_text())

Load = Callable[[str], Any]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Gives the graph that langgraph.json registers under a name, from a freshly run module."""

    def load(name: str) -> Any:
        path, _, attribute = CONFIG["graphs"][name]["path"].partition(":")
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return getattr(module, attribute)

    return load


def ask(*texts: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text} for text in texts]}


@pytest.mark.parametrize("name", CONFIG["graphs"])
def test_each_example_has_a_description_and_a_curl_call_naming_it(name: str) -> None:
    entry = CONFIG["graphs"][name]
    source = (EXAMPLES / entry["path"].partition(":")[0]).read_text()

    assert entry["description"]
    assert "curl" in source
    assert "/runs/wait" in source
    assert f'"assistant_id": "{name}"' in source


@pytest.mark.parametrize("name", CONFIG["graphs"])
def test_the_readme_has_a_row_for_each_example(name: str) -> None:
    file = CONFIG["graphs"][name]["path"].partition(":")[0].removeprefix("./")

    assert f"| [{name}]({file}) |" in (EXAMPLES / "README.md").read_text()


def test_chat_calls_its_tools_and_answers_from_their_results(load: Load) -> None:
    output = load("chat").invoke(ask("What is 6 * 7? How is Oslo?"), context={"name": "Ada"})

    _, request, product, forecast, answer = output["messages"]
    assert [call["name"] for call in request.tool_calls] == ["calculate", "weather"]
    assert product.tool_call_id == request.tool_calls[0]["id"]
    assert product.content == "6 * 7 = 42."
    assert forecast.tool_call_id == request.tool_calls[1]["id"]
    assert answer.content == "Hello Ada. 6 * 7 = 42. Oslo has snow, -4 °C."


def test_chat_uses_the_defaults_of_its_context(load: Load) -> None:
    output = load("chat").invoke(ask("What is 9-4?"), context={})

    assert output["messages"][-1].content == "Hello friend. 9 - 4 = 5."


def test_chat_takes_its_tone_from_the_context(load: Load) -> None:
    output = load("chat").invoke(ask("1 + 1"), context={"name": "Bo", "tone": "cheerful"})

    assert output["messages"][-1].content == "Good news, Bo! 1 + 1 = 2."


def test_chat_answers_without_tools_when_nothing_calls_for_one(load: Load) -> None:
    output = load("chat").invoke(ask("Who are you?"), context={})

    _, answer = output["messages"]
    assert answer.tool_calls == []
    assert answer.content == "Hello friend. Ask me for a sum, or for the weather in a city."


def test_chat_answers_only_the_last_question_of_a_conversation(load: Load) -> None:
    graph = load("chat")
    first = graph.invoke(ask("2 + 2"), context={})

    second = graph.invoke({"messages": [*first["messages"], ("user", "3 * 3")]}, context={})

    assert second["messages"][-1].content == "Hello friend. 3 * 3 = 9."
    calls = [call["id"] for m in second["messages"] for call in getattr(m, "tool_calls", [])]
    assert len(calls) == len(set(calls)) == 2


@pytest.fixture
def approval(load: Load) -> Any:
    graph = load("approval")
    graph.checkpointer = InMemorySaver()
    return graph


THREAD = {"configurable": {"thread_id": "1"}}


def test_approval_stops_with_the_draft_and_has_sent_nothing(approval: Any) -> None:
    output = approval.invoke({"request": "lunch"}, THREAD)

    (pending,) = output["__interrupt__"]
    assert pending.value == {"question": "Send this?", "draft": "Dear all, I propose lunch."}
    assert output["sent"] is False


def test_approval_sends_the_draft_once_it_is_approved(approval: Any) -> None:
    approval.invoke({"request": "lunch"}, THREAD)

    output = approval.invoke(Command(resume={"approved": True}), THREAD)

    assert output == {"request": "lunch", "draft": "Dear all, I propose lunch.", "sent": True}


def test_approval_asks_again_with_a_revised_draft_when_it_is_refused(approval: Any) -> None:
    approval.invoke({"request": "lunch"}, THREAD)

    refusal = Command(resume={"approved": False, "feedback": "friendlier"})
    output = approval.invoke(refusal, THREAD)

    (pending,) = output["__interrupt__"]
    assert pending.value["draft"] == "Dear all, I propose lunch. (Revised: friendlier)"
    assert output["sent"] is False
    assert approval.invoke(Command(resume={"approved": True}), THREAD)["sent"] is True


def test_mapreduce_adds_up_the_words_of_all_documents(load: Load) -> None:
    output = load("mapreduce").invoke({"documents": ["the cat and The dog", "the end"]})

    assert output == {"words": {"the": 3, "cat": 1, "and": 1, "dog": 1, "end": 1}}


def test_mapreduce_counts_each_document_in_a_task_of_its_own(load: Load) -> None:
    updates = load("mapreduce").stream({"documents": ["a", "b c", "c"]}, stream_mode="updates")

    nodes = [node for update in updates for node in update]
    assert nodes == ["count", "count", "count", "total"]


def test_mapreduce_of_no_documents_counts_no_words(load: Load) -> None:
    assert load("mapreduce").invoke({"documents": []}) == {"words": {}}


def test_async_only_buys_at_the_cheapest_shop_within_the_budget(load: Load) -> None:
    output = asyncio.run(load("async_only").ainvoke({"item": "lamp", "budget": 25}))

    assert output["offers"] == {"corner shop": 30, "market": 20, "mail order": 24}
    assert output["decision"] == "Buy the lamp at the market for 20."


@pytest.mark.parametrize(("item", "budget"), [("lamp", 19), ("boat", 1000)])
def test_async_only_declines_what_nobody_offers_in_the_budget(
    load: Load, item: str, budget: int
) -> None:
    output = asyncio.run(load("async_only").ainvoke({"item": item, "budget": budget}))

    assert output["decision"] == f"No {item} for {budget} or less."


def test_async_only_cannot_be_invoked_synchronously(load: Load) -> None:
    with pytest.raises(TypeError, match="No synchronous function"):
        load("async_only").invoke({"item": "lamp", "budget": 25})


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replaces time.sleep, and gives the durations asked of it."""
    durations: list[float] = []
    monkeypatch.setattr("time.sleep", durations.append)
    return durations


def test_slow_sleeps_as_long_as_it_is_told(load: Load, naps: list[float]) -> None:
    output = load("slow").invoke({"seconds": 1.1})

    assert output["slept"] == pytest.approx(1.1)
    assert sum(naps) == pytest.approx(1.1)


def test_slow_sleeps_in_supersteps_short_enough_to_be_stopped(
    load: Load, naps: list[float]
) -> None:
    updates = list(load("slow").stream({"seconds": 12}, stream_mode="updates"))

    assert len(updates) == len(naps)
    assert max(naps) <= 0.25


def test_slow_returns_at_once_when_there_is_nothing_to_sleep(load: Load, naps: list[float]) -> None:
    assert load("slow").invoke({"seconds": 0}) == {"seconds": 0, "slept": 0}
    assert naps == []
