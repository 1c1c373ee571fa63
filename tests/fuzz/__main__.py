"""Fuzz a server of two processes: `python -m tests.fuzz [options of st run]`, see `make fuzz`."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz import fuzz, server
from tests.servers import RedisServer

if __name__ == "__main__":
    options = sys.argv[1:] or ["--max-examples", "100"]
    if "--seed" not in options:
        options += ["--seed", str(random.randrange(2**32))]
    with tempfile.TemporaryDirectory() as folder:
        valkey = RedisServer(Path(folder))
        valkey.start()
        served = server(Path(folder), valkey.url)
        try:
            served.start()
            done = fuzz(served.url, Path(folder), *options)
        finally:
            served.kill()
            valkey.stop()
    print(done.stdout)
    sys.exit(done.returncode)
