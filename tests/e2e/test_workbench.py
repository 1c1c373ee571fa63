"""The workbench, in a real browser, as a person uses it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.browser import Browser
from tests.e2e.calls import Gate, given_up
from tests.servers import PROJECTS, Server, ServerFactory, eventually


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def guarded(shared: ServerFactory) -> Server:
    """The zoo, for who has a key."""
    config = PROJECTS / "zoo" / "langgraph.json"
    return shared(LANGGRAPH_CONFIG=config, WEB_CONCURRENCY=1, API_KEYS="ada=the-key")


@pytest.fixture(scope="module")
def hostile(shared: ServerFactory) -> Server:
    """Graphs that mean no good, served below a prefix."""
    server = shared(
        LANGGRAPH_CONFIG=PROJECTS / "hostile" / "langgraph.json", MOUNT_PREFIX="/a/prefix"
    )
    server.url += "/a/prefix"
    server.http.base_url = server.url
    return server


class Workbench:
    """The page, as it is open in the browser."""

    def __init__(self, browser: Browser, server: Server) -> None:
        self.browser = browser
        self.server = server
        browser.look(1280, 800)
        browser.go(f"{server.url}/")
        self.wait_for("document.querySelector('#fields textarea, #fields input, #fields select')")

    def wait_for(self, script: str) -> None:
        self.browser.wait_for(f"!!({script})")

    def texts(self, selector: str) -> list[str]:
        """What the elements of a kind say."""
        found: list[str] = self.browser.run(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText.trim())"
        )
        return found

    def says(self, selector: str, *texts: str) -> None:
        """Wait until the elements of a kind say this, and nothing else."""
        eventually(lambda: self.texts(selector) == [*texts] or None)

    def click(self, text: str, within: str = "body") -> None:
        """Click on the first visible button with this text, once it is there."""
        button = (
            f"[...document.querySelectorAll({json.dumps(f'{within} button')})].find("
            f"(e) => e.offsetParent && e.innerText.trim() === {json.dumps(text)})"
        )
        self.wait_for(button)
        self.browser.run(f"{button}.click()")

    def choose(self, graph: str) -> None:
        """Choose a graph, and wait for its form and its drawing."""
        self.browser.run("document.querySelector('#fields').replaceChildren()")
        name = (
            "[...document.querySelectorAll('#assistants .name')]"
            f".find((e) => e.textContent === {json.dumps(graph)})"
        )
        self.wait_for(name)
        self.browser.run(f"{name}.closest('button').click()")
        self.wait_for("document.querySelector('#fields').childElementCount")
        self.wait_for("document.querySelector('#panel svg')")

    def write(self, text: str, selector: str) -> None:
        """Write into a field, as a person does."""
        self.wait_for(f"document.querySelector({json.dumps(selector)})")
        self.browser.run(
            f"{{const e = document.querySelector({json.dumps(selector)}); e.focus(); e.select?.()}}"
        )
        self.browser.type(text)

    def fill(self, label: str, text: str) -> None:
        """Write into the field of the form that has this label."""
        script = (
            "[...document.querySelectorAll('#fields label')]"
            f".find((e) => e.querySelector('.name').textContent === {json.dumps(label)}).htmlFor"
        )
        self.write(text, f"#{self.browser.run(script)}")

    def say(self, text: str) -> None:
        """Write a message, and send it."""
        self.write(text, "textarea.chat")
        self.browser.press("Enter")

    def ends(self, status: str) -> None:
        """Wait until a run has ended so, and the thread is shown as it is then."""
        told = "document.querySelector('#told').textContent"
        ended = f"document.querySelector('#stop').hidden && {told}.startsWith('Run: ')"
        self.wait_for(ended)
        assert self.browser.run(told) == f"Run: {status}"
        # The next one is to be told of anew.
        self.browser.run("document.querySelector('#told').textContent = ''")

    @property
    def thread(self) -> str:
        """The id of the thread that is open."""
        found: str = self.browser.run("new URLSearchParams(location.hash.slice(1)).get('thread')")
        return found


@pytest.fixture
def page(browser: Browser, zoo: Server) -> Iterator[Workbench]:
    """The workbench of the zoo. It complains of nothing, and asks nobody else for anything."""
    page = Workbench(browser, zoo)
    yield page
    assert browser.complaints == []
    assert all(url.startswith(f"{zoo.url}/") for url in browser.requests), browser.requests


MESSAGES = "#messages .content"


def test_a_run_is_typed_in_the_form_and_its_tokens_are_seen_as_they_come(
    page: Workbench, tmp_path: Path
) -> None:
    page.choose("chat")
    with Gate(tmp_path) as gate:
        page.fill("gate", str(gate.path))
        page.say("one two three")
        page.says(MESSAGES, "one two three", "one")
        assert page.texts("#thread-status") == ["busy"]
        assert page.browser.run(
            "[...document.querySelectorAll('[data-state=running] text')].map((e) => e.textContent)"
        ) == ["answer"]
        gate.open()
        page.ends("success")
    page.says(MESSAGES, "one two three", "one two three")
    # The message is not there to be sent again; all else of the input is.
    assert page.browser.run("document.querySelector('textarea.chat').value") == ""
    assert page.texts("#steps > details > summary") == ["3 steps of the last run"]


def test_a_page_that_is_loaded_again_follows_the_run_that_goes_on(
    page: Workbench, tmp_path: Path
) -> None:
    page.choose("chat")
    with Gate(tmp_path) as gate:
        page.fill("gate", str(gate.path))
        page.say("one two three")
        page.says(MESSAGES, "one two three", "one")
        page.browser.reload()
        page.says(MESSAGES, "one two three", "one")
        gate.open()
        page.ends("success")
    page.says(MESSAGES, "one two three", "one two three")


def test_a_run_is_stopped(page: Workbench, tmp_path: Path) -> None:
    page.choose("chat")
    with Gate(tmp_path) as gate:
        page.fill("gate", str(gate.path))
        page.say("one two three")
        page.says(MESSAGES, "one two three", "one")
        page.click("Stop")
        page.ends("interrupted")
    page.says(MESSAGES, "one two three")


def test_an_interrupt_is_answered(page: Workbench) -> None:
    page.choose("chat")
    page.say("May I go?")
    page.ends("interrupted")
    page.says("#questions .inline", "{question: May I go?}")
    page.write("You may.", "#answer-0")
    page.click("Answer")
    page.ends("success")
    page.says(MESSAGES, "May I go?", "You may.", "You may.")
    assert page.texts("#questions *") == []


def test_several_interrupts_are_answered_together_or_one_by_one(page: Workbench) -> None:
    page.choose("two_interrupts")
    page.click("Run")
    page.ends("interrupted")
    page.says("#questions h3", "Question 1 of 2", "Question 2 of 2")
    page.write('"two"', "#answer-1")
    page.click("Answer all that are filled in")
    page.ends("interrupted")
    page.says("#questions h3", "The graph asks")
    page.write("one", "#answer-0")
    page.click("Answer")
    page.ends("success")
    state = page.server.http.get(f"/threads/{page.thread}/state").json()
    assert sorted(state["values"]["answers"]) == ["left: one", "right: two"]


def test_history_is_stepped_through_and_forked_with_other_input(page: Workbench) -> None:
    page.choose("chat")
    for each in ("first", "second"):
        page.say(each)
        page.ends("success")
    page.click("History")
    page.says(
        ".states .name",
        *("at the end", "before answer", "before ask", "input"),
        *("at the end", "before answer", "before ask", "input"),
    )
    page.browser.run("document.querySelectorAll('.states button')[4].click()")
    page.says(MESSAGES, "first", "first")
    page.click("Older")
    page.says(MESSAGES, "first")
    page.click("Newer")
    page.says(MESSAGES, "first", "first")
    assert page.texts("#start") == ["Run from here"]

    page.say("other")
    page.ends("success")

    page.says(MESSAGES, "first", "first", "other", "other")
    assert page.texts("#start") == ["Run"]
    assert "branch of step 2" in page.texts(".states .hint")[3]
    # What came after before is still there.
    page.browser.run("document.querySelectorAll('.states button')[4].click()")
    page.says(MESSAGES, "first", "first", "second", "second")


def test_a_state_is_changed_and_gone_on_from(page: Workbench) -> None:
    page.choose("breakpoints")
    page.browser.run(
        "document.querySelector('#extra').value = JSON.stringify({interrupt_before: ['c']})"
    )
    page.click("Run")
    page.ends("interrupted")
    page.click("Change state")
    page.write('{"names": ["mine"]}', "#change-values")
    page.click("Change", "#change-state")
    page.wait_for("!document.querySelector('#change-state').open")
    page.browser.run("document.querySelector('#extra').value = ''")
    page.click("Go on without input")
    page.ends("success")
    state = page.server.http.get(f"/threads/{page.thread}/state").json()
    assert state["values"]["names"] == ["a", "b", "mine", "c"]


def test_threads_are_found_by_metadata_and_deleted(page: Workbench) -> None:
    made = [
        page.server.http.post("/threads", json={"metadata": {"bench": each}}).json()["thread_id"]
        for each in (1, "two", "two")
    ]
    page.write("bench=two", "#find-text")
    page.browser.press("Enter")
    shown = "[...document.querySelectorAll('[data-thread]')].map((e) => e.dataset.thread)"
    eventually(lambda: set(page.browser.run(shown)) == set(made[1:]))
    page.browser.run(f"document.querySelector('[aria-label=\"Delete thread {made[1]}\"]').click()")
    page.click("Delete", "#sure")
    eventually(lambda: page.browser.run(shown) == made[2:])
    assert page.server.http.get(f"/threads/{made[1]}").status_code == 404
    assert page.server.http.get(f"/threads/{made[0]}").status_code == 200


def test_runs_are_listed_and_cancelled(page: Workbench, tmp_path: Path) -> None:
    http = page.server.http
    with Gate(tmp_path) as gate:
        body = {"assistant_id": "sleep_sync", "input": gate.input, "if_not_exists": "create"}
        thread = http.post("/threads", json={}).json()["thread_id"]
        run = http.post(f"/threads/{thread}/runs", json=body).json()["run_id"]
        page.click("Runs")
        page.wait_for(
            f"[...document.querySelectorAll('#panel code')].some((e) => e.title == '{run}')"
        )
        row = f"document.querySelector('#panel [title=\"{run}\"]')?.closest('li')"
        cancel = f"[...{row}.querySelectorAll('button')].find((e) => e.innerText === 'Cancel')"
        page.browser.run(f"{cancel}.click()")
        page.wait_for(f"{row}?.querySelector('[data-status=interrupted]')")
    assert http.get(f"/threads/{thread}/runs/{run}").json()["status"] == "interrupted"


def test_crons_are_listed_turned_off_and_deleted(page: Workbench) -> None:
    http = page.server.http
    body = {"assistant_id": "echo", "schedule": "0 0 1 1 *", "timezone": "Europe/Oslo"}
    cron = http.post("/runs/crons", json=body).json()["cron_id"]
    page.click("Crons")
    row = (
        "[...document.querySelectorAll('#panel li')]"
        ".find((e) => e.innerText.includes('Europe/Oslo'))"
    )
    page.wait_for(f"{row}?.innerText.includes('next at')")
    press = f"[...{row}.querySelectorAll('button')].find((e) => e.innerText === %r).click()"
    page.browser.run(press % "Turn off")
    page.wait_for(f"{row}?.querySelector('.hint + .hint, div.hint').innerText === 'off'")
    assert http.get(f"/runs/crons/{cron}").json()["enabled"] is False
    page.browser.run(press % "Delete")
    page.click("Delete", "#sure")
    page.wait_for(f"!{row}")
    assert http.get(f"/runs/crons/{cron}").status_code == 404


def test_webhooks_that_were_given_up_are_listed_and_tried_again(page: Workbench) -> None:
    given_up(page.server.valkey, str(uuid4()), "the answer was <b>500</b>")
    page.click("Webhooks")
    page.says("#panel .error-text", "the answer was <b>500</b>")
    page.click("Try again")
    page.says("#panel > .hint", "Webhooks that were given up after many attempts.", "None.")


def test_every_graph_is_drawn_and_has_a_form(page: Workbench) -> None:
    names = page.texts("#assistants .name")
    assert len(names) > 40
    for each in names:
        if each == "unstorable":
            continue
        page.choose(each)
        nodes = page.server.http.get(f"/assistants/{each}/graph?xray=true").json()["nodes"]
        assert page.browser.run("document.querySelectorAll('#panel .node').length") == len(nodes)


def test_input_is_edited_as_json_and_what_is_no_json_is_told(page: Workbench) -> None:
    page.choose("two_nodes")
    page.click("JSON")
    page.write('{"value": ', "#input-json")
    page.click("Run")
    page.wait_for("document.querySelector('#wrong').textContent.includes('is not JSON')")
    page.write('{"value": {"deep": [1]}}', "#input-json")
    page.click("Form")
    page.wait_for("document.querySelector('#fields label')")
    page.click("JSON")
    assert json.loads(page.browser.run("document.querySelector('#input-json').value")) == {
        "value": {"deep": [1]}
    }


def test_everything_can_be_reached_by_the_keyboard(page: Workbench) -> None:
    seen = set()
    for _ in range(120):
        page.browser.press("Tab")
        seen.add(page.browser.run("document.activeElement.id || document.activeElement.tagName"))
    assert {"key", "new-thread", "find-text", "log", "as-json", "start", "tab-graph"} <= seen
    page.browser.run("document.querySelector('#tab-graph').focus()")
    page.browser.press("ArrowRight")
    assert page.browser.run("document.activeElement.id") == "tab-history"
    unnamed = """[...document.querySelectorAll('input, select, textarea, button')].filter((e) =>
        !e.labels?.length && !e.ariaLabel && !e.textContent.trim()).map((e) => e.outerHTML)"""
    assert page.browser.run(unnamed) == []


def test_whole_numbers_stay_what_they_are(page: Workbench) -> None:
    page.choose("echo")
    page.click("JSON")
    page.write('{"value": [9223372036854775807, 1.5, -12345678901234567890]}', "#input-json")
    page.click("Run")
    page.ends("success")
    page.says("#values .inline", "{value: [9223372036854775807, 1.5, -12345678901234567890]}")
    state = page.server.http.get(f"/threads/{page.thread}/state").json()
    assert state["values"]["value"] == [9223372036854775807, 1.5, -12345678901234567890]


class TestKey:
    """A server that wants a key."""

    @pytest.fixture
    def locked(self, browser: Browser, guarded: Server) -> Iterator[Browser]:
        browser.look(1280, 800)
        browser.go(f"{guarded.url}/")
        yield browser
        browser.run("sessionStorage.clear()")

    def enter(self, browser: Browser, key: str) -> None:
        # It is empty each time that it is asked for.
        browser.wait_for(
            "document.querySelector('#ask-key')?.open"
            " && document.querySelector('#key-value').value === ''"
        )
        browser.run("document.querySelector('#key-value').focus()")
        browser.type(key)
        browser.press("Enter")

    def test_is_asked_for_until_it_is_right_and_kept_in_the_tab(self, locked: Browser) -> None:
        self.enter(locked, "a wrong one")
        self.enter(locked, "the-key")
        locked.wait_for("document.querySelectorAll('#assistants li').length > 40")
        assert locked.run("localStorage.length") == 0
        assert locked.run("document.cookie") == ""
        assert "the-key" not in locked.run("location.href")

        locked.reload()
        locked.wait_for("document.querySelectorAll('#assistants li').length > 40")
        assert locked.run("document.querySelector('#ask-key')?.open") is False
        assert "the-key" not in locked.run("document.documentElement.outerHTML")

        locked.run("document.querySelector('#key').click()")
        locked.wait_for("document.querySelector('#ask-key')?.open")
        assert locked.run("sessionStorage.length") == 0

    def test_is_asked_for_once_by_who_has_none(self, locked: Browser) -> None:
        locked.wait_for("document.querySelector('#ask-key')?.open")
        locked.press("Escape")
        locked.wait_for(
            "document.querySelector('#threads').innerText.includes('API key is required')"
        )
        assert locked.run("document.querySelector('#ask-key')?.open") is False


@pytest.mark.parametrize("width", [1280, 420])
def test_nothing_is_wider_than_the_window_and_the_page_is_one_screen(
    page: Workbench, width: int
) -> None:
    page.choose("chat")
    for _ in range(3):
        page.say("w" * 5000)
        page.ends("success")
    page.browser.look(width, 800)
    for each in ("side", "run", "more"):
        page.browser.run(f"document.body.dataset.view = '{each}'")
        size = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        assert page.browser.run(size) == [width, 800]
        cut = f"""[...document.querySelectorAll('button, h2, label, textarea')].filter((e) =>
            e.offsetParent && e.getBoundingClientRect().right > {width}).map((e) => e.innerText)"""
        assert page.browser.run(cut) == []


class TestHostile:
    """What graphs say is text."""

    @pytest.fixture
    def page(self, browser: Browser, hostile: Server) -> Iterator[Workbench]:
        page = Workbench(browser, hostile)
        yield page
        assert browser.complaints == []
        assert all(url.startswith(f"{hostile.url}/") for url in browser.requests)

    def test_markup_in_names_states_questions_and_errors_stays_text(self, page: Workbench) -> None:
        page.choose("<img src=x onerror=alert(1)>")
        page.browser.run("window.alert = () => { window.isHurt = true }")
        page.say("<img src=x onerror=alert(1)>")
        page.ends("interrupted")
        page.write("<img src=x onerror=alert(1)>", "#answer-0")
        page.click("Answer")
        page.ends("error")
        for tab in ("History", "Runs", "Webhooks", "Graph"):
            page.click(tab)
        page.browser.run("document.querySelectorAll('details').forEach((e) => { e.open = true })")
        page.wait_for("document.body.textContent.includes('ValueError')")
        assert page.texts("#failure p")[0].startswith("<img src=x onerror=alert(1)><script>")
        made = "body img, body script, body a:not(#docs), body iframe"
        inside = f"document.querySelectorAll({made!r}).length"
        assert page.browser.run(inside) == 0
        assert page.browser.run("window.isHurt") is None

    def test_a_thread_in_the_address_that_is_none_is_left_alone(self, page: Workbench) -> None:
        page.browser.go(f"{page.server.url}/#assistant=<img>&thread=../../x<img src=x>")
        page.wait_for("document.querySelector('#fields').childElementCount")
        assert page.texts("#title") == ["New thread"]

    def test_markup_cannot_be_made_even_by_a_script_that_tries(self, page: Workbench) -> None:
        tried = "try { document.body.innerHTML = '<img>'; 'made' } catch (e) { e.name }"
        assert page.browser.run(tried) == "TypeError"
        page.browser.complaints.clear()  # the browser tells of it

    def test_what_is_large_is_shown_in_parts(self, page: Workbench) -> None:
        page.choose("large")
        page.fill("size", "20000")
        page.click("Run")
        page.ends("success")
        page.wait_for("document.querySelector('#values .more')")
        assert page.browser.run("document.querySelectorAll('*').length") < 1500
        assert page.browser.run("document.body.innerText.length") < 20_000

    def test_a_form_has_a_field_for_each_kind_and_leaves_out_what_is_empty(
        self, page: Workbench
    ) -> None:
        page.choose("shapes")
        page.fill("number", "no number")
        page.click("Run")
        page.says("#wrong", "number must be a number")
        page.fill("number", "5")
        page.fill("share", "0.5")
        page.fill("words", "a <b>")
        page.fill("anything", '{"any": [null]}')
        page.write("first", "[aria-label='list 1']")
        page.write("Ada", "fieldset .fields textarea")
        page.click("JSON")
        value: dict[str, Any] = json.loads(
            page.browser.run("document.querySelector('#input-json').value")
        )
        assert value == {
            "words": "a <b>",
            "number": 5,
            "share": 0.5,
            "list": ["first"],
            "inner": {"name": "Ada"},
            "anything": {"any": [None]},
        }
        page.click("Form")
        page.click("Run")
        page.ends("success")
        state = page.server.http.get(f"/threads/{page.thread}/state").json()
        assert state["values"] == value
