"""gunicorn's settings, for `gunicorn -c config/gunicorn.py wsgi:app`."""

from runwait.server.gunicorn import *  # noqa: F403
