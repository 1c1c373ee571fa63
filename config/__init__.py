"""How the service is set up: settings from the environment, and gunicorn."""
