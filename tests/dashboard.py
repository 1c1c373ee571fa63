"""docs/grafana.json on a real Prometheus: `make dashboard`.

Runwait is served, runs are made, Prometheus asks it every second; then each query of the dashboard
has to be answered with a number. `promtool` judges the metrics' names and texts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.programs import require
from tests.ports import free_port
from tests.receiver import Receiver
from tests.servers import PROJECTS, ROOT, RedisServer, Server, eventually

# What Grafana puts in.
GIVEN = {"$__rate_interval": "30s", "$job": ".*", "$graph": ".*"}
# No cron is made.
MAY_BE_EMPTY = ("How late crons were, 99%",)


def queries() -> list[tuple[str, str]]:
    """Each panel's title, and what it asks for, with all variables put in."""
    dashboard = json.loads((ROOT / "docs" / "grafana.json").read_text())
    found = [(panel["title"], t["expr"]) for panel in dashboard["panels"] for t in panel["targets"]]
    for variable, text in GIVEN.items():
        found = [(title, query.replace(variable, text)) for title, query in found]
    return found


def main() -> None:
    """Fails with the first query that has no answer."""
    prometheus, promtool = require("prometheus"), require("promtool")
    folder = Path(tempfile.mkdtemp())
    valkey, receiver = RedisServer(folder), Receiver()
    valkey.start()
    settings = {
        "REDIS_URL": valkey.url,
        "LANGGRAPH_CONFIG": str(PROJECTS / "zoo" / "langgraph.json"),
        "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
    }
    server = Server(folder, settings)
    server.start()
    port = free_port()
    scrape = {"job_name": "runwait", "scrape_interval": "1s"}
    scrape["static_configs"] = [{"targets": [f"127.0.0.1:{server.port}"]}]  # type: ignore[assignment]
    (folder / "prometheus.json").write_text(json.dumps({"scrape_configs": [scrape]}))
    process = subprocess.Popen(
        [
            prometheus,
            f"--config.file={folder / 'prometheus.json'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
    )

    def ask(query: str) -> Any:
        url = f"http://127.0.0.1:{port}/api/v1/query"
        try:
            response = httpx.get(url, params={"query": query})
        except httpx.TransportError:
            return None
        if response.status_code == 503:  # it has yet to read its files
            return None
        answer = response.json()
        assert answer["status"] == "success", (query, answer)
        return [each for each in answer["data"]["result"] if each["value"][1] != "NaN"]

    def answers(query: str) -> Any:
        for assistant in ("echo", "fails"):
            body = {"assistant_id": assistant, "input": {}, "webhook": receiver.url}
            server.http.post("/runs/wait", json=body)
        server.http.get("/nowhere")
        return ask(query)

    try:
        eventually(lambda: ask("runwait_redis_up"))
        for title, query in queries():
            if title in MAY_BE_EMPTY:
                assert ask(query) is not None
            else:
                print(title, query, eventually(lambda query=query: answers(query))[0]["value"][1])  # type: ignore[misc]
        text = server.http.get("/metrics").content
        subprocess.run([promtool, "check", "metrics"], input=text, check=True)
    finally:
        process.terminate()
        process.wait()
        server.kill()
        receiver.close()
        valkey.kill()


if __name__ == "__main__":
    sys.exit(main())
