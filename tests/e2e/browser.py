"""A headless Chromium, by its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.programs import require
from tests.servers import PATIENCE, eventually

OPTIONS = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # which a container may not give, and root never has
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-features=BackForwardCache",  # pages that were left keep no connections
    "--no-first-run",
    "about:blank",
]


class PageLeft(AssertionError):
    """The page that was asked was left meanwhile for another."""


class Browser:
    """The browser with one page; it ends with this process, whatever becomes of that."""

    def __init__(self, folder: Path) -> None:
        """Start it, with its profile in a folder."""
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        # The protocol is spoken on the descriptors 3 and 4.
        start = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            [
                *(require("bash"), "-c", start, require("chromium")),
                *(f"--user-data-dir={folder}", *OPTIONS),
            ],
            pass_fds=[theirs_in, theirs_out],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(folder / "log").open("wb"),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._read = b""
        self._ids = itertools.count(1)
        self._session: str | None = None
        # Of the page that `go` opened: what it and the browser complain of, and the URLs it asks.
        self.complaints: list[str] = []
        self.requests: list[str] = []
        # What is to be found at some URLs, whatever their server says.
        self._pages: dict[str, bytes] = {}
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def close(self) -> None:
        """End it."""
        os.close(self._to)
        self._process.wait(PATIENCE)
        os.close(self._from)

    def open(self, url: str, page: bytes | None = None) -> None:
        """Open a page, of this text if there is one, at a URL, to whose origin it then belongs."""
        if page is not None:
            self._pages[url.partition("?")[0]] = page
            patterns = [
                {"urlPattern": f"{each}*", "resourceType": "Document"} for each in self._pages
            ]
            self._call("Fetch.enable", patterns=patterns)
        self._call("Page.navigate", url=url)

    def go(self, url: str) -> None:
        """Open a page as its server has it, and note all that it does wrong and asks for."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self.complaints.clear()
        self.requests.clear()
        # Another page of the same origin would be only another place in this one.
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=url)
        self.wait_for("location.href !== 'about:blank' && document.readyState === 'complete'")

    def look(self, width: int, height: int, theme: str = "light") -> None:
        """Give the page a window of this size, and a theme that its user prefers."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self._call("Emulation.setEmulatedMedia", features=features)

    def picture(self) -> bytes:
        """The page as it looks, a PNG."""
        taken = self._call("Page.captureScreenshot", format="png")
        return base64.b64decode(taken["data"])

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self._call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press a key, such as Enter, Tab or ArrowRight."""
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}
        event = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self._call("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        self._call("Input.dispatchKeyEvent", type="keyUp", **event)

    def reload(self) -> None:
        """Load the page again, as a person would."""
        self.run("window.isOld = true")
        self._call("Page.reload")
        self.wait_for("!window.isOld")

    def run(self, script: str) -> Any:
        """What an expression of JavaScript gives in the page; a promise is waited for."""
        done = self._call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """Wait until an expression is true in the page, or in the one that it goes on to."""

        def found() -> Any:
            try:
                return self.run(script)
            except PageLeft:
                return None

        return eventually(found)

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        asked = self._send(method, params)
        while True:
            told = self._next()
            if told.get("id") == asked:
                if "navigated" in told.get("error", {}).get("message", ""):
                    raise PageLeft(told)
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result
            if told.get("method") == "Fetch.requestPaused":
                self._fulfil(told["params"])
            self._note(told)

    def _note(self, told: dict[str, Any]) -> None:
        match told:
            case {"method": "Network.requestWillBeSent", "params": {"request": {"url": url}}}:
                self.requests.append(url)
            case {"method": "Runtime.exceptionThrown", "params": {"exceptionDetails": details}}:
                self.complaints.append(f"exception: {details}")
            case {"method": "Runtime.consoleAPICalled", "params": params}:
                self.complaints.append(f"console: {params['args']}")
            case {"method": "Log.entryAdded", "params": {"entry": entry}}:
                self.complaints.append(f"{entry['level']}: {entry['text']} {entry.get('url')}")

    def _fulfil(self, paused: dict[str, Any]) -> None:
        page = self._pages[paused["request"]["url"].partition("?")[0]]
        answer = {
            "requestId": paused["requestId"],
            "responseCode": 200,
            "responseHeaders": [{"name": "Content-Type", "value": "text/html; charset=utf-8"}],
            "body": base64.b64encode(page).decode(),
        }
        self._send("Fetch.fulfillRequest", answer)

    def _send(self, method: str, params: dict[str, Any]) -> int:
        message: dict[str, Any] = {"id": next(self._ids), "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        left = json.dumps(message).encode() + b"\0"
        while left:
            left = left[os.write(self._to, left) :]
        identity: int = message["id"]
        return identity

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            piece = os.read(self._from, 1 << 16)
            assert piece, "the browser is gone"
            self._read += piece
        message, _, self._read = self._read.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        return told
