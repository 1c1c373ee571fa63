"""Streams of runs, over HTTP, through two workers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import Any

import httpx
import pytest

from runwait.storage import events, records
from tests.e2e.calls import (
    FOREVER,
    UNLIMITED,
    detail,
    fresh_get,
    lapse,
    lines,
    only,
    pause,
    resume,
)
from tests.e2e.sse import Events, Sent, join, stream
from tests.faulty import FaultyNetwork
from tests.servers import PATIENCE, PROJECTS, Server, eventually

ZOO = str(PROJECTS / "zoo" / "langgraph.json")
WORDS = "one two three four five six"


def names(events: list[Sent]) -> list[str]:
    return [each.name for each in events]


def ids_of(path: str) -> dict[str, str]:
    _, _, thread_id, _, run_id = path.split("/")
    return {"thread_id": thread_id, "run_id": run_id}


def new_thread(server: Server) -> str:
    thread_id: str = httpx.post(f"{server.url}/threads", json={}, timeout=PATIENCE).json()[
        "thread_id"
    ]
    return thread_id


def words(events: list[Sent]) -> str:
    return "".join(each.data[0]["content"] for each in events if each.name == "messages")


class TestAnswer:
    def test_has_the_headers_that_keep_it_streaming(self, zoo):
        with stream(zoo, "echo", input={"value": 1}) as events:
            headers = events.response.headers
            assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
            assert headers["Cache-Control"] == "no-store"
            assert headers["X-Accel-Buffering"] == "no"
            assert headers["Location"] == f"{headers['Content-Location']}/stream"

    def test_begins_with_metadata_has_the_values_and_ends(self, zoo):
        with stream(zoo, "echo", input={"value": 1}) as events:
            ids = ids_of(events.path)
            came = list(events)
        assert [(each.name, each.data) for each in came] == [
            ("metadata", {**ids, "attempt": 1}),
            ("values", {"value": 1}),
            ("values", {"value": 1}),
            ("end", {"run_id": ids["run_id"], "status": "success"}),
        ]
        assert {each.id for each in came} == {None}

    def test_is_made_of_lines_that_end_as_the_standard_has_them(self, zoo):
        body = {"assistant_id": "echo", "input": {"value": "a\u2028b\x85c\u2029d\0e\né"}}
        raw = httpx.post(f"{zoo.url}/runs/stream", json=body, timeout=PATIENCE).content
        text = raw.decode()
        assert all(
            each.count("\r\n") == 1 for each in text.removesuffix("\r\n\r\n").split("\r\n\r\n")
        )
        assert not {"\u2028", "\u2029", "\x85", "\0"} & set(text)
        with stream(zoo, **body) as events:
            assert events.until("values")[-1].data == body["input"]

    def test_of_a_run_that_fails_says_how_after_what_came_before(self, zoo):
        with stream(zoo, "fails", stream_mode="updates") as events:
            came = list(events)
        assert names(came)[-2:] == ["error", "end"]
        assert came[-2].data == {"error": "ValueError", "message": "no luck"}
        assert came[-1].data["status"] == "error"

    def test_of_an_interrupted_run_has_all_that_wait_in_its_last_values(self, zoo):
        with stream(
            zoo, "two_interrupts", new_thread(zoo), stream_mode=["values", "updates"]
        ) as events:
            came = list(events)
        waiting = [each for each in came if each.name == "values" and "__interrupt__" in each.data]
        assert [len(each.data["__interrupt__"]) for each in waiting] == [2]
        updates = [each.data for each in came if each.name == "updates"]
        assert sum("__interrupt__" in each for each in updates) == 2
        assert names(came)[-2:] == ["values", "end"]
        assert came[-1].data["status"] == "interrupted"

    @pytest.mark.parametrize("assistant_id", ["speaks", "speaks_async"])
    def test_has_tokens_as_they_come(self, zoo, gate, assistant_id):
        asked = {"text": WORDS, "gate": str(gate.path)}
        with stream(zoo, assistant_id, input=asked, stream_mode="messages-tuple") as events:
            came = []
            for event in events:
                came.append(event)
                if words(came) == "one two three ":
                    break
            # The model says no more until this.
            gate.open()
            came += list(events)
        assert words(came) == f"{WORDS} "
        assert came[1].data[1]["langgraph_node"] == "node"

    def test_beats_while_a_run_waits_to_start(self, zoo):
        with stream(zoo, "echo", input={"value": 1}, after_seconds=1) as events:
            assert events.until("metadata")[-1].heartbeats > 0
            assert names(list(events)) == ["values", "values", "end"]

    def test_with_a_stream_mode_alone_has_its_events_alone(self, zoo):
        for mode, expected in (
            ("updates", {"updates"}),
            ("custom", {"custom"}),
            ("tasks", {"tasks"}),
            ("debug", {"debug"}),
            ("events", {"events"}),
            ([], {"values"}),
        ):
            with stream(zoo, "writes", input={"n": 1}, stream_mode=mode) as events:
                came = set(names(list(events))) - {"metadata", "end"}
            assert came == expected, mode

    def test_of_langchains_events_has_no_chunks_of_modes_that_were_not_asked_for(self, zoo):
        with stream(zoo, "echo", input={"value": 1}, stream_mode="events") as events:
            came = [each.data for each in events if each.name == "events"]
        chunks = [each for each in came if each["event"] == "on_chain_stream"]
        assert [each["data"]["chunk"] for each in chunks] == [{"value": 1}]

    def test_of_subgraphs_has_their_namespaces_if_they_are_asked_for(self, zoo):
        def modes(**fields: Any) -> set[str]:
            asked = {"input": {"value": 1}, "stream_mode": ["updates"], **fields}
            with stream(zoo, "subgraph", **asked) as events:
                return {each.partition(":")[0] for each in names(list(events))}

        assert modes() == {"metadata", "updates", "end"}
        assert len(modes(stream_subgraphs=True) - modes()) == 1

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"assistant_id": "nope"}, 422),
            ({"assistant_id": "echo", "stream_mode": "nope"}, 422),
            ({"assistant_id": "echo", "command": {"resume": 1}}, 400),
        ],
    )
    def test_is_refused_before_it_begins(self, zoo, body, status):
        detail(httpx.post(f"{zoo.url}/runs/stream", json=body, timeout=PATIENCE), status)

    def test_repeated_with_its_key_is_told_once_more(self, zoo):
        body = {"input": {"value": 1}, "headers": {"Idempotency-Key": os.urandom(8).hex()}}
        with stream(zoo, "echo", **dict(body)) as events:
            path, came = events.path, list(events)
        with stream(zoo, "echo", **dict(body)) as events:
            assert events.path == path
            assert events.response.headers["Idempotency-Replayed"] == "true"
            again = list(events)
        assert [again[0].data, again[-2:]] == [came[0].data, came[-2:]]

    def test_of_a_client_that_leaves_may_cancel_the_run(self, zoo):
        asked = {"input": {"n": FOREVER["n"], "seconds": FOREVER["seconds"]}, "config": UNLIMITED}
        thread_id = new_thread(zoo)
        with stream(zoo, "steps_async", thread_id, on_disconnect="cancel", **asked) as events:
            events.until("values")
            path = events.path
        eventually(lambda: fresh_get(zoo, path).json()["status"] == "interrupted")


class TestJoin:
    def test_follows_a_run_of_another_process_from_now_on(self, zoo, gate):
        body = {"assistant_id": "steps_async", "input": {**gate.input, "n": 4}}
        first, second = zoo.workers()
        with only(zoo, first):
            run = httpx.post(
                f"{zoo.url}/threads/{new_thread(zoo)}/runs", json=body, timeout=PATIENCE
            )
        with only(zoo, second):
            joined = join(zoo, run.headers["Content-Location"])
        with joined:
            events = iter(joined)
            assert next(events).name == "metadata"
            gate.open()
            came = list(events)
        assert came[-1].data["status"] == "success"

    def test_of_a_resumable_run_gives_what_followed_an_event_to_anybody(self, zoo):
        with stream(
            zoo, "steps_sync", new_thread(zoo), input={"n": 5, "seconds": 0}, stream_resumable=True
        ) as events:
            path, came = events.path, list(events)
        places = [each.id for each in came]
        assert all(places)
        assert len(set(places)) == len(places)
        for worker in zoo.workers():
            with only(zoo, worker):
                for after in ("-1", "0"):
                    with join(zoo, path, after) as events:
                        assert list(events) == came
                with join(zoo, path, places[2]) as events:
                    metadata, *rest = events
                assert (metadata.name, metadata.id) == ("metadata", None)
                assert rest == came[3:]

    def test_of_a_run_that_ended_gives_what_it_came_to(self, zoo):
        for assistant_id, value, expected in (
            ("echo", {"value": 1}, ["metadata", "values", "end"]),
            ("fails", {}, ["metadata", "error", "end"]),
        ):
            with stream(zoo, assistant_id, input=value) as events:
                path, _ = events.path, list(events)
            for given in (path, f"/runs/{ids_of(path)['run_id']}"):
                with join(zoo, given) as events:
                    assert names(list(events)) == expected

    def test_may_name_the_modes_that_it_wants(self, zoo):
        asked = {"stream_mode": ["values", "updates", "custom"], "stream_resumable": True}
        with stream(zoo, "writes", input={"n": 2}, **asked) as events:
            path, _ = events.path, list(events)
        query = "stream_mode=custom&stream_mode=updates"
        headers = {"Last-Event-ID": "-1"}
        with Events(zoo, "GET", f"{path}/stream?{query}", headers=headers) as events:
            assert names(list(events)) == ["metadata", "custom", "custom", "updates", "end"]

    def test_is_refused_where_there_is_no_such_run_or_event(self, zoo):
        def get(path: str, after: str) -> httpx.Response:
            headers = {"Last-Event-ID": after}
            return httpx.get(f"{zoo.url}{path}/stream", headers=headers, timeout=PATIENCE)

        with stream(zoo, "echo", input={"value": 1}, stream_resumable=True) as events:
            path, _ = events.path, list(events)
        nobody = "01a21af5-70f2-733c-a718-a32d001acfd4"
        detail(get(f"/threads/{nobody}/runs/{nobody}", "-1"), 404)
        detail(get(f"/runs/{nobody}", "-1"), 404)
        assert "Last-Event-ID" in detail(get(path, "nonsense"), 422)
        assert "Last-Event-ID" in detail(get(path, "1-1"), 422)
        detail(httpx.get(f"{zoo.url}{path}/stream?stream_mode=x", timeout=PATIENCE), 422)

    def test_of_an_event_that_is_not_kept_any_more_says_what_is(self, serve, valkey):
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, STREAM_EVENTS_MAX=1)
        asked = {"input": {"n": 1000}, "stream_mode": "custom", "stream_resumable": True}
        with stream(server, "writes", **asked) as events:
            path, came = events.path, list(events)
        headers = {"Last-Event-ID": came[0].id or ""}
        answer = httpx.get(f"{server.url}{path}/stream", headers=headers, timeout=PATIENCE)
        text = detail(answer, 410)
        with join(server, path, "-1") as events:
            metadata, values, *kept = events
        assert [metadata.name, values.name] == ["metadata", "values"]
        assert kept == came[-len(kept) :]
        assert str(kept[0].id) in text


class TestFaults:
    def test_a_resumable_stream_is_whole_although_its_process_is_killed(self, serve, valkey, gate):
        server = serve(
            REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=2, RUN_LEASE_SECONDS=1
        )
        body = {"input": {**gate.input, "n": 6}, "stream_mode": "updates", "stream_resumable": True}
        first = server.workers()[0]
        with only(server, first):
            events = stream(server, "steps_async", new_thread(server), **body)
        came: list[Sent] = []
        with events, pytest.raises(httpx.HTTPError):
            path = events.path
            for event in events:
                came.append(event)
                if len(came) == 3:
                    os.kill(first, signal.SIGKILL)
        gate.open()
        with join(server, path, came[-1].id) as events:
            _, *rest = events
        came += rest
        places = [tuple(map(int, str(each.id).split("-"))) for each in came]
        assert places == sorted(set(places))
        assert [each.data["attempt"] for each in came if each.name == "metadata"] == [1, 2]
        assert came[-1].data["status"] == "success"
        with join(server, path, "-1") as events:
            assert list(events) == came

    def test_a_process_that_slept_adds_nothing_to_the_stream_of_its_heir(self, serve, valkey, gate):
        server = serve(
            REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=2, RUN_LEASE_SECONDS=1
        )
        body = {"input": {**gate.input, "n": 5}, "stream_mode": "updates", "stream_resumable": True}
        first = server.workers()[0]
        with only(server, first):
            events = stream(server, "steps_async", new_thread(server), **body)
        with events:
            path = events.path
            events.until("updates")
            pause(first)
            gate.open()
            with join(server, path, "-1") as joined:
                came = list(joined)
            resume(first)
            # It is told of what the other one made of the run.
            assert list(events)[-1] == came[-1]
        assert [each.data["attempt"] for each in came if each.name == "metadata"] == [1, 2]
        with join(server, path, "-1") as joined:
            assert list(joined) == came

    @pytest.mark.parametrize("modes", [["values"], ["updates"]])
    def test_who_streams_from_a_process_that_slept_has_the_last_values_of_its_heir(
        self, serve, valkey, gate, modes
    ):
        server = serve(
            REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=2, RUN_LEASE_SECONDS=1
        )
        first = server.workers()[0]
        body = {"input": {**gate.input, "n": 5}, "stream_mode": modes}
        with only(server, first):
            events = stream(server, "steps_async", new_thread(server), **body)
        with events:
            came = events.until(modes[0])
            pause(first)
            gate.open()
            answer = httpx.get(f"{server.url}{events.path}/join", timeout=PATIENCE).json()
            resume(first)
            came += list(events)
        assert names(came)[-1] == "end"
        assert [each.data for each in came if each.name == "values"][-1:] == (
            [answer] if modes == ["values"] else []
        )

    def test_who_joins_a_run_before_any_of_it_is_logged_is_told_all_of_it(
        self, serve, valkey, gate
    ):
        network = FaultyNetwork(valkey.port)
        settings = {"LANGGRAPH_CONFIG": ZOO, "WEB_CONCURRENCY": 1}
        server = serve(REDIS_URL=network.url(), **settings)
        other = serve(REDIS_URL=valkey.url, **settings)
        asked = {"assistant_id": "sleep_async", "input": gate.input, "stream_resumable": True}
        with network.cut(events._LOG.sha, "request", times=1_000_000) as cut:
            answer = httpx.post(f"{server.url}/runs", json=asked, timeout=PATIENCE)
            path = answer.headers["Content-Location"]
            eventually(lambda: cut.done)
            joined = [join(other, path, after) for after in ("-1", None)]
        gate.open()
        joined.append(join(other, path, "-1"))
        came = []
        for each in joined:
            with each:
                came.append(list(each))
        assert came[0] == came[1] == came[2]
        assert all(each.id for each in came[0])
        network.close()

    def test_no_step_is_done_for_good_before_its_events_are_there(self, serve, valkey, tmp_path):
        network = FaultyNetwork(valkey.port)
        settings = {"LANGGRAPH_CONFIG": ZOO, "RUN_LEASE_SECONDS": 10, "WEB_CONCURRENCY": 1}
        server = serve(REDIS_URL=network.url(), **settings)
        other = serve(REDIS_URL=valkey.url, **settings)
        file = tmp_path / "file"
        body = {"input": {"n": 3, "file": str(file)}, "stream_mode": "updates"}
        body |= {"stream_resumable": True, "durability": "sync"}
        with (
            network.cut(events._LOG.sha, "request", times=1_000_000) as cut,
            stream(server, "steps_sync", new_thread(server), **body) as streamed,
        ):
            path = streamed.path
            # Time enough for it to come to its end, if it goes on.
            eventually(lambda: cut.done > 3)
            [worker] = server.workers()
            server.stop(signal.SIGKILL)
            os.kill(worker, signal.SIGKILL)
            # What it sent before it died does not arrive either.
            network.close()
        lapse(valkey, ids_of(path)["run_id"])
        with join(other, path, "-1") as streamed:
            came = list(streamed)
        steps = [each.data["step"]["steps"] for each in came if each.name == "updates"]
        assert steps == [[1], [2], [3]]
        assert httpx.get(f"{other.url}{path}/join", timeout=PATIENCE).json()["steps"] == [1, 2, 3]

    def test_a_run_that_was_killed_at_its_end_tells_its_last_values_again(self, serve, valkey):
        network = FaultyNetwork(valkey.port)
        settings = {"LANGGRAPH_CONFIG": ZOO, "RUN_LEASE_SECONDS": 1, "WEB_CONCURRENCY": 1}
        server = serve(REDIS_URL=network.url(), **settings)
        body = {"input": {"n": 3}, "interrupt_before": ["step"], "stream_resumable": True}
        with (
            network.cut(records._FINISH.sha, "request", times=1_000_000) as cut,
            stream(server, "steps_sync", new_thread(server), **body) as streamed,
        ):
            path = streamed.path
            eventually(lambda: cut.done)
            [worker] = server.workers()
            server.stop(signal.SIGKILL)
            os.kill(worker, signal.SIGKILL)
            # What it sent before it died does not arrive either.
            network.close()
        other = serve(REDIS_URL=valkey.url, **settings)
        answer = httpx.get(f"{other.url}{path}/join", timeout=PATIENCE).json()
        with join(other, path, "-1") as streamed:
            came = list(streamed)
        assert names(came) == ["metadata", "values", "metadata", "values", "end"]
        assert came[1].data == came[3].data == answer

    def test_a_client_that_does_not_read_harms_nobody(self, serve, valkey):
        server = serve(
            REDIS_URL=valkey.url,
            LANGGRAPH_CONFIG=ZOO,
            WEB_CONCURRENCY=1,
            REQUEST_TIMEOUT_SECONDS=1,
        )
        lazy = socket.create_connection(("127.0.0.1", server.port))
        body = b'{"assistant_id":"writes","input":{"n":1000,"size":100000},"stream_mode":"custom"}'
        lazy.sendall(
            b"POST /runs/stream HTTP/1.1\r\nHost: runwait\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        lazy.recv(10)
        with stream(server, "echo", input={"value": 1}) as events:
            assert names(list(events))[-1] == "end"
        # It is cut off: nobody keeps 100 MB for it.
        eventually(lambda: server.log.read_text().count('"path":"/runs/stream"') == 2)
        assert len(_all_of(lazy)) < 20_000_000

    def test_a_stream_ends_as_it_should_although_redis_was_away(self, serve, valkey, gate):
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1)
        body = {"input": gate.input, "stream_resumable": True, "stream_mode": "updates"}
        with stream(server, "sleep_async", **body) as events:
            events.until("metadata")
            path = events.path
            valkey.stop()
            gate.open()
            valkey.start()
            came = list(events)
        assert names(came) == ["updates", "end"]
        with join(server, path, "-1") as joined:
            assert list(joined)[1:] == came


def _all_of(connection: socket.socket) -> bytes:
    came = bytearray()
    connection.settimeout(PATIENCE)
    with connection, contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            came += data
            if came.endswith(b"0\r\n\r\n"):
                break
    return bytes(came)


class TestThread:
    def test_gives_the_runs_one_after_the_other_with_ids_that_grow(self, zoo):
        thread_id = new_thread(zoo)
        runs = f"{zoo.url}/threads/{thread_id}/runs"
        with Events(zoo, "GET", f"/threads/{thread_id}/stream") as events:
            for value in (1, 2):
                body = {"assistant_id": "echo", "input": {"value": value}}
                httpx.post(f"{runs}/wait", json=body, timeout=PATIENCE)
            came = []
            for event in events:
                came.append(event)
                if sum("status" in each.data for each in came if each.name == "metadata") == 2:
                    break
        assert names(came) == ["metadata", "values", "values", "metadata"] * 2
        assert [each.data for each in came if each.name == "values"] == [
            {"value": value} for value in (1, 1, 2, 2)
        ]
        assert came[3].data == {
            "status": "run_done",
            "run_id": came[0].data["run_id"],
            "how": "success",
        }
        places = [tuple(map(int, str(each.id).split("-"))) for each in came]
        assert places == sorted(set(places))

        # Whoever comes later may have what was kept.
        headers = {"Last-Event-ID": str(came[3].id)}
        with Events(zoo, "GET", f"/threads/{thread_id}/stream", headers=headers) as events:
            later = []
            for event in events:
                later.append(event)
                if len(later) == 4:
                    break
        assert later == came[4:]

    @pytest.mark.parametrize("after", [{}, {"Last-Event-ID": "-1"}])
    def test_begins_with_the_run_that_has_it_and_gives_its_next_events_their_ids(
        self, zoo, gate, after, tmp_path
    ):
        thread_id, file = new_thread(zoo), tmp_path / "noted"
        body = {"assistant_id": "sleep_async", "input": {**gate.input, "file": str(file)}}
        run = zoo.http.post(f"/threads/{thread_id}/runs", json=body).json()
        # By now its first values are over.
        eventually(lambda: lines(file) == ["started"])
        path = f"/threads/{thread_id}/stream"
        with contextlib.ExitStack() as stack:
            followed = []
            # In the process that executes it, and in the other.
            for worker in zoo.workers():
                with only(zoo, worker):
                    events = stack.enter_context(Events(zoo, "GET", path, headers=after))
                    followed.append(iter(events))
                    begun = next(followed[-1])
                assert begun.name == "metadata"
                ids = {name: run[name] for name in ("run_id", "thread_id")}
                assert begun.data == {**ids, "attempt": 1}
            gate.open()
            for each in followed:
                came = [next(each), next(each)]
                assert names(came) == ["values", "metadata"]
                assert came[-1].data["run_id"] == run["run_id"]
                assert all(event.id for event in came)

    def test_gives_what_was_asked_for_alone(self, zoo):
        thread_id = new_thread(zoo)
        path = f"/threads/{thread_id}/stream?stream_modes=lifecycle&stream_mode=state_update"
        with Events(zoo, "GET", path) as events:
            body = {"assistant_id": "echo", "input": {"value": 1}}
            url = f"{zoo.url}/threads/{thread_id}"
            httpx.post(f"{url}/runs/wait", json=body, timeout=PATIENCE)
            httpx.post(f"{url}/state", json={"values": {"value": 2}}, timeout=PATIENCE)
            came = events.until("state_update")
        assert names(came) == ["metadata", "metadata", "state_update"]
        assert came[-1].data["state"]["values"] == {"value": 2}
        assert came[-1].data["thread_id"] == thread_id

    def test_is_refused_for_an_unknown_thread_or_mode(self, zoo):
        nobody = "01a21af5-70f2-733c-a718-a32d001acfd4"
        detail(fresh_get(zoo, f"/threads/{nobody}/stream"), 404)
        detail(fresh_get(zoo, f"/threads/{nobody}/stream?stream_mode=x"), 422)
