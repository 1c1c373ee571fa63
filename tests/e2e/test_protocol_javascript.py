"""LangGraph's JavaScript SDK by its event protocol: `threads.stream`, and what `useStream` does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.chats import said
from tests.e2e.programs import javascript_sdk, require
from tests.servers import PATIENCE, Server


def converse(server: Server, assistant_id: str, *turns: dict[str, Any]) -> list[dict[str, Any]]:
    """What comes of each turn of a conversation on one thread."""
    return printed("threads.mjs", server.url, assistant_id, json.dumps(turns))


def printed(*arguments: str) -> list[dict[str, Any]]:
    """What a program prints."""
    command = [require("node"), *arguments]
    done = subprocess.run(
        command, cwd=javascript_sdk(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def contents(turn: dict[str, Any]) -> list[str]:
    """The text of each message of a turn's output, which may be an object of the SDK's."""
    texts = []
    for message in turn["output"]["messages"]:
        content = message.get("kwargs", message)["content"]
        if not isinstance(content, str):
            content = "".join(block.get("text", "") for block in content)
        texts.append(content)
    return texts


class TestThreadStream:
    def test_streams_messages_and_has_the_output(self, zoo: Server) -> None:
        (turn,) = converse(zoo, "chat", {"input": said("one two")})
        assert turn["messages"] == ["one two"]
        assert contents(turn) == ["one two", "one two"]

    def test_has_what_a_graphs_own_transformers_tell(self, zoo: Server) -> None:
        (turn,) = converse(zoo, "writes_counted", {"input": {"n": 3}})
        assert turn["counts"] == 3

    def test_answers_an_interrupt(self, zoo: Server) -> None:
        asked = {"input": said("May I go?"), "response": "You may"}
        (turn,) = converse(zoo, "chat_inside", asked)
        assert [each["payload"] for each in turn["interrupts"]] == [{"question": "May I go?"}]
        assert turn["states"][-2:] == ["running", "completed"]
        assert contents(turn)[:2] == ["May I go?", "You may"]


class TestStreamController:
    def test_shows_what_a_page_shows_that_is_loaded_again(
        self, zoo: Server, tmp_path: Path
    ) -> None:
        seen = printed("controller.mjs", zoo.url, str(tmp_path))
        asked, answered = ["human", "one two"], ["ai", "one two"]
        may = [["human", "May I go?"], ["human", "You may"], ["ai", "You may"]]
        stay = ["human", "May I stay?"]
        assert [(each["seen"], each["messages"]) for each in seen] == [
            ("a token", [asked, ["ai", "one "]]),
            ("a token, by who came later", [asked, ["ai", "one "]]),
            ("the end", [asked, answered]),
            ("the end, by who came later", [asked, answered]),
            ("what a stop left", [asked, answered, ["human", "three four"]]),
            ("May I go?", [asked, answered, ["human", "May I go?"]]),
            ("the answer", [asked, answered, *may]),
            ("the answer, where it was not given", [asked, answered, *may]),
            ("May I stay?, of another client's run", [asked, answered, *may, stay]),
        ]
