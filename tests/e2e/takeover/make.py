"""Make the record of 0.2 that test_takeover.py has the current version take over.

    git worktree add ../runwait-0.2 a2ed47c && make -C ../runwait-0.2 .venv/installed
    .venv/bin/python -m tests.e2e.takeover.make ../runwait-0.2

A server of that checkout serves the graphs in project/, is asked for runs of every kind, and is
killed with all of them in their places. Then every key of its Redis is written to v0.2.json, so
that any Redis can hold it again, with the ids that the test asks for. Times to live are left out:
a record is taken over within seconds of being written, this one years later.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import redis

from tests.servers import RedisServer, eventually, free_port

HERE = Path(__file__).resolve().parent
RECORD = HERE / "v0.2.json"
CONFIG = HERE / "project" / "langgraph.json"
# Long enough for the rest to be made and the server to be killed.
SOON = 60


def dump(client: redis.Redis) -> dict[str, list[Any]]:
    """Every key: its type, and its value as JSON."""
    return {text(key): _read(client, key) for key in sorted(client.scan_iter(count=1000))}


def _read(client: redis.Redis, key: bytes) -> list[Any]:
    kind = client.type(key).decode()
    if kind == "string":
        return [kind, text(client.get(key))]
    if kind == "hash":
        return [kind, {text(k): text(v) for k, v in sorted(client.hgetall(key).items())}]
    if kind == "list":
        return [kind, [text(each) for each in client.lrange(key, 0, -1)]]
    if kind == "set":
        return [kind, [text(each) for each in sorted(client.smembers(key))]]
    if kind == "zset":
        return [kind, {text(k): score for k, score in client.zrange(key, 0, -1, withscores=True)}]
    raise ValueError(f"{key!r} is a {kind}")


def text(value: bytes) -> str:
    """Bytes as text: as they are where they are ASCII, otherwise `base64:` and that."""
    if value.isascii() and not value.startswith(b"base64:"):
        return value.decode()
    return "base64:" + base64.b64encode(value).decode()


def raw(value: str) -> bytes:
    """The bytes that `text` was given."""
    if value.startswith("base64:"):
        return base64.b64decode(value.removeprefix("base64:"))
    return value.encode()


def restore(client: redis.Redis, record: dict[str, list[Any]]) -> None:
    """Write what `dump` has read."""
    with client.pipeline(transaction=False) as pipe:
        for name, (kind, value) in record.items():
            key = raw(name)
            if kind == "string":
                pipe.set(key, raw(value))
            elif kind == "hash":
                pipe.hset(key, mapping={raw(k): raw(v) for k, v in value.items()})
            elif kind == "list":
                pipe.rpush(key, *map(raw, value))
            elif kind == "set":
                pipe.sadd(key, *map(raw, value))
            else:
                pipe.zadd(key, {raw(k): score for k, score in value.items()})
        pipe.execute()


class Maker:
    """Asks a server of 0.2 for a run of each kind, and notes their ids."""

    def __init__(self, url: str, client: redis.Redis) -> None:
        self.url = url
        self.redis = client
        self.http = httpx.Client(base_url=url, timeout=30)
        self.ids: dict[str, dict[str, str]] = {}

    def all(self) -> None:
        """Make all of them."""
        self.assistant()
        self.store()
        self.ended_threads()
        self.ended_runs()
        self.webhooks()
        self.scheduled()
        self.under_way()

    def assistant(self) -> None:
        """An assistant of two versions, the second one current."""
        body = {"graph_id": "remembers", "name": "Bob", "context": {"who": "bob"}}
        made = self.call("POST", "/assistants", {**body, "metadata": {"team": "red"}})
        path = f"/assistants/{made['assistant_id']}"
        self.call("PATCH", path, {"name": "Carol", "context": {"who": "carol"}})
        self.ids["assistant"] = {"assistant_id": made["assistant_id"]}

    def store(self) -> None:
        """An item that a client wrote, and one that a graph wrote."""
        item = {"namespace": ["shop", "prices"], "key": "tea", "value": {"cents": 300, "é": None}}
        self.http.put("/store/items", json=item).raise_for_status()
        self.wait("remembered", None, "remembers", input={"remember": "likes tea"})

    def ended_threads(self) -> None:
        """Kept threads in every state that a run leaves behind."""
        finished = self.thread("finished", {"user": "ada"})
        for n in (2, 4):
            self.wait("finished", finished, "steps", input={"n": n}, metadata={"n": n})
        asking = self.thread("asking", {"user": "ada"})
        question = {"messages": [{"role": "user", "content": "Tea, please", "id": "first"}]}
        self.wait("asking", asking, "asks", input=question)
        failed = self.thread("failed", {"user": "bob"})
        self.wait("failed", failed, "fails", input={"before": False})
        stopped = self.thread("stopped", {"user": "bob"})
        body = {"input": {"n": 2}, "interrupt_before": ["step"]}
        self.wait("stopped", stopped, "steps", **body)

    def ended_runs(self) -> None:
        """Runs whose results are there for a while, by id and by key."""
        self.wait("kept", None, "steps", input={"n": 1}, on_completion="keep")
        self.wait("keyed", None, "steps", key="ended-key", input={"n": 1})

    def webhooks(self) -> None:
        """One webhook that is to be tried again, and one that was given up."""
        for name in ("pending", "dead"):
            self.wait(name, None, "steps", input={"n": 1}, webhook=f"/{name}")
            key = f"{{runwait}}:webhook:{self.ids[name]['run_id']}"
            eventually(lambda key=key: self.redis.hget(key, "settled"))
        # As if its attempts had begun two days ago: the next one is the last.
        a_while_ago = int((time.time() - 2 * 86_400) * 1000)
        self.redis.hset(key, "since", a_while_ago)
        eventually(lambda: self.redis.zcard("{runwait}:webhooks:dead") == 1)

    def scheduled(self) -> None:
        """Runs that wait for their time: on a thread, on one of its own, with a webhook."""
        later = {"after_seconds": SOON}
        by_assistant = self.ids["assistant"]["assistant_id"]
        thread = self.thread("scheduled", {})
        self.begin("scheduled on a thread", thread, by_assistant, input={"known": []}, **later)
        body = {"input": {"n": 1}, "webhook": "/scheduled", **later}
        self.begin("scheduled", None, "steps", **body)
        body = {"input": {"n": 3}, "on_completion": "keep", "config": {"tags": ["late"]}, **later}
        self.begin("scheduled and kept", None, "steps", **body)

    def under_way(self) -> None:
        """Runs that 0.2 dies with, and those that wait for their thread."""
        thread = self.thread("busy", {})
        held = {"n": 4, "held": True}
        self.begin("died", thread, "steps", input=held, durability="sync")
        eventually(lambda: self.steps(thread) == [1, 2])
        self.begin("queued", thread, "steps", key="queued-key", input={"n": 6})
        self.begin("queued last", thread, "steps", input={"n": 7}, webhook="/queued")
        self.begin("died alone", None, "steps", key="died-key", input=held)
        path = "/threads/{thread_id}/runs/{run_id}".format(**self.ids["died alone"])
        eventually(lambda: self.http.get(path).json()["status"] == "running")
        resumed = self.thread("resuming", {})
        question = {"messages": [{"role": "user", "content": "Tea, please", "id": "first"}]}
        self.wait("asked", resumed, "asks", input=question)
        self.begin("resumes later", resumed, "asks", command={"resume": "Yes"}, after_seconds=SOON)

    def call(self, method: str, path: str, body: Any) -> Any:
        """What a call that goes well answers."""
        response = self.http.request(method, path, json=body)
        response.raise_for_status()
        return response.json()

    def thread(self, name: str, metadata: dict[str, str]) -> str:
        """A new thread."""
        made = self.call("POST", "/threads", {"metadata": {"case": name, **metadata}})
        thread_id: str = made["thread_id"]
        return thread_id

    def steps(self, thread_id: str) -> list[int]:
        """The steps in a thread's state."""
        state = self.http.get(f"/threads/{thread_id}/state").json()
        steps: list[int] = (state.get("values") or {}).get("steps", [])
        return steps

    def wait(
        self, name: str, thread_id: str | None, graph: str, *, key: str | None = None, **body: Any
    ) -> None:
        """A run that ends."""
        path = f"/threads/{thread_id}/runs/wait" if thread_id else "/runs/wait"
        headers = {"Idempotency-Key": key} if key else {}
        response = self.http.post(path, json={"assistant_id": graph, **body}, headers=headers)
        response.raise_for_status()
        self.note(name, response)

    def begin(
        self, name: str, thread_id: str | None, graph: str, *, key: str | None = None, **body: Any
    ) -> None:
        """A run that does not end before the server does."""
        path = f"/threads/{thread_id}/runs/wait" if thread_id else "/runs/wait"
        headers = {"Idempotency-Key": key} if key else {}
        begun = threading.Event()

        def ask() -> None:
            body_ = {"assistant_id": graph, **body}
            try:
                with httpx.stream(
                    "POST", self.url + path, json=body_, headers=headers, timeout=120
                ) as response:
                    response.raise_for_status()
                    self.note(name, response)
                    begun.set()
                    response.read()
            except httpx.TransportError:
                return  # the server was killed, as was planned
            raise AssertionError(f"the run {name!r} has ended")

        threading.Thread(target=ask, daemon=True).start()
        assert begun.wait(30), name

    def note(self, name: str, response: httpx.Response) -> None:
        """Note the ids of a run."""
        _, _, thread_id, _, run_id = response.headers["Content-Location"].split("/")
        self.ids[name] = {"thread_id": thread_id, "run_id": run_id}


def main(checkout: Path) -> None:
    """Make the record with the 0.2 in `checkout`."""
    with tempfile.TemporaryDirectory() as name:
        valkey = RedisServer(Path(name))
        valkey.start()
        port = free_port()
        environment = {
            **os.environ,
            "PORT": str(port),
            "REDIS_URL": valkey.url,
            "LANGGRAPH_CONFIG": str(CONFIG),
            "HOLD": "1",
            # Nobody takes webhooks there.
            "WEBHOOK_BASE_URL": f"http://127.0.0.1:{free_port()}",
            "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
            "WEB_CONCURRENCY": "1",
        }
        server = subprocess.Popen(
            [checkout / ".venv/bin/gunicorn", "-c", "config/gunicorn.py", "wsgi:app"],
            cwd=checkout,
            env=environment,
            start_new_session=True,
        )
        try:
            maker = Maker(f"http://127.0.0.1:{port}", valkey.client)
            eventually(lambda: _is_up(maker.http))
            info = maker.http.get("/info").json()
            maker.all()
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        record = {"made_by": info, "ids": maker.ids, "keys": dump(valkey.client)}
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
        valkey.stop()


def _is_up(http: httpx.Client) -> bool:
    try:
        return http.get("/ready").status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
