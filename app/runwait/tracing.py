"""Spans of requests and runs, by OpenTelemetry, which is imported only where it is to be used.

That is where its packages are installed and its own variables say where spans go. Each request and
each attempt at a run then has a span, in the trace of whoever called, or in a new one.
"""

from __future__ import annotations

import logging
import os
import threading
from functools import partial
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from runwait.runs.ending import Outcome
from runwait.runs.observer import Observer
from runwait.runs.run import Run
from runwait.trace_context import Headers, Trace, passed_on
from runwait.version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

log = logging.getLogger("runwait.traces")

_PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
# Asked all day long by machines.
_UNTRACED = ("/ok", "/ready", "/metrics")
# Longest wait for the last spans to be sent, when the process stops.
FLUSH_SECONDS = 2.0


# Which exporter


def _exporter_name() -> str | None:
    """The name of the exporter that OpenTelemetry's variables ask for, if they ask for one."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    named = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if named == "none" or not (named or any(map(os.environ.get, endpoints))):
        return None
    if named not in ("", "otlp"):
        return named
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    return _PROTOCOLS.get(protocol or "http/protobuf", f"otlp with {protocol}")


def _exporters(name: str) -> list[Any]:
    return list(entry_points(group="opentelemetry_traces_exporter", name=name))


def problem() -> str | None:
    """Why traces that OpenTelemetry's variables ask for cannot be sent, in one line, or None."""
    name = _exporter_name()
    if name is None:
        return None
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        return "no traces are sent: OTEL_* asks for them, and its packages lack: runwait[otel]"
    if not _exporters(name):
        return f"no traces are sent: no package here has the exporter that OTEL_* asks for, {name}"
    return None


# Spans


class Traces(Observer):
    """Makes spans of requests and of attempts at runs, if OpenTelemetry is set up."""

    def __init__(self) -> None:
        """Nothing is traced before `start`."""
        self._tracer: Tracer | None = None
        self._provider: Any = None

    def start(self) -> None:
        """Send spans from now on, from a thread of its own: once, after a fork."""
        name = _exporter_name()
        if name is None or problem() is not None:
            return
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = trace.get_tracer_provider()
        # A graph, or `opentelemetry-instrument`, may have set one up, which is then used.
        if not isinstance(provider, TracerProvider):
            resource = Resource.create()
            if str(resource.attributes["service.name"]).startswith("unknown_service"):
                resource = resource.merge(Resource({"service.name": "runwait"}))
            provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            exporter = _exporters(name)[0].load()
            provider.add_span_processor(BatchSpanProcessor(exporter()))
            trace.set_tracer_provider(provider)
        self._provider = provider
        self._tracer = provider.get_tracer("runwait", __version__)

    def stop(self, seconds: float = FLUSH_SECONDS) -> None:
        """Send what was not sent yet, for so long at most."""
        if self._provider is not None:
            # An exporter that gets no answer tries again for longer than there is time.
            flush = threading.Thread(target=self._provider.force_flush, daemon=True)
            flush.start()
            flush.join(seconds)

    # Requests

    def begin(
        self, method: str, rule: str | None, path: str, headers: Headers
    ) -> tuple[Span | None, dict[str, str]]:
        """A request begins.

        Args:
            method, path: the request's.
            rule: the pattern of its path, if there is one.
            headers: the request's.

        Returns:
            Its span, if it has one, which is given to `end`; and the trace context for its run.
        """
        if self._tracer is None or path in _UNTRACED:
            return None, passed_on(headers)
        from opentelemetry import propagate
        from opentelemetry.trace import SpanKind

        known = method if method in _METHODS else "_OTHER"
        route = {} if rule is None else {"http.route": rule.replace("<", "{").replace(">", "}")}
        span = self._tracer.start_span(
            f"{known if known != '_OTHER' else 'HTTP'} {route.get('http.route', '')}".strip(),
            propagate.extract(headers),
            SpanKind.SERVER,
            {"http.request.method": known, "url.path": path, **route},
        )
        return span, _inside(span)

    def end(self, span: Span, status: int, **ids: str) -> None:
        """A request was answered with this status; of a run whose ids these are."""
        from opentelemetry.trace import StatusCode

        span.set_attribute("http.response.status_code", status)
        for name, value in ids.items():
            span.set_attribute(f"runwait.{name}", value)
        if status >= 500:
            span.set_attribute("error.type", str(status))
            span.set_status(StatusCode.ERROR)
        span.end()

    # Runs

    def started(self, run: Run) -> None:
        """The attempt's span; what the graph's own code traces is below it."""
        if self._tracer is None:
            return
        from opentelemetry import context, propagate, trace

        record = run.record
        parent = propagate.extract(run.request.trace)
        span = run.span = self._tracer.start_span(
            f"run {record.graph_id}",
            parent,
            attributes={
                "runwait.run_id": record.run_id,
                "runwait.thread_id": record.thread_id,
                "runwait.graph": record.graph_id,
                "runwait.attempt": run.attempt,
            },
        )
        run.trace = _inside(span)
        run.enter = partial(context.attach, trace.set_span_in_context(span, parent))

    def finished(
        self, run: Run, outcome: Outcome, error: BaseException | None, *, stands: bool
    ) -> None:
        """With how it ended."""
        if run.span is not None:
            from opentelemetry.trace import StatusCode

            run.span.set_attribute("runwait.status", str(outcome.status))
            if error is not None:
                run.span.record_exception(error)
            if outcome.error is not None:
                run.span.set_attribute("error.type", outcome.error["error"])
                run.span.set_status(StatusCode.ERROR, outcome.error["message"])
            self._end(run, None if stands else "ended elsewhere")

    def left(self, run: Run, error: BaseException) -> None:
        """Another attempt follows."""
        self._end(run, "left")

    def handed_back(self, run: Run) -> None:
        """Another attempt follows."""
        self._end(run, "handed back")

    def _end(self, run: Run, why: str | None) -> None:
        if run.span is not None:
            if why is not None:
                run.span.set_attribute("runwait.left", why)
            run.span.end()


def link(span: Span, trace: Trace) -> None:
    """Have a span lead to another trace."""
    from opentelemetry import propagate
    from opentelemetry.trace import get_current_span

    span.add_link(get_current_span(propagate.extract(trace)).get_span_context())


def _inside(span: Span) -> dict[str, str]:
    """The trace context of what is below a span."""
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span))
    return carrier
