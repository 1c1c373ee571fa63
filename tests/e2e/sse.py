"""Reads streams of server-sent events, as the HTML standard says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.servers import PATIENCE, Server


@dataclass(frozen=True)
class Sent:
    """An event; `heartbeats` came before it."""

    name: str
    data: Any
    id: str | None
    heartbeats: int = field(default=0, compare=False)


class Reader:
    """Makes events of lines."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}
        self._heartbeats = 0

    def feed(self, line: str) -> Sent | None:
        """The event that a line ends, if it does."""
        if line.startswith(":"):
            self._heartbeats += 1
        elif line:
            name, _, value = line.partition(": ")
            self._fields[name] = value
        elif self._fields:
            fields, self._fields = self._fields, {}
            heartbeats, self._heartbeats = self._heartbeats, 0
            data = json.loads(fields["data"])
            return Sent(fields["event"], data, fields.get("id"), heartbeats)
        return None


class Events:
    """A stream, read as it comes, on a connection of its own."""

    def __init__(
        self, server: Server, method: str, path: str, base_url: str = "", **options: Any
    ) -> None:
        self._client = httpx.Client(base_url=base_url or server.url, timeout=PATIENCE)
        request = self._client.build_request(method, path, **options)
        self.response = self._client.send(request, stream=True)
        self._lines = self.response.iter_lines()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *raised: object) -> None:
        self.response.close()
        self._client.close()

    @property
    def path(self) -> str:
        """The run's path."""
        path: str = self.response.headers["Content-Location"]
        return path

    def __iter__(self) -> Iterator[Sent]:
        assert self.response.status_code == 200, self.response.read()
        reader = Reader()
        for line in self._lines:
            if (event := reader.feed(line)) is not None:
                yield event

    def until(self, name: str) -> list[Sent]:
        """What comes up to the first event of a name."""
        came = []
        for event in self:
            came.append(event)
            if event.name == name:
                return came
        raise AssertionError(f"no {name} among {came}")


def stream(server: Server, assistant_id: str, thread_id: str = "", **body: Any) -> Events:
    """A run that is streamed."""
    headers = body.pop("headers", None)
    path = f"/threads/{thread_id}/runs/stream" if thread_id else "/runs/stream"
    asked = {"assistant_id": assistant_id, "input": {}, **body}
    return Events(server, "POST", path, json=asked, headers=headers)


def join(server: Server, path: str, after: str | None = None, base_url: str = "") -> Events:
    """A run's stream, from after an event or from now on."""
    headers = {} if after is None else {"Last-Event-ID": after}
    return Events(server, "GET", f"{path}/stream", base_url, headers=headers)
