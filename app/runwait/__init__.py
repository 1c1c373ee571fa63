"""Runwait: runs LangGraph graphs, and answers with their final output."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from runwait.auth.access import Access
    from runwait.graphs.config import LanggraphConfig
    from runwait.metrics import Metrics
    from runwait.options.http import HttpOptions
    from runwait.runs.service import Service
    from runwait.settings import Settings
    from runwait.tracing import Traces


@dataclass(frozen=True)
class Runwait:
    """What the app is made of; `app.extensions["runwait"]`."""

    settings: Settings
    service: Service
    http: HttpOptions
    metrics: Metrics
    traces: Traces
    access: Access | None = None

    @classmethod
    def of(cls, settings: Settings, config: LanggraphConfig) -> Runwait:
        """Load the graphs and put together what executes them.

        Raises:
            GraphLoadError: a graph that langgraph.json names cannot be loaded, or it says what
                cannot be done.
            ValueError: a setting does; the text names it.
        """
        from runwait.graphs.loader import load
        from runwait.metrics import Metrics
        from runwait.options import options_of
        from runwait.runs.service import Service
        from runwait.tracing import Traces

        graphs = load(config, settings.state_modules or ())
        made = options_of(settings, config)
        settings, access = made.settings, made.access
        metrics, traces = Metrics(graphs), Traces()
        service = Service(settings, graphs, made.store, made.webhooks, [traces, metrics], access)
        return cls(settings, service, made.http, metrics, traces, access)

    def start(self) -> None:
        """Open connections and start threads: once, in the process that serves, after a fork."""
        self.traces.start()
        self.service.start()
        # What the start made lives as long as the process: no collection has to go over it again.
        gc.collect()
        gc.freeze()
        # A run of a graph leaves thousands of objects; by default Python collects several times in
        # each run for that.
        gc.set_threshold(10_000)


def create_app(settings: Settings) -> Flask:
    """Wire the service up. Nothing is connected and no thread runs before `start`.

    Raises:
        GraphLoadError: a graph that langgraph.json names cannot be loaded.
    """
    # Imported here, so that a module of this package can be used without all the others.
    from runwait.api import (
        access_log,
        auth,
        blueprints,
        edge,
        errors,
        openapi,
        own_routes,
        rate_limit,
        request,
        traced,
        workbench,
    )
    from runwait.graphs.config import read

    config = read(settings.langgraph_config)
    made = Runwait.of(settings, config)
    settings, http, access = made.settings, made.http, made.access
    app = edge.Api(http)
    # A path is taken as it is: what differs by a slash is not there, rather than elsewhere.
    app.url_map.merge_slashes = False
    # OPTIONS is no method of the API: 405, like any other.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["runwait"] = made
    access_log.register(app, made.metrics.answered)
    traced.register(app, made.traces)
    edge.register(app, settings, http)
    auth.register(app, access)
    openapi.register(app, config, access)
    if settings.rate_limit:
        rate_limit.register(app, settings.rate_limit, made.service.counters())
    if (own := own_routes.own_app(config, http)) is not None:
        own_routes.register(app, own)
    for blueprint in blueprints(http.disabled):
        app.register_blueprint(blueprint)
    if settings.workbench:
        app.register_blueprint(workbench.blueprint)
    errors.register(app)
    request.register(app)
    return app
