"""A process that serves no requests and only executes runs: `runwait work`.

It takes what is ready, for those who want web and work apart: runs that were scheduled, that waited
for their thread, or whose process is gone. `CLAIM_RUNS=false` keeps web processes from doing so.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from logging.config import dictConfig

from runwait import Runwait, forks, logs, tracing
from runwait.graphs.config import GraphLoadError, read
from runwait.graphs.loader import report
from runwait.metrics import files
from runwait.options import variables
from runwait.server import embedded
from runwait.settings import Settings, SettingsError
from runwait.storage.connection import StorageUnsuitable

log = logging.getLogger("runwait.runs")

# What this process ends at, in its own time.
HEARD = (signal.SIGTERM, signal.SIGINT)


def work() -> None:
    """Work until told to stop; leaves with 0 then, and with 1 and one line if it cannot begin."""
    try:
        settings = Settings.from_env()
        dictConfig(logs.config_for(settings))
        logging.captureWarnings(True)
        if settings.embedded:
            embedded.start(settings.data_dir, logging.getLogger("runwait.storage").warning)
        settings.enter_project()
        config = read(settings.langgraph_config)
        for note in variables.notes(config):
            log.warning(note)
        if config.warning:
            log.warning(config.warning)
        # Where a folder is given, which the web processes have too.
        name = files.enter_apart()
        made = Runwait.of(settings, config)
        service, traces = made.service, made.traces
        if problem := tracing.problem():
            log.warning(problem)
        traces.start()
        service.start(claims=True)
    except GraphLoadError as error:
        sys.exit(f"runwait: {report(error, whole=settings.log_level == 'DEBUG')}")
    except (
        SettingsError,
        StorageUnsuitable,
        ValueError,
        embedded.EmbeddedServerError,
    ) as error:
        sys.exit(f"runwait: {error}")
    told = threading.Event()
    for each in HEARD:
        signal.signal(each, lambda *_: told.set())
    forks.leave_to_parent(HEARD)
    served = ", ".join(service.graphs)
    log.info("worker works", extra={"pid": os.getpid(), "graphs": served, "of": str(config.path)})
    # With a timeout, since a wait without one is not interrupted by signals everywhere.
    while not told.wait(60):
        pass
    service.stop(settings.shutdown_grace_seconds)
    traces.stop()
    files.leave(name)
    embedded.stop()
    forks.end_children()
    logging.shutdown()
    # Not sys.exit: it would wait for every thread, and a graph may hang on one.
    os._exit(0)
