"""Takes the picture of the workbench that the README shows: `make picture`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.e2e.browser import Browser
from tests.e2e.test_workbench import Workbench
from tests.servers import ROOT, Server

PICTURE = ROOT / "docs" / "workbench.png"


def main() -> None:
    """Serve the examples, use them a little, and take the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Server(folder, {"LANGGRAPH_CONFIG": str(ROOT / "examples" / "langgraph.json")})
        server.start()
        browser = Browser(folder)
        try:
            page = Workbench(browser, server)
            page.choose("mapreduce")
            page.write("the cat and the dog", "[aria-label='documents 1']")
            page.click("Run")
            page.ends("success")
            page.choose("approval")
            page.fill("request", "lunch on Friday")
            page.click("Run")
            page.ends("interrupted")
            page.choose("chat")
            page.say("What is 6 * 7? How is Oslo?")
            page.ends("success")
            page.say("And 42 - 23?")
            page.ends("success")
            page.write("How is Pune, then?", "textarea.chat")
            PICTURE.write_bytes(browser.picture())
        finally:
            browser.close()
            server.kill()


if __name__ == "__main__":
    main()
