"""gunicorn's settings for the bare app: stock gthread, 32 threads, and otherwise its defaults."""

import os

bind = f"127.0.0.1:{os.environ['PORT']}"
workers = int(os.environ["WEB_CONCURRENCY"])
worker_class = "gthread"
threads = 32
wsgi_app = "benchmarks.bare_app:app"
