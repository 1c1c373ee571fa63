"""Sends the same requests to Runwait and to the reference server, and compares the answers.

    python tests/compare/compare.py

It starts both servers itself, once for each project in `cases.PROJECTS`: the reference (`langgraph
dev`, from a virtual environment that it makes on first use) on a copy of the project, and Runwait
under gunicorn. It stops only what it started.

A case is the same on both sides, known to differ (`cases.py` says why, and what Runwait must answer
instead), or wrong. The exit status is 1 if a case differs unexpectedly (DIFFERENT), if an expected
difference has gone (VANISHED), if Runwait answers otherwise than a known difference promises
(BROKEN), or if docs/differences.md gives other reasons than the cases; 2 if a server did not start.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import httpx
import kept  # noqa: F401 (these add their cases)
import stored  # noqa: F401
import streams  # noqa: F401
import wide  # noqa: F401
from cases import ASSISTANTS, CASES, PROJECTS, UNKNOWN_ID, Case, Request
from langgraph.checkpoint.base import EXCLUDED_METADATA_KEYS
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient
from servers import ROOT, StartError, our_server, reference_server

ANSWER_SECONDS = 30
# The reference polls its queue, so a run takes it one to two seconds however short it is.
AT_A_TIME = 8

HEADERS = (
    "allow",
    "content-location",
    "content-type",
    "location",
    "x-pagination-next",
    "x-pagination-total",
)

NOTHING = "nothing"
EVENTS = "text/event-stream"


class Answer(NamedTuple):
    """What came back, cleared of what differs from run to run."""

    status: int
    document: str
    headers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n             ".join([f"{self.status} {self.document}", *self.headers])


@dataclass(frozen=True)
class Comparison:
    """What both servers answered to a case."""

    case: Case
    ours: list[Answer]
    reference: list[Answer]

    @property
    def outcome(self) -> str:
        """One of: same, known, DIFFERENT, VANISHED, BROKEN."""
        known = self.case.difference
        if self.ours == self.reference:
            return "VANISHED" if known else "same"
        if known is None:
            return "DIFFERENT"
        # Only the last answers may differ, and what Runwait refuses leads to no more of them.
        *before, last = self.ours
        as_promised = last.status == known.status and _fits(
            known.document, json.loads(last.document)
        )
        return "known" if as_promised and before == self.reference[: len(before)] else "BROKEN"


def _fits(promised: Any, document: Any) -> bool:
    if promised is ...:
        return True
    if isinstance(promised, Mapping) and isinstance(document, dict):
        return promised.keys() == document.keys() and all(
            _fits(value, document[name]) for name, value in promised.items()
        )
    if isinstance(promised, list) and isinstance(document, list):
        return len(promised) == len(document) and all(map(_fits, promised, document))
    return spelled(promised) == spelled(document)


# Clearing away what differs from run to run

UUID_TEXT = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
NAME = re.compile(r"<[a-z_]+>")
INTERRUPT_ID = re.compile(r'"[0-9a-f]{32}"')
TIME_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)")
# What the reference tells of itself and its user in the configurable and the metadata of each run.
FACTS = {
    "langgraph_api_url",
    "langgraph_api_version",
    "langgraph_auth_permissions",
    "langgraph_auth_user",
    "langgraph_auth_user_id",
    "langgraph_host",
    "langgraph_plan",
    "langgraph_version",
    "run_attempt",
    "user_id",
}


def spelled(document: Any) -> str:
    """One spelling a document: 5 and 5.0 stay different, the order of names does not count."""
    return json.dumps(document, sort_keys=True, ensure_ascii=False, default=lambda _: "...")


class Clearing:
    """Names the ids and times in answers that are made anew each time."""

    def __init__(self, steady: set[str], *, facts: bool) -> None:
        self.names = {uuid: uuid for uuid in steady}
        self._hook = None if facts else _without_facts

    def text(self, text: str) -> str:
        text = UUID_TEXT.sub(lambda match: self.names.get(match[0], "<uuid>"), text)
        return TIME_TEXT.sub(_cleared_time, INTERRUPT_ID.sub('"<id>"', text))

    def events(self, events: list[dict[str, Any]] | str) -> Any:
        """The events of a stream; how many ids they have, where that is compared."""
        if isinstance(events, str):
            return events
        ids = {each.pop("id") for each in events if "id" in each}
        if self._hook is None:
            return [*events, {"ids": len(ids)}]
        return [_without_more(each) for each in events if each["event"] != "end"]

    def document(self, document: Any) -> str:
        return self.text(spelled(json.loads(json.dumps(document), object_hook=self._hook)))


def _without_facts(members: dict[str, Any]) -> dict[str, Any]:
    if isinstance(metadata := members.get("metadata"), dict):
        metadata.pop("langgraph_request_id", None)
        if "parent_checkpoint" in members:
            for name in EXCLUDED_METADATA_KEYS:
                metadata.pop(name, None)
        if "state_updated_at" in members:
            metadata.pop("created_by", None)
    if "state_updated_at" in members:
        members = {"error": None, "interrupts": {}, "values": None, **members}
        if members.get("config") == {"configurable": {}}:
            members["config"] = {}
    return {name: value for name, value in members.items() if name not in FACTS}


def _without_more(event: dict[str, Any]) -> dict[str, Any]:
    """An event without what Runwait tells more, or less, in each of its streams."""
    data = _plain(event["data"])
    if event["event"] == "metadata":
        data = {name: data[name] for name in data.keys() - {"thread_id", "how"}}
    return {**event, "data": data}


def _plain(value: Any) -> Any:
    """What an event holds, where checkpoints are named and nothing else is told of the server."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    names = value.keys()
    if "checkpoint_ns" in value and "langgraph_node" not in value:
        names &= {"thread_id", "checkpoint_ns", "checkpoint_id"}
    return {name: _plain(value[name]) for name in names - {"langgraph_request_id", "lc_versions"}}


def _cleared_time(match: re.Match[str]) -> str:
    about_now = abs(datetime.fromisoformat(match[0]) - datetime.now(UTC)) < timedelta(days=1)
    return "<time>" if about_now else match[0]


# Asking


def ask(url: str, cases: list[Case], steady: set[str]) -> list[list[Answer]]:
    """A server's answers to each case. Ids in `steady` are the same on every server."""
    # The reference resets connections that stand idle beside one of its 500s.
    limits = httpx.Limits(max_keepalive_connections=0)
    with (
        httpx.Client(base_url=url, timeout=ANSWER_SECONDS, limits=limits) as http,
        get_sync_client(url=url) as sdk,
        ThreadPoolExecutor(AT_A_TIME) as pool,
    ):

        def answers(case: Case) -> list[Answer]:
            clearing = Clearing(steady, facts=case.facts)
            try:
                if case.call:
                    return [_called(sdk, case.call, clearing)]
                return _answers(http, case, clearing)
            except httpx.TransportError as error:
                return [Answer(0, json.dumps(f"no answer: {type(error).__name__}"))]

        return list(pool.map(answers, cases))


def _answers(http: httpx.Client, case: Case, clearing: Clearing) -> list[Answer]:
    """The answers to a case's requests. It ends where a request needs an id that never came."""
    responses: list[httpx.Response] = []
    told: list[Answer] = []
    later: list[tuple[int, Request, httpx.Response]] = []
    ids: dict[str, str] = {}

    def learn(name: str, found: Any) -> None:
        # Ids in `steady` have no other name.
        if name not in ids and isinstance(found, str) and clearing.names.get(found) != found:
            ids[name] = found
            clearing.names.setdefault(found, name)

    def filled(text: str) -> str:
        return NAME.sub(lambda match: ids.get(match[0], match[0]), text)

    with ExitStack() as opened:
        for request in case.requests:
            path, body = filled(request.path), request.body
            more = {name: v if isinstance(v, bytes) else filled(v) for name, v in request.headers}
            if not isinstance(body, bytes | None):
                text = filled(json.dumps(body))
                body = text.encode()
                if NAME.search(text):
                    break
            if NAME.search(path):
                break
            headers = {"Content-Type": "application/json", **more}
            response = opened.enter_context(
                http.stream(request.method, path, content=body, headers=headers)
            )
            responses.append(response)
            place = response.headers.get("content-location", "")
            names = ("<thread_id>", "<run_id>") if "/threads/" in place else ("<run_id>",)
            for name, uuid in zip(names, UUID_TEXT.findall(place)):  # noqa: B905
                learn(name, uuid)
            if request.later:
                later.append((len(told), request, response))
                if "/runs/" in place:
                    _wait_for_start(http, place, on_kept=True)
            elif not case.meanwhile:
                document = _read(response, request.until)
                if response.status_code == 200 and isinstance(document, dict):
                    for name in ("thread_id", "assistant_id"):
                        learn(f"<{name}>", document.get(name))
                for name, where in request.told.items():
                    learn(name, _at(document, where))
                if not request.aside:
                    told.append(_answer(response, document, clearing))
            elif len(responses) == 1:
                _wait_for_start(http, place, on_kept="on_completion" in request.body)
        if case.meanwhile:
            answers = [_answer(each, _read(each), clearing) for each in reversed(responses)][::-1]
            told = [
                answer
                for answer, request in zip(answers, case.requests, strict=False)
                if not request.aside
            ]
        for number, request, response in reversed(later):
            document = _read(response, request.until)
            if not request.aside:
                told.insert(number, _answer(response, document, clearing))
    return told


def _at(document: Any, where: str) -> Any:
    """What is there in a document, None if nothing is."""
    for name in where.split("."):
        try:
            document = document[int(name) if isinstance(document, list) else name]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def _wait_for_start(http: httpx.Client, run: str, *, on_kept: bool) -> None:
    """Wait until the run works; on a kept thread, until its first step can be seen there."""
    state = run.partition("/runs/")[0] + "/state"
    for _ in range(10 * ANSWER_SECONDS):
        if http.get(run).json().get("status") != "pending" and (
            not on_kept or http.get(state).json().get("next")
        ):
            return
        time.sleep(0.1)


def _read(response: httpx.Response, until: str = "") -> Any:
    # The newlines that keep a connection open also keep a read timeout from striking.
    deadline = time.monotonic() + ANSWER_SECONDS
    body = b""
    for chunk in response.iter_bytes():
        body += chunk
        if until and b"\r\n\r\n" in body.partition(until.encode())[2]:
            response.close()
            break
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout(f"no document within {ANSWER_SECONDS} seconds")
    if response.headers.get("content-type", "").startswith(EVENTS):
        return _events(body.decode(), until)
    if not body:
        return NOTHING
    try:
        return json.loads(body)
    except ValueError:
        return f"not JSON: {body[:80]!r}"


def _events(text: str, until: str) -> list[dict[str, Any]] | str:
    """The events of a stream up to one that has a text in it, read as the SDKs do, by lines."""
    if re.search(r"(?<!\r)\n|\r(?!\n)", text):
        return "not CRLF"
    events: list[dict[str, Any]] = []
    event: dict[str, Any] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(": ")
        if name in ("event", "data", "id") and colon:
            event[name] = value
        elif line and name:
            return f"not an event's line: {line[:80]!r}"
        elif not line and event:
            events.append({**event, "data": json.loads(event["data"])})
            if until and until in event["data"]:
                return events
            event = {}
    return [*events, event] if event else events


def _answer(response: httpx.Response, document: Any, clearing: Clearing) -> Answer:
    if response.headers.get("content-type", "").startswith(EVENTS):
        document = clearing.events(document)
    if response.status_code >= 400 and isinstance(document, dict):
        # Each words its own refusals. That there is one text under that one name is the contract.
        document = {k: "<text>" if isinstance(v, str) and v else v for k, v in document.items()}
    elif isinstance(document, dict) and "error" in document:
        # So does each its errors of JSON-RPC, and those of commands.
        inner = document["error"]
        if isinstance(inner, dict) and "message" in inner:
            document = {**document, "error": {**inner, "message": "<text>"}}
        elif "message" in document:
            document = {**document, "message": "<text>"}
    headers = (
        f"{name}: {', '.join(sorted(response.headers[name].split(', ')))}"
        for name in HEADERS
        if name in response.headers and (document != NOTHING or name != "content-type")
    )
    return Answer(
        response.status_code, clearing.document(document), tuple(map(clearing.text, headers))
    )


def _called(
    sdk: SyncLangGraphClient, call: Callable[[SyncLangGraphClient], Any], clearing: Clearing
) -> Answer:
    try:
        return Answer(200, clearing.document(call(sdk)))
    except httpx.HTTPStatusError as error:
        return Answer(
            error.response.status_code, clearing.document(f"raised {type(error).__name__}")
        )
    except httpx.TransportError:
        raise
    except Exception as error:
        return Answer(200, clearing.document(f"raised {error!r}"))


# Telling


def tell(comparison: Comparison) -> None:
    case = comparison.case
    print(f"\n{comparison.outcome}: {case.name}")
    if case.difference:
        print(f"  {case.difference.reason}")
    for side, answers in (("ours", comparison.ours), ("reference", comparison.reference)):
        for answer in answers:
            print(f"  {side:9}  {answer}")
    if comparison.outcome == "BROKEN" and case.difference:
        print(f"  {'promised':9}  {case.difference.status} {spelled(case.difference.document)}")


def misdocumented(page: Path) -> list[str]:
    """Where the page's tables of differences and the cases do not give the same reasons."""
    documented = set(re.findall(r"^\| \*\*(.+?)\*\* \|", page.read_text(), re.MULTILINE))
    used = {case.difference.reason for case in CASES if case.difference}
    missing = [f"not in {page.name}: {reason}" for reason in sorted(used - documented)]
    return missing + [f"in no case: {reason}" for reason in sorted(documented - used)]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="only cases whose name has a match of this")
    parser.add_argument("--all", action="store_true", help="show the known differences too")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-reference")
    options = parser.parse_args()
    # Python refuses to read integers beyond 4,300 digits, which an answer may well hold.
    sys.set_int_max_str_digits(0)

    comparisons: list[Comparison] = []
    for project, folder in PROJECTS.items():
        cases = [c for c in CASES if c.project == project and re.search(options.only, c.name)]
        if not cases:
            continue
        graphs = json.loads((ROOT / folder / "langgraph.json").read_text())["graphs"]
        steady = {UNKNOWN_ID, *(str(uuid5(UUID(ASSISTANTS), graph)) for graph in graphs)}
        try:
            with reference_server(options.venv, ROOT / folder) as url:
                reference = ask(url, cases, steady)
            with our_server(ROOT / folder) as url:
                ours = ask(url, cases, steady)
        except StartError as error:
            print(f"{project}: a server did not start\n{error}", file=sys.stderr)
            return 2
        comparisons += map(Comparison, cases, ours, reference)

    shown = {"DIFFERENT", "VANISHED", "BROKEN", *(["known"] if options.all else [])}
    for comparison in comparisons:
        if comparison.outcome in shown:
            tell(comparison)
    missing = misdocumented(ROOT / "docs" / "differences.md")
    print("", *missing, sep="\n")
    counts = Counter(comparison.outcome for comparison in comparisons)
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    return 1 if missing or counts.keys() - {"same", "known"} else 0


if __name__ == "__main__":
    sys.exit(main())
