"""The WSGI application: `gunicorn -c config/gunicorn.py wsgi:app`."""

from runwait.wsgi import app

__all__ = ["app"]
