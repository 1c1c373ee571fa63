"""Traces: one for a request, its run in any process, what its graph traces, and its webhook."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.calls import fresh_get, output, post
from tests.ports import free_port
from tests.receiver import Receiver
from tests.servers import PROJECTS, RedisServer, Server, ServerFactory, eventually

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=x"}
GRAPHS = """
import time
from pathlib import Path
from typing import TypedDict

from langgraph.graph import START, StateGraph
from opentelemetry import trace


class State(TypedDict, total=False):
    gate: str


def plain(state: State) -> State:
    with trace.get_tracer("mine").start_as_current_span("inside plain"):
        while "gate" in state and not Path(state["gate"]).exists():
            time.sleep(0.01)
    return {}


async def awaits(state: State) -> State:
    with trace.get_tracer("mine").start_as_current_span("inside awaits"):
        return {}


def fails(state: State) -> State:
    raise ValueError("no")


def made(node):
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile()


graphs = [made(each) for each in (plain, awaits, fails)]
plain_graph, awaits_graph, fails_graph = graphs
"""
NAMES = ("plain", "awaits", "fails")


class Sent(NamedTuple):
    """A span as the collector has it."""

    name: str
    trace: str
    id: str
    parent: str
    service: str
    attributes: dict[str, Any]
    is_error: bool
    links: list[str]


class Collector(Receiver):
    """Takes what an OTLP exporter sends."""

    def spans(self, **wanted: Any) -> list[Sent]:
        """Those with these attributes."""
        found = []
        for each in list(self.received):
            for sent in ExportTraceServiceRequest.FromString(each.content).resource_spans:
                resource = _values(sent.resource.attributes)
                for scope in sent.scope_spans:
                    for span in scope.spans:
                        ids = (span.trace_id, span.span_id, span.parent_span_id)
                        found.append(
                            Sent(
                                span.name,
                                *(id.hex() for id in ids),
                                resource["service.name"],
                                _values(span.attributes),
                                span.status.code == 2,
                                [link.trace_id.hex() for link in span.links],
                            )
                        )
        return [
            each
            for each in found
            if all(each.attributes.get(name) == value for name, value in wanted.items())
        ]

    def one(self, name: str, trace: str = TRACE, **wanted: Any) -> Sent:
        """The only one of this name, as soon as it is there."""

        def find() -> list[Sent]:
            return [
                each for each in self.spans(**wanted) if (each.name, each.trace) == (name, trace)
            ]

        (found,) = eventually(find)
        return found


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def server(
    shared: ServerFactory, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Server:
    folder = tmp_path_factory.mktemp("project")
    (folder / "mine.py").write_text(GRAPHS)
    graphs = {name: f"./mine.py:{name}_graph" for name in NAMES}
    (folder / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    return shared(
        LANGGRAPH_CONFIG=folder / "langgraph.json",
        RUN_LEASE_SECONDS=1,
        WEBHOOK_ALLOWED_HOSTS="127.0.0.1",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY=50,
    )


@pytest.mark.parametrize("graph", ["plain", "awaits"])
def test_a_request_its_run_its_graph_and_its_webhook_are_in_the_callers_trace(
    server: Server, collector: Collector, receiver: Receiver, graph: str
) -> None:
    answer = post(server, graph, headers=HEADERS, webhook=f"{receiver.url}/told")
    run_id = answer.headers["Content-Location"].rpartition("/")[2]
    run = collector.one(f"run {graph}", **{"runwait.run_id": run_id})
    asked = collector.one("POST /runs/wait", **{"runwait.run_id": run_id})
    (inside,) = eventually(lambda: [s for s in collector.spans() if s.name == f"inside {graph}"])
    assert asked.parent == CALLER
    assert asked.attributes["http.response.status_code"] == 200
    assert asked.attributes["http.route"] == "/runs/wait"
    assert (run.trace, run.parent) == (TRACE, asked.id)
    assert (run.attributes["runwait.status"], run.attributes["runwait.attempt"]) == ("success", 1)
    assert (inside.trace, inside.parent) == (TRACE, run.id)
    assert {each.service for each in (asked, run, inside)} == {"runwait"}
    (told,) = eventually(lambda: receiver.received)
    assert told.headers["traceparent"] == f"00-{TRACE}-{run.id}-01"
    assert told.headers["tracestate"] == "vendor=x"
    lines = [json.loads(each) for each in server.log.read_text().splitlines() if run_id in each]
    assert {each["message"] for each in lines} >= {"request", "run ended"}
    about = [each for each in lines if each["message"] in ("request", "run ended")]
    assert {each.get("trace_id") for each in about} == {TRACE}


def test_a_run_whose_processes_are_killed_stays_in_its_trace(
    server: Server, collector: Collector, receiver: Receiver, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    body = {"assistant_id": "plain", "input": {"gate": str(gate)}, "webhook": f"{receiver.url}/x"}
    trace = "a" * 32
    headers = {"traceparent": f"00-{trace}-{CALLER}-01"}
    run = server.http.post("/runs", json=body, headers=headers).json()
    path = f"/threads/{run['thread_id']}/runs/{run['run_id']}"
    eventually(lambda: fresh_get(server, path).json()["status"] == "running")
    asked = collector.one("POST /runs", trace)
    for worker in server.workers():
        os.kill(worker, signal.SIGKILL)
    eventually(lambda: run["run_id"] in server.log.read_text().partition("run taken")[2])
    gate.touch()
    again = collector.one("run plain", trace)
    assert (again.attributes["runwait.attempt"], again.parent) == (2, asked.id)
    (told,) = eventually(lambda: receiver.received)
    assert told.headers["traceparent"] == f"00-{trace}-{again.id}-01"


def test_the_run_of_a_tool_is_in_the_trace_that_its_call_names(
    server: Server, collector: Collector
) -> None:
    trace = "c" * 32
    meta = {"traceparent": f"00-{trace}-{CALLER}-01", "tracestate": "vendor=x"}
    params = {"name": "plain", "arguments": {}, "_meta": meta}
    called = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    assert server.http.post("/mcp", json=called).json()["result"]["isError"] is False
    run = collector.one("run plain", trace)
    assert run.parent == CALLER
    (asked,) = eventually(
        lambda: collector.spans(
            **{"http.route": "/mcp", "runwait.run_id": run.attributes["runwait.run_id"]}
        )
    )
    assert asked.trace != trace
    assert asked.links == [trace]


def test_a_run_that_fails_is_a_span_with_its_error(server: Server, collector: Collector) -> None:
    trace = "b" * 32
    post(server, "fails", headers={"traceparent": f"00-{trace}-{CALLER}-01"})
    failed = collector.one("run fails", trace)
    assert failed.is_error
    assert failed.attributes["error.type"] == "ValueError"


def test_a_request_without_a_trace_begins_one(server: Server, collector: Collector) -> None:
    answer = post(server, "plain", headers={"traceparent": "00-nonsense"})
    run_id = answer.headers["Content-Location"].rpartition("/")[2]
    asked, run = eventually(
        lambda: found if len(found := collector.spans(**{"runwait.run_id": run_id})) == 2 else None
    )
    assert asked.trace == run.trace
    assert "" in (asked.parent, run.parent)


def test_what_was_not_sent_is_sent_at_the_stop(
    serve: ServerFactory, valkey: RedisServer, collector: Collector
) -> None:
    server = serve(
        REDIS_URL=valkey.url,
        LANGGRAPH_CONFIG=PROJECTS / "zoo" / "langgraph.json",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY=3_600_000,
        OTEL_SERVICE_NAME="mine",
        WEB_CONCURRENCY=1,
    )
    assert output(server, "echo", input={"value": 1}) == {"value": 1}
    assert server.stop() == 0
    names = {each.name for each in collector.spans() if each.service == "mine"}
    assert names == {"POST /runs/wait", "run echo"}


def test_a_collector_that_is_away_holds_up_nothing(
    serve: ServerFactory, valkey: RedisServer
) -> None:
    server = serve(
        REDIS_URL=valkey.url,
        LANGGRAPH_CONFIG=PROJECTS / "zoo" / "langgraph.json",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}",
        WEB_CONCURRENCY=1,
    )
    assert output(server, "echo", input={"value": 1}) == {"value": 1}
    assert server.stop() == 0


def test_without_opentelemetry_the_callers_trace_reaches_the_webhook(
    serve: ServerFactory, valkey: RedisServer, receiver: Receiver
) -> None:
    server = serve(
        REDIS_URL=valkey.url,
        LANGGRAPH_CONFIG=PROJECTS / "zoo" / "langgraph.json",
        WEBHOOK_ALLOWED_HOSTS="127.0.0.1",
        OTEL_TRACES_EXPORTER="of-nobody",
        WEB_CONCURRENCY=1,
    )
    assert server.log.read_text().count("no traces are sent") == 1
    body = {"assistant_id": "echo", "input": {}, "webhook": receiver.url}
    server.http.post("/runs", json=body, headers=HEADERS)
    (told,) = eventually(lambda: receiver.received)
    assert {name: told.headers[name] for name in HEADERS} == HEADERS
