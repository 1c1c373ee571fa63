"""The WSGI application: `gunicorn -c config/gunicorn.py wsgi:app`."""

import sys

from app import create_app
from app.graphs.config import GraphLoadError
from config.settings import Settings

try:
    app = create_app(Settings.from_env())
except GraphLoadError as error:
    print(f"runwait: {error}", file=sys.stderr, flush=True)
    # gunicorn's code for a worker that cannot start: its master stops, and does not try again.
    sys.exit(3)
