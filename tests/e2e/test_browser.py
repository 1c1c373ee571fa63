"""The hooks `useStream` of LangGraph's JavaScript packages, in a page of React in a real browser.

javascript/chat.jsx has that of @langchain/langgraph-sdk, react.jsx that of @langchain/react. Each
page belongs to the origin of the service, as if a proxy had both.
"""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runwait.api.a2a.tasks import text_of
from tests.e2e.browser import Browser
from tests.e2e.calls import Gate, fresh_get
from tests.e2e.programs import javascript_sdk, require
from tests.servers import PATIENCE, Server, eventually


@functools.cache
def page(name: str) -> bytes:
    """A page, with all that it needs in it."""
    bundled = subprocess.run(
        [
            *(require("node"), "node_modules/esbuild/bin/esbuild", name, "--bundle"),
            *("--jsx=automatic", "--minify", '--define:process.env.NODE_ENV="production"'),
        ],
        cwd=javascript_sdk(),
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
        check=True,
    )
    return b"<!doctype html><body><script>%b</script></body>" % bundled.stdout


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


SHOWN = """({
    loading: document.querySelector("main")?.dataset.loading === "true",
    messages: [...document.querySelectorAll("li span")].map((each) => each.textContent),
    question: document.querySelector("#question")?.textContent,
    error: document.querySelector("#error")?.textContent,
})"""


class Chat:
    """The conversation that the page shows."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    def write(self, text: str, gate: Gate | None = None) -> None:
        """Fill in the form."""
        fields = {"text": text, "gate": str(gate.path) if gate is not None else ""}
        self._browser.wait_for("!!document.forms[0]")
        self._browser.run(
            f"for (const [name, value] of Object.entries({json.dumps(fields)}))"
            " document.forms[0].elements[name].value = value"
        )

    def say(self, text: str, gate: Gate | None = None) -> None:
        """Fill in the form, and send it."""
        self.write(text, gate)
        self._browser.run("document.forms[0].requestSubmit()")

    def click(self, text: str) -> None:
        """Click on the first button with this text, once it is there."""
        button = f"[...document.querySelectorAll('button')].find((b) => b.innerText === '{text}')"
        self._browser.wait_for(f"!!{button}")
        self._browser.run(f"{button}.click()")

    def shows(self, *messages: str, loading: bool = False, question: str | None = None) -> None:
        """Wait until it has these messages and no others, and this question, if any."""
        wanted = {"loading": loading, "messages": [*messages]}
        if question is not None:
            wanted["question"] = question
        with contextlib.suppress(AssertionError):
            eventually(lambda: self._browser.run(SHOWN) == wanted)
        assert self._browser.run(SHOWN) == wanted


@pytest.fixture
def chat(request: pytest.FixtureRequest, browser: Browser, zoo: Server) -> Chat:
    """A new conversation."""
    browser.open(f"{zoo.url}/chat", page(getattr(request, "param", "chat.jsx")))
    return Chat(browser)


with_both = pytest.mark.parametrize("chat", ["chat.jsx", "react.jsx"], indirect=True)


@with_both
def test_tokens_are_shown_as_they_come(chat: Chat, tmp_path: Path) -> None:
    with Gate(tmp_path) as gate:
        chat.say("one two three", gate)
        chat.shows("human: one two three", "ai: one ", loading=True)
        gate.open()
        chat.shows("human: one two three", "ai: one two three")


@with_both
def test_an_interrupt_is_answered(chat: Chat) -> None:
    chat.say("May I go?")
    chat.shows("human: May I go?", question="May I go?")
    chat.say("You may.")
    chat.shows("human: May I go?", "human: You may.", "ai: You may.")


@with_both
def test_a_page_that_is_loaded_again_joins_the_stream_of_its_run(
    chat: Chat, browser: Browser, tmp_path: Path
) -> None:
    with Gate(tmp_path) as gate:
        chat.say("one two three", gate)
        chat.shows("human: one two three", "ai: one ", loading=True)
        browser.reload()
        # All that it showed before comes again.
        chat.shows("human: one two three", "ai: one ", loading=True)
        gate.open()
        chat.shows("human: one two three", "ai: one two three")


def test_a_run_is_stopped_and_the_conversation_goes_on(chat: Chat, tmp_path: Path) -> None:
    with Gate(tmp_path) as opened:
        pass
    with Gate(tmp_path) as gate:
        chat.say("one two three", gate)
        chat.shows("human: one two three", "ai: one ", loading=True)
        chat.click("stop")
        # What the model had not ended is not in the state.
        chat.shows("human: one two three")
        chat.say("four", opened)
        chat.shows("human: one two three", "human: four", "ai: four")


def change_the_first_of_two_messages(chat: Chat) -> None:
    chat.say("first")
    chat.shows("human: first", "ai: first")
    chat.say("second")
    chat.shows("human: first", "ai: first", "human: second", "ai: second")
    chat.write("other")
    chat.click("change")


def test_an_earlier_message_is_changed_in_a_branch_of_its_own(chat: Chat) -> None:
    change_the_first_of_two_messages(chat)
    chat.shows("human: other", "ai: other")
    chat.click("2/2")
    chat.shows("human: first", "ai: first", "human: second", "ai: second")
    chat.click("1/2")
    chat.shows("human: other", "ai: other")


@pytest.mark.parametrize("chat", ["react.jsx"], indirect=True)
def test_a_thread_goes_on_from_a_checkpoint_before_an_earlier_message(
    chat: Chat, browser: Browser, zoo: Server
) -> None:
    change_the_first_of_two_messages(chat)
    thread_id = browser.run("new URLSearchParams(location.search).get('thread')")

    def held() -> list[tuple[str, str]]:
        values = fresh_get(zoo, f"/threads/{thread_id}/state").json()["values"]
        return [(each["type"], text_of(each["content"])) for each in values["messages"]]

    # The hook itself goes on showing the others too, until a version that leaves them out.
    eventually(lambda: held() == [("human", "other"), ("ai", "other")])
