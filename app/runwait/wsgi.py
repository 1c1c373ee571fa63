"""The WSGI application that gunicorn's workers serve, made from the environment's settings."""

import sys

from runwait import create_app
from runwait.graphs.config import GraphLoadError
from runwait.settings import Settings

try:
    settings = Settings.from_env()
    settings.enter_project()
    app = create_app(settings)
except GraphLoadError as error:
    print(f"runwait: {error}", file=sys.stderr, flush=True)
    # gunicorn's code for a worker that cannot start: its master stops, and does not try again.
    sys.exit(3)
