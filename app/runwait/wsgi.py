"""The WSGI application that gunicorn's workers serve, made from the environment's settings."""

import sys

from runwait import create_app
from runwait.graphs.config import GraphLoadError
from runwait.graphs.loader import report
from runwait.settings import Settings

try:
    settings = Settings.from_env()
    settings.enter_project()
    app = create_app(settings)
except GraphLoadError as error:
    sys.exit(f"runwait: {report(error, whole=settings.log_level == 'DEBUG')}")
