"""The API's description, as strangers use it: a page in a browser, and a tool that tests by it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import Browser
from tests.fuzz import busy, fuzz, server
from tests.servers import RedisServer, Server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of two processes, and a Redis of its own."""
    folder = tmp_path_factory.mktemp("openapi")
    valkey = RedisServer(folder)
    valkey.start()
    served = server(folder, valkey.url)
    served.start()
    yield served
    served.kill()
    valkey.stop()


def test_the_page_shows_each_call_and_makes_one(served: Server, tmp_path: Path) -> None:
    browser = Browser(tmp_path)
    try:
        browser.go(f"{served.url}/docs")
        browser.wait_for("document.querySelectorAll('.opblock').length > 50")
        block = "document.querySelector('#operations-threads-threads_create')"
        browser.run(f"{block}.querySelector('.opblock-summary-control').click()")
        for button in ("try-out__btn", "execute"):
            browser.wait_for(f"!!{block}.querySelector('.{button}')")
            browser.run(f"{block}.querySelector('.{button}').click()")
        answer = f"{block}.querySelector('.live-responses-table .highlight-code code')"
        browser.wait_for(f"!!{answer}")
        thread = json.loads(browser.run(f"{answer}.innerText"))
    finally:
        browser.close()

    assert (thread["status"], thread["metadata"]) == ("idle", {"user": "ada"})
    assert served.http.get(f"/threads/{thread['thread_id']}").json()["metadata"] == {"user": "ada"}
    assert browser.complaints == []
    asked = [each for each in browser.requests if each.startswith("http")]
    assert [each for each in asked if not each.startswith(served.url)] == []
    assert len(asked) > 4


@pytest.mark.timeout(1800)  # however slow the machine is
@pytest.mark.long
def test_thousands_of_requests_are_answered_as_it_says(served: Server, tmp_path: Path) -> None:
    # All that its coverage phase makes of the description, the same each time.
    done = fuzz(served.url, tmp_path, "--phases", "examples,coverage", "--seed", "1")

    assert done.returncode == 0, done.stdout
    told = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert told is not None, done.stdout
    assert int(told[1]) == int(told[2]) > 5000
    # On a busy machine some are told to come again; not all of any call.
    metrics = served.http.get("/metrics").text
    assert "runwait_http_requests_total" in metrics
    assert {call: share for call, share in busy(metrics).items() if share > 0.1} == {}
