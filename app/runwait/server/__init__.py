"""What serves the application: gunicorn and its worker, and the embedded Valkey."""
