"""The service's gunicorn settings, for the bare app: plain gthread, no embedded server."""

from runwait.server.gunicorn import (  # noqa: F401  # gunicorn reads them from here
    backlog,
    bind,
    control_socket_disable,
    keepalive,
    threads,
    timeout,
    worker_connections,
    workers,
)

worker_class = "gthread"
wsgi_app = "benchmarks.bare:app"
