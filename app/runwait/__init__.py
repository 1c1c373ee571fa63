"""Runwait: runs LangGraph graphs, and answers with their final output."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from runwait.auth.access import Access
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
    from runwait.graphs.loader import load
    from runwait.metrics import Metrics
    from runwait.options import options_of
    from runwait.runs.service import Service
    from runwait.tracing import Traces

    config = read(settings.langgraph_config)
    graphs = load(config, settings.state_modules or ())
    options = options_of(settings, config)
    settings, http, access = options.settings, options.http, options.access
    metrics, traces = Metrics(graphs), Traces()
    service = Service(settings, graphs, options.store, options.webhooks, [traces, metrics], access)
    app = edge.Api(http)
    # A path is taken as it is: what differs by a slash is not there, rather than elsewhere.
    app.url_map.merge_slashes = False
    # OPTIONS is no method of the API: 405, like any other.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["runwait"] = Runwait(settings, service, http, metrics, traces, access)
    access_log.register(app, metrics.answered)
    traced.register(app, traces)
    edge.register(app, settings, http)
    auth.register(app, access)
    openapi.register(app, config, access)
    if settings.rate_limit:
        rate_limit.register(app, settings.rate_limit, service.counters())
    if (own := own_routes.own_app(config, http)) is not None:
        own_routes.register(app, own)
    for blueprint in blueprints(http.disabled):
        app.register_blueprint(blueprint)
    if settings.workbench:
        app.register_blueprint(workbench.blueprint)
    errors.register(app)
    request.register(app)
    return app
