"""When traces are sent, and what is taken for the trace of a request."""

from __future__ import annotations

import subprocess
import sys

import pytest

from runwait import tracing
from runwait.trace_context import id_of, passed_on
from runwait.tracing import Traces
from tests.servers import PATIENCE, ROOT

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of OpenTelemetry's variables is set."""
    for name in ("SDK_DISABLED", "TRACES_EXPORTER", "EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(f"OTEL_{name}", raising=False)
    for name in (ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("settings", "exporter"),
    [
        ({}, None),
        ({ENDPOINT: ""}, None),
        ({ENDPOINT: "http://collector:4318"}, "otlp_proto_http"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x/v1/traces"}, "otlp_proto_http"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp_proto_http"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "none", ENDPOINT: "http://x"}, None),
        ({"OTEL_SDK_DISABLED": "TRUE", ENDPOINT: "http://x"}, None),
        ({ENDPOINT: "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "otlp_proto_grpc"),
        ({ENDPOINT: "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "otlp with http/json"),
    ],
)
def test_opentelemetrys_own_variables_say_where_spans_go(settings, exporter, monkeypatch):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert tracing._exporter_name() == exporter
    known = (None, "otlp_proto_http", "console")
    assert (tracing.problem() is None) == (exporter in known)


def test_what_is_not_asked_for_is_not_there():
    traces = Traces()
    traces.start()
    assert traces.begin("GET", "/x", "/x", {}) == (None, {})
    traces.stop()


def test_nothing_of_opentelemetry_is_needed_and_its_lack_is_said_where_it_is_asked_for():
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from runwait import tracing; traces = tracing.Traces(); traces.start()\n"
        "print(traces.begin('GET', None, '/x', {}), tracing.problem())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={ENDPOINT: "http://collector:4318"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout == (
        "(None, {}) no traces are sent: OTEL_* asks for them, "
        "and its packages lack: runwait[otel]\n"
    )


@pytest.mark.parametrize(
    ("headers", "passed"),
    [
        ({}, {}),
        ({"traceparent": PARENT}, {"traceparent": PARENT}),
        (
            {"traceparent": f" {PARENT} ", "tracestate": "a=b"},
            {"traceparent": PARENT, "tracestate": "a=b"},
        ),
        ({"traceparent": PARENT, "tracestate": "a=b\x00"}, {"traceparent": PARENT}),
        ({"traceparent": PARENT, "tracestate": "a" * 513}, {"traceparent": PARENT}),
        ({"tracestate": "a=b"}, {}),
        ({"traceparent": PARENT.upper()}, {}),
        ({"traceparent": f"ff{PARENT[2:]}"}, {}),
        ({"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"}, {}),
        ({"traceparent": f"00-{TRACE}-{'0' * 16}-01"}, {}),
        ({"traceparent": f"{PARENT}\r\nX: y"}, {}),
    ],
)
def test_a_trace_is_passed_on_if_it_is_well_formed(headers, passed):
    assert passed_on(headers) == passed


def test_log_lines_have_the_traces_id():
    assert id_of({"traceparent": PARENT}) == {"trace_id": TRACE}
    assert id_of({}) == {}
