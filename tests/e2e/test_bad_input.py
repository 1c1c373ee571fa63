"""What a client may send: nothing of it gives a 5xx or a traceback, and the workers live on."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.e2e.calls import detail
from tests.e2e.wire import Answer, Wire, alive, chunked, exchange, request, run
from tests.servers import PROJECTS, Server, ServerFactory, eventually

MAX_REQUEST_BYTES = 16 * 1024 * 1024
ZOO = str(PROJECTS / "zoo" / "langgraph.json")
UNKNOWN = "3c90c3cc-0d44-4b50-8888-8dd25736052a"
INTERRUPTED, OTHER = f"{UNKNOWN[:-1]}b", f"{UNKNOWN[:-1]}c"
RUN = f"/threads/{UNKNOWN}/runs/{UNKNOWN}"
ECHO = b'{"assistant_id": "echo", "input": {"value": 1}}'
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(autouse=True, scope="module")
def unharmed(zoo: Server) -> Iterator[None]:
    """The same workers serve after the module as before, and logged no traceback meanwhile."""
    workers, before = zoo.workers(), zoo.log.stat().st_size
    yield
    assert alive(zoo)
    assert zoo.workers() == workers
    logged = zoo.log.read_bytes()[before:]
    # A graph's own error is logged with its traceback: it is what the graph made of its input.
    faults = [line for line in logged.split(b"\n")[:-1] if b"Traceback" in line]
    assert [line for line in faults if json.loads(line)["message"] != "run ended"] == []


def posted(server: Server, body: bytes, *headers: str) -> Answer:
    return exchange(server, request("POST", "/runs/wait", *headers, body=body))


class TestWhatIsNotJson:
    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"{",
            b"[1,]",
            b"{'a': 1}",
            b"1 2",
            b"nul",
            b'"a',
            b"\xff",
            b'"\xed\xa0\x80"',
            b"\xef\xbb\xbf1",
            b"NaN",
            b"Infinity",
            b"-Infinity",
            b"1e999",
            b"-1e999",
            b"1" * 4301,
            b'{"a": 1, "a": 1}',
            b'{"a": 1, "\\u0061": 2}',
            b'"\\ud800"',
            b'"\\udc00\\ud800"',
            b'"\x00"',
            b"[" * 201 + b"]" * 201,
            b"[" * 10_000 + b"]" * 10_000,
            b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
            b"[" * 10_000_000,
            b'{"a":' * 1_000_000,
            b'"' + b"\\" * 1_000_001,
        ],
        ids=lambda value: repr(value[:20]),
    )
    @pytest.mark.parametrize("where", [b"%s", b'{"assistant_id": "echo", "input": %s}'])
    def test_is_refused_with_the_reason(self, zoo: Server, where: bytes, value: bytes) -> None:
        answer = posted(zoo, where % value)
        assert answer.status == 422
        assert answer.detail.startswith("the body is not JSON as it must be: ")
        assert len(answer.detail) < 300

    @pytest.mark.parametrize("body", [b"null", b"[]", b'"echo"', b"1", b"true", b"[{}]"])
    def test_nor_an_object_is_refused(self, zoo: Server, body: bytes) -> None:
        answer = posted(zoo, body)
        assert (answer.status, answer.detail) == (422, "the body must be a JSON object")

    def test_may_be_called_anything_by_the_content_type(self, zoo: Server) -> None:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"):
            assert posted(zoo, ECHO, f"Content-Type: {kind}").status == 200
            assert posted(zoo, b"a=b", f"Content-Type: {kind}").status == 422

    def test_at_the_edge_of_what_is_taken(self, zoo: Server) -> None:
        # The body and the input's object are two levels.
        deep = b"[" * 198 + b"]" * 198
        for value in (deep, b"1" * 4300, b"1e308", b'"\\ud83d\\ude00"', b"5.0", b'"\\u0000"'):
            body = b'{"assistant_id": "echo", "input": {"value": %s}}' % value
            answer = posted(zoo, body)
            assert (answer.status, answer.body[:10]) == (200, b'{"value":' + answer.body[9:10])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["*", "values", "same", "echo", UNKNOWN, 10**400, "\x00", "\U0001f600"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=10,
)


def some(names: list[str], value: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that have some of these names."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, value))


TAGS = st.lists(st.text(max_size=20), max_size=3)
OBJECT = st.dictionaries(st.text(max_size=10), JSON, max_size=3)
FIELDS = ["input", "metadata", "context", "webhook", "stream_mode", "feedback_keys"]
FIELDS += ["stream_subgraphs", "stream_resumable", "on_completion", "on_disconnect"]
FIELDS += ["after_seconds", "checkpoint_during", "durability", "interrupt_before"]
FIELDS += ["interrupt_after", "langsmith_tracer", "multitask_strategy", "if_not_exists"]
FIELDS += ["checkpoint", "checkpoint_id", "strict_resume", "command", "config"]


class TestBodies:
    @settings(deadline=None, max_examples=150)
    @given(body=some(["assistant_id", *FIELDS], JSON))
    def test_of_any_values_are_answered_or_refused(self, zoo: Server, body: Any) -> None:
        self.check(zoo, body)

    @settings(deadline=None, max_examples=150)
    @given(
        command=some(["update", "goto", "x"], JSON),
        config=some(["tags", "run_name", "recursion_limit", "max_concurrency", "metadata"], JSON),
        rest=some(["input", "metadata"], JSON),
    )
    def test_of_any_values_deeper_inside_are_answered_or_refused(
        self, zoo: Server, command: Any, config: Any, rest: Any
    ) -> None:
        self.check(zoo, {"assistant_id": "echo", "command": command, "config": config, **rest})

    @settings(deadline=None, max_examples=150)
    @given(
        graph=st.sampled_from(["echo", "entry", "aentry", "gotos", "context_pydantic"]),
        given_input=JSON,
        update=st.none() | OBJECT | st.lists(st.tuples(st.text(max_size=5), JSON), max_size=3),
        metadata=OBJECT,
        tags=TAGS,
        limit=st.integers(min_value=1),
        configurable=OBJECT,
    )
    def test_of_valid_fields_are_answered(
        self,
        zoo: Server,
        graph: str,
        given_input: Any,
        update: Any,
        metadata: Any,
        tags: Any,
        limit: int,
        configurable: Any,
    ) -> None:
        config = {"tags": tags, "recursion_limit": limit, "max_concurrency": limit}
        config |= {"metadata": metadata, "run_name": "".join(tags)}
        body = {"assistant_id": graph, "input": given_input, "command": {"update": update}}
        body |= {"metadata": metadata, "config": config, "context": configurable}
        response = self.check(zoo, body)
        refused = response.status_code == 422 and response.json()["detail"].startswith("context")
        assert response.status_code == 200 or refused

    @settings(deadline=None, max_examples=100)
    @given(body=st.binary(max_size=100))
    def test_of_any_bytes_are_refused(self, zoo: Server, body: bytes) -> None:
        response = zoo.http.post("/runs/wait", content=body)
        assert response.status_code == 422

    @settings(deadline=None, max_examples=150)
    @given(
        method=st.sampled_from(["run.start", "input.respond", "agent.getTree", "x"]) | JSON,
        params=some(
            ["assistant_id", "input", "config", "metadata", "multitask_strategy", "interrupt_id"]
            + ["response", "responses", "update", "goto", "run_id"],
            JSON,
        )
        | JSON,
        on_a_thread=st.booleans(),
    )
    def test_of_commands_are_answered_or_refused(
        self, zoo: Server, method: Any, params: Any, on_a_thread: bool
    ) -> None:
        thread_id = self.interrupted(zoo) if on_a_thread else OTHER
        body = {"id": 1, "method": method, "params": params}
        response = zoo.http.post(f"/threads/{thread_id}/commands", json=body)
        assert response.status_code in (200, 400), response.text
        if response.status_code == 200:
            assert response.json()["type"] in ("success", "error")

    @settings(deadline=None, max_examples=100)
    @given(
        channels=st.lists(st.sampled_from(["values", "custom", "custom:x"]), max_size=3) | JSON,
        rest=some(["namespaces", "depth", "since"], JSON | st.just([["a"], []])),
    )
    def test_of_subscriptions_are_answered_or_refused(
        self, zoo: Server, channels: Any, rest: Any
    ) -> None:
        path = f"/threads/{self.interrupted(zoo)}/stream/events"
        body = {"channels": channels, **rest}
        with zoo.http.stream("POST", path, json=body) as response:
            assert response.status_code in (200, 400)

    @staticmethod
    def interrupted(server: Server) -> str:
        """A thread that waits for an answer, or did."""
        path = f"/threads/{INTERRUPTED}/runs/wait"
        body = {"assistant_id": "two_interrupts", "input": {}, "if_not_exists": "create"}
        if server.http.get(path.removesuffix("/runs/wait")).status_code == 404:
            server.http.post(path, json=body)
        return INTERRUPTED

    def test_are_told_of_every_field_at_once(self, zoo: Server) -> None:
        wrong: dict[str, Any] = dict.fromkeys(["assistant_id", *FIELDS], 1.5)
        wrong["after_seconds"] = "soon"
        del wrong["input"]
        answer = posted(zoo, json.dumps(wrong).encode())
        assert answer.status == 422
        problems = dict(each.split(": ", 1) for each in answer.detail.split("; "))
        assert problems.keys() == wrong.keys()
        assert all(text.startswith("must be ") for text in problems.values())

    @staticmethod
    def check(server: Server, body: Any) -> httpx.Response:
        response = server.http.post("/runs/wait", json=body)
        assert response.status_code in (200, 400, 404, 422), response.text
        if response.status_code != 200:
            assert isinstance(response.json()["detail"], str)
            assert response.json().keys() == {"detail"}
        return response


class TestClassesOfErrors:
    NOWHERE = b'{"assistant_id": "%s"}' % UNKNOWN.encode()

    @pytest.mark.parametrize(
        ("status", "data"),
        [
            pytest.param(404, request("POST", "/nope", body=b"x" * 100), id="path before body"),
            pytest.param(
                404,
                request("POST", "/nope", f"Content-Length: {10**9}"),
                id="path before size",
            ),
            pytest.param(
                405, request("PUT", "/runs/wait", f"Content-Length: {10**9}"), id="method"
            ),
            pytest.param(
                413,
                request("POST", "/runs/wait", f"Content-Length: {10**9}") + b"not JSON",
                id="size before body",
            ),
            pytest.param(
                422,
                request("POST", "/runs/wait", body=NOWHERE[:-1] + b', "metadata": 1}'),
                id="body before assistant",
            ),
            pytest.param(
                404,
                run(UNKNOWN, config={"configurable": {"a": 1}}, context={"a": 1}),
                id="assistant before conflict",
            ),
            pytest.param(
                400,
                run("echo", config={"configurable": {"a": 1}}, context={"a": 1}, command={}),
                id="conflict",
            ),
            pytest.param(
                400,
                run("echo", command={"resume": 1, "goto": "nope"}),
                id="conflict before node",
            ),
            pytest.param(422, run("echo", command={"goto": "nope"}), id="node"),
        ],
    )
    def test_are_looked_at_one_after_another(self, zoo: Server, status: int, data: bytes) -> None:
        answer = exchange(zoo, data)
        assert (answer.status, bool(answer.detail)) == (status, True)


class TestTooLargeABody:
    DETAIL = f"the body is larger than {MAX_REQUEST_BYTES} bytes, which MAX_REQUEST_BYTES allows"

    def test_is_refused_before_it_is_sent(self, zoo: Server) -> None:
        with Wire(zoo) as wire:
            answer = wire.send(
                request("POST", "/runs/wait", f"Content-Length: {MAX_REQUEST_BYTES + 1}")
            ).answer()
            assert (answer.status, answer.detail) == (413, self.DETAIL)
            assert answer.headers["connection"] == "close"

    @pytest.mark.parametrize("pieces", [False, True], ids=["length", "chunked"])
    def test_is_refused_although_its_client_goes_on_sending(
        self, zoo: Server, pieces: bool
    ) -> None:
        body = ECHO.ljust(MAX_REQUEST_BYTES + 1)
        cut = (body[at : at + 1_000_000] for at in range(0, len(body), 1_000_000))
        for _ in range(2):
            response = zoo.http.post("/runs/wait", content=cut if pieces else body)
            assert response.status_code == 413
            assert response.json() == {"detail": self.DETAIL}
            cut = (body[at : at + 1_000_000] for at in range(0, len(body), 1_000_000))

    def test_may_be_an_endless_one(self, zoo: Server) -> None:
        def endless() -> Iterator[bytes]:
            while True:
                yield b" " * 100_000

        assert zoo.http.post("/runs/wait", content=endless()).status_code == 413

    @pytest.mark.parametrize("pieces", [False, True], ids=["length", "chunked"])
    def test_is_one_byte_larger_than_what_is_taken(self, zoo: Server, pieces: bool) -> None:
        body = ECHO.ljust(MAX_REQUEST_BYTES)
        response = zoo.http.post("/runs/wait", content=iter([body]) if pieces else body)
        assert (response.status_code, response.json()) == (200, {"value": 1})

    def test_is_measured_without_its_wrapping(self, serve: ServerFactory) -> None:
        server = serve(LANGGRAPH_CONFIG=ZOO, MAX_REQUEST_BYTES=len(ECHO))
        with Wire(server) as wire:
            bytewise = chunked(*(ECHO[at : at + 1] for at in range(len(ECHO))))
            wire.send(request("POST", "/runs/wait", CHUNKED) + bytewise)
            assert wire.answer().status == 200
            wire.send(request("POST", "/runs/wait", CHUNKED) + chunked(ECHO, b" "))
            assert wire.answer().status == 413
            wire.send(request("POST", "/runs/wait", CHUNKED) + chunked(ECHO))
            assert wire.answer().status == 200


class TestABodyThatIsNotWhole:
    @pytest.mark.parametrize(
        "data",
        [
            request("POST", "/runs/wait", "Content-Length: 1000") + ECHO,
            request("POST", "/runs/wait", "Content-Length: 1000"),
            request("POST", "/runs/wait", CHUNKED) + chunked(ECHO)[:-5],
            request("POST", "/runs/wait", CHUNKED) + chunked(ECHO)[:-2],
            request("POST", "/runs/wait", CHUNKED) + chunked(ECHO)[:20],
            request("POST", "/runs/wait", CHUNKED) + b"ffffffffffffffff\r\n{}",
            request("POST", "/runs/wait", CHUNKED) + b"2\r\n{}\r\n0\r\nX: y\r\n",
            request("POST", "/runs/wait", CHUNKED),
        ],
        ids=lambda data: repr(data[-20:]),
    )
    def test_is_refused_where_the_client_can_still_hear_it(self, zoo: Server, data: bytes) -> None:
        with Wire(zoo) as wire:
            answer = wire.send(data).end().answer()
            assert answer.status == 400
            assert re.match("the body (breaks off|is badly chunked)", answer.detail)
            assert wire.closed()

    @pytest.mark.parametrize("size", [0, 1, 20, 60, 120, 135])
    def test_of_a_client_that_is_gone_harms_nobody(self, zoo: Server, size: int) -> None:
        for data in (
            request("POST", "/runs/wait", body=ECHO)[:size],
            request("POST", "/runs/wait", CHUNKED)[:size] + chunked(ECHO)[: max(0, size - 60)],
        ):
            with Wire(zoo) as wire:
                wire.send(data)
        assert alive(zoo)

    @pytest.mark.parametrize(
        "body",
        [
            b"xyz\r\n{}\r\n0\r\n\r\n",
            b"-2\r\n{}\r\n0\r\n\r\n",
            b"0x2\r\n{}\r\n0\r\n\r\n",
            b"2 \r\n{}\r\n0\r\n\r\n",
            b"\r\n{}\r\n0\r\n\r\n",
            b"3\r\n{}\r\n0\r\n\r\n",
            b"1\r\n{}\r\n0\r\n\r\n",
            b"2\n{}\n0\n\n",
            b"2;\x00\r\n{}\r\n0\r\n\r\n",
            b"2;a=\r\n{}\r\n0\r\n\r\n",
            b"2\r\n{}\r\n0\r\nno colon\r\n\r\n",
            b"2\r\n{}\r\n0\r\nContent-Length: 2\r\n\r\n",
            b"2\r\n{}\r\n0\r\nA: b\nC: d\r\n\r\n",
            b"2;" + b"a" * 10_000,
            b"0" * 10_000,
        ],
        ids=lambda body: repr(body[:20]),
    )
    def test_is_refused_where_it_is_badly_chunked(self, zoo: Server, body: bytes) -> None:
        with Wire(zoo) as wire:
            wire.send(request("POST", "/runs/wait", CHUNKED) + body).end()
            answer = wire.answer()
            assert answer.status == 400
            assert re.match("the body (is badly chunked|breaks off)", answer.detail)
            assert wire.closed()
        # Where it is not read, it is no answer's business; but neither is it the next request.
        with Wire(zoo) as wire:
            wire.send(request("POST", "/nope", CHUNKED) + body).end()
            assert wire.answer().status == 404
            assert wire.closed()

    @pytest.mark.parametrize(
        "body",
        [
            b'%x;name=value;other="a b"\r\n%s\r\n0;last\r\n\r\n' % (len(ECHO), ECHO),
            b"%X\r\n%s\r\n0\r\nDigest: x\r\nOther: y\r\n\r\n" % (len(ECHO), ECHO),
            b"000%x\r\n%s\r\n0000\r\n\r\n" % (len(ECHO), ECHO),
        ],
        ids=["extensions", "trailers", "zeros"],
    )
    def test_may_be_chunked_with_all_that_belongs_to_it(self, zoo: Server, body: bytes) -> None:
        answer = exchange(zoo, request("POST", "/runs/wait", CHUNKED) + body)
        assert (answer.status, answer.body) == (200, b'{"value":1}')


class TestWhatIsNotHttp:
    @pytest.mark.parametrize(
        ("status", "data"),
        [
            (400, b"hello\r\n\r\n"),
            (400, b"GET /ok\r\n\r\n"),
            (400, b"GET /ok\n\n"),
            (400, b"GET /ok HTTP/1.1\nHost: x\n\n"),
            (400, b"GET /ok HTTP/3.0\r\n\r\n"),
            (400, b"get /ok HTTP/1.1\r\n\r\n"),
            (400, b"GET  /ok HTTP/1.1\r\n\r\n"),
            (400, b"GET /o\xffk HTTP/1.1\r\n\r\n"),
            (400, b"GET http://[/ok HTTP/1.1\r\n\r\n"),
            (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            (400, b"\r\n\r\nGET /ok HTTP/1.1\r\n\r\n"),
            (400, bytes(range(256)) + b"\r\n\r\n"),
            (400, request("GET", "/ok", "no colon")),
            (400, request("GET", "/ok", "Space : x")),
            (400, request("GET", "/ok", "X: a\x00b")),
            (400, request("GET", "/ok", "X: a", " folded")),
            (400, request("GET", "/ok", "Host: other")),
            (400, request("POST", "/runs/wait", "Content-Length: 2", "Content-Length: 2") + b"{}"),
            (400, request("POST", "/runs/wait", "Content-Length: 2, 2") + b"{}"),
            (400, request("POST", "/runs/wait", "Content-Length: 2", CHUNKED) + chunked(b"{}")),
            (400, request("POST", "/runs/wait", CHUNKED, "Content-Length: 2") + b"{}"),
            (400, request("POST", "/runs/wait", CHUNKED, CHUNKED) + chunked(b"{}")),
            (400, request("POST", "/runs/wait", "Transfer-Encoding: chunked, gzip") + b"{}"),
            (400, request("POST", "/runs/wait", "Transfer-Encoding: gzip") + b"{}"),
            (400, request("POST", "/runs/wait", "Transfer-Encoding: bogus") + b"{}"),
            (400, request("POST", "/runs/wait", "Content-Length: -1")),
            (400, request("POST", "/runs/wait", "Content-Length: +2") + b"{}"),
            (400, request("POST", "/runs/wait", "Content-Length: 0x2") + b"{}"),
            (400, request("POST", "/runs/wait", "Content-Length: 2.0") + b"{}"),
            (400, request("POST", "/runs/wait", "Content-Length: \xb2") + b"{}"),
            (400, request("POST", "/runs/wait", "Content-Length:") + b"{}"),
            (400, request("POST", "/runs/wait", "Content-Length: " + "9" * 5000)),
            (413, request("POST", "/runs/wait", "Content-Length: " + "9" * 4000)),
            (414, request("GET", "/" + "a" * 8000)),
            (417, request("GET", "/ok", "Expect: the unexpected")),
            (431, request("GET", "/ok", "X: " + "a" * 8200)),
            (431, request("GET", "/ok", *(f"X{n}: y" for n in range(200)))),
            (431, request("GET", "/ok", *(f"X{n}: {'y' * 8000}" for n in range(200)))),
        ],
        ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else None,
    )
    def test_is_refused_and_the_connection_ended(
        self, zoo: Server, status: int, data: bytes
    ) -> None:
        with Wire(zoo) as wire:
            wire.send(data)
            answer = wire.answer()
            assert answer.status == status
            assert answer.detail and answer.headers["x-request-id"]
            assert answer.headers["connection"] == "close"
            assert wire.closed()

    def test_is_not_in_the_log_where_it_may_have_a_key(self, zoo: Server) -> None:
        for data in (
            request("GET", "/ok", "X-Api-Key the-key"),
            request("GET", "/ok", "the-key : x"),
            b"X-Api-Key: the-key\r\n\r\n",
            b"GET /ok?api_key=the-key HTTP/1.1 x\r\n\r\n",
        ):
            with Wire(zoo) as wire:
                wire.send(data)
                request_id = wire.answer().headers["x-request-id"]
            # Logged before it is answered.
            (line,) = [each for each in zoo.log.read_text().splitlines() if request_id in each]
            assert "Invalid request from" in line and "the-key" not in line

    def test_may_be_any_bytes(self, zoo: Server) -> None:
        noise = random.Random(1)
        for size in [1, 2, 3, 10, 100, 1000, 10_000, 100_000]:
            with Wire(zoo) as wire:
                wire.send(noise.randbytes(size)).end()
                assert wire.everything().partition(b"\r\n")[0] in (b"", b"HTTP/1.1 400 Bad Request")
        assert alive(zoo)

    def test_cannot_say_where_the_app_is_mounted(self, zoo: Server) -> None:
        with Wire(zoo) as wire:
            wire.send(request("GET", "/ok", "SCRIPT_NAME: /elsewhere"))
            assert wire.answer().status == 200

    def test_hides_no_second_request(self, zoo: Server) -> None:
        hidden = request("GET", "/info")
        for data in (
            request("POST", "/runs/wait", "Content-Length: 5", CHUNKED) + b"0\r\n\r\n" + hidden,
            request("POST", "/runs/wait", f"Content-Length: {10**9}") + hidden,
            request("POST", "/nope", CHUNKED) + b"1\r\n{}\r\n0\r\n\r\n" + hidden,
            request("POST", "/nope", CHUNKED) + b"2 \r\n{}\r\n0\r\n\r\n" + hidden,
            request("POST", "/nope", "Transfer-Encoding: chunked\x0b") + chunked() + hidden,
        ):
            with Wire(zoo) as wire:
                assert wire.send(data).answer().status in (400, 404, 413)
                assert wire.closed()


class TestConnections:
    def test_carry_many_requests_sent_ahead(self, zoo: Server) -> None:
        with Wire(zoo) as wire:
            wire.send(b"".join(run("echo", input={"value": n}) for n in range(50)))
            assert [json.loads(wire.answer().body) for _ in range(50)] == [
                {"value": n} for n in range(50)
            ]

    def test_carry_bodies_that_nobody_reads(self, zoo: Server) -> None:
        with Wire(zoo) as wire:
            for body in (b"x", b"x" * 1_000_000):
                wire.send(request("POST", "/nope", body=body))
                assert wire.answer().status == 404
                wire.send(request("PUT", "/runs/wait", CHUNKED) + chunked(body, body))
                assert wire.answer().status == 405
                wire.send(request("GET", "/ok", body=body))
                assert wire.answer().status == 200

    def test_carry_requests_that_come_in_pieces(self, zoo: Server) -> None:
        one = run("echo", input={"value": "one"})
        two = request("POST", "/runs/wait", CHUNKED) + chunked(ECHO[:9], ECHO[9:])
        three = request("GET", "/ok")
        with Wire(zoo) as wire:
            for at in range(len(one + two + three)):
                wire.send((one + two + three)[at : at + 1])
            assert wire.answer().body == b'{"value":"one"}'
            assert wire.answer().body == b'{"value":1}'
            assert wire.answer().status == 200

    def test_take_a_request_sent_behind_a_wait_for_no_disconnect(self, zoo: Server) -> None:
        with Wire(zoo) as wire:
            wait = run("sleep_sync", input={"seconds": 0.5}, on_disconnect="cancel")
            wire.send(wait + request("GET", "/info") + wait)
            for done in (True, False, True):
                answer = wire.answer()
                assert answer.status == 200
                assert ("done" in json.loads(answer.body)) == done

    def test_end_after_the_answer_where_the_client_says_so(self, zoo: Server) -> None:
        with Wire(zoo) as wire:
            wire.send(run("echo", "Connection: close", input={"value": 2}))
            answer = wire.answer()
            assert (answer.body, answer.headers["connection"]) == (b'{"value":2}', "close")
            assert wire.closed()

    def test_of_http_1_0_end_with_the_document(self, zoo: Server) -> None:
        for seconds in (0, 0.3):
            data = run("sleep_sync", input={"seconds": seconds}).replace(b"HTTP/1.1", b"HTTP/1.0")
            with Wire(zoo) as wire:
                answer = wire.send(data).answer()
                assert "transfer-encoding" not in answer.headers
                assert json.loads(answer.body)["done"] is True
                assert wire.closed()

    def test_wait_for_a_body_that_is_announced(self, zoo: Server) -> None:
        head = request("POST", "/runs/wait", "Expect: 100-continue", f"Content-Length: {len(ECHO)}")
        with Wire(zoo) as wire:
            assert wire.send(head).answer().status == 100
            answer = wire.send(ECHO).answer()
            while answer.status == 100:
                answer = wire.answer()
            assert (answer.status, answer.body) == (200, b'{"value":1}')
            assert wire.send(request("GET", "/ok")).answer().status == 200

    def test_are_not_upgraded(self, zoo: Server) -> None:
        upgrade = ("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__")
        assert exchange(zoo, run("echo", "Upgrade: h2c", *upgrade)).status == 200
        websocket = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        assert exchange(zoo, request("GET", "/ok", *websocket)).status == 400


class TestPaths:
    @pytest.mark.parametrize(
        "path",
        [
            "/nope",
            "/runs/wait/",
            "/runs//wait",
            "/runs/wait%00",
            "/runs/wait%0d%0aX:%20y",
            "/%ff%fe",
            "/../../etc/passwd",
            "/static/../app/__init__.py",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/threads/x/y",
            "/" + "a" * 4000,
        ],
        ids=lambda path: path[:30],
    )
    def test_that_are_unknown_are_not_found_whatever_the_method(
        self, zoo: Server, path: str
    ) -> None:
        for method in ("GET", "POST", "DELETE", "OPTIONS", "NOSUCH"):
            answer = exchange(zoo, request(method, path))
            assert (answer.status, answer.detail) == (404, "Not Found")

    def test_may_name_the_host_too(self, zoo: Server) -> None:
        assert exchange(zoo, request("GET", "http://elsewhere/ok")).status == 200

    @pytest.mark.parametrize("path", ["/runs/wait", "/ok", "/ready", "/info", RUN, f"{RUN}/join"])
    def test_have_their_methods_and_no_other(self, zoo: Server, path: str) -> None:
        allowed = {"POST"} if path == "/runs/wait" else {"GET", "HEAD"}
        if path == RUN:
            allowed.add("DELETE")
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "NOSUCH", "OPTIONS"):
            if method not in allowed:
                answer = exchange(zoo, request(method, path, body=b"{}"))
                assert (answer.status, answer.detail) == (405, "Method Not Allowed")
                assert set(answer.headers["allow"].split(", ")) == allowed

    @pytest.mark.parametrize("path", ["/runs/wait", "/ok", "/nope", RUN, f"{RUN}/join"])
    def test_have_no_body_for_a_head(self, zoo: Server, path: str) -> None:
        with Wire(zoo) as wire:
            wire.send(request("HEAD", path) + request("GET", "/ok"))
            assert wire.answer(head=True).status in (200, 404, 405)
            assert wire.answer().body == b'{"ok":true}\n'

    @pytest.mark.parametrize("query", ["=%ff&&;", "?" * 100, "%00", "a=" + "b" * 3000, "#x"])
    def test_take_any_query(self, zoo: Server, query: str) -> None:
        assert exchange(zoo, request("GET", f"/ok?{query}")).status == 200
        assert exchange(zoo, request("GET", f"{RUN}/join?{query}")).status == 404

    @pytest.mark.parametrize("value", ["", "yes", "%ff", "%00", "TRUE", "true%20"])
    def test_refuse_a_flag_that_is_none(self, zoo: Server, value: str) -> None:
        answer = exchange(zoo, request("GET", f"{RUN}/join?cancel_on_disconnect={value}"))
        assert answer.status == 422
        assert answer.detail == "cancel_on_disconnect: must be one of: true, 1, false, 0"


class TestHeaders:
    @pytest.mark.parametrize(
        "key",
        [
            "",
            '""',
            '"',
            "a b",
            '"a b"',
            "\xe9",
            '"\xe9"',
            "a" * 256,
            f'"{"a" * 256}"',
            "a\tb",
            '"a',
        ],
        ids=lambda key: repr(key[:10]),
    )
    def test_refuse_an_idempotency_key_that_is_none(self, zoo: Server, key: str) -> None:
        answer = exchange(zoo, run("echo", f"Idempotency-Key: {key}"))
        assert answer.status == 422
        assert answer.detail == "Idempotency-Key: must be 1 to 255 visible ASCII characters"

    def test_refuse_more_than_one_idempotency_key(self, zoo: Server) -> None:
        key = 'Idempotency-Key: "a"'
        assert exchange(zoo, run("echo", key, key)).status == 422

    @pytest.mark.parametrize("key", ["a", "~" * 255, '"a"', f'"{"!" * 255}"', UNKNOWN])
    def test_know_an_idempotency_key(self, zoo: Server, key: str) -> None:
        assert exchange(zoo, run("echo", f"Idempotency-Key: {key}")).status == 200

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"GET /ok HTTP/1.1\r\n\r\n", 400),
            (b"GET /nothing HTTP/1.1\r\n\r\n", 400),
            (b"GET /ok HTTP/1.0\r\n\r\n", 200),
        ],
    )
    def test_name_a_host_since_http_1_1(self, zoo: Server, data: bytes, status: int) -> None:
        answer = exchange(zoo, data)
        assert answer.status == status
        assert status == 200 or answer.detail == "Host: is missing"

    @pytest.mark.parametrize("host", ["", "\xff", "[", "a b", "x:99999", "a/b", "x" * 300, "a..b"])
    def test_take_or_refuse_any_host(self, zoo: Server, host: str) -> None:
        data = run("echo").replace(b"Host: runwait", f"Host: {host}".encode("latin-1"))
        answer = exchange(zoo, data)
        if answer.status != 200:
            assert (answer.status, answer.detail) == (400, "Host: must be a host name")

    @pytest.mark.parametrize(
        "header",
        [
            "Accept: nothing/atall",
            "Accept-Encoding: gzip;q=x",
            "Content-Encoding: gzip",
            "Cookie: " + "a" * 5000,
            "Range: bytes=5-2",
            "If-None-Match: *",
            "Authorization: \xff",
            "X-Forwarded-For: \xff, unknown, ::1",
            "Connection: keep-alive, close, \xff",
            "PATH_INFO: /elsewhere",
            "Content-Type: \xff; charset=nope",
        ],
        ids=lambda header: header[:20],
    )
    def test_of_other_kinds_change_nothing(self, zoo: Server, header: str) -> None:
        with Wire(zoo) as wire:
            answer = wire.send(run("echo", header, input={"value": 3})).answer()
        assert (answer.status, answer.body) == (200, b'{"value":3}')

    def test_give_a_request_its_id_only_where_it_is_plain_text(self, zoo: Server) -> None:
        def seen(*headers: str) -> str:
            answer = exchange(zoo, run("who", *headers))
            found: str = json.loads(answer.body)["seen"]["configurable"]["langgraph_request_id"]
            return found

        assert seen("X-Request-ID: request 1") == "request 1"
        for value in ("", "\xe9", "\x9b31m", "a" * 8000, "a\tb"):
            assert re.fullmatch("[0-9a-f-]{36}", seen(f"X-Request-ID: {value}"))


class TestTheLog:
    """Its lines are told apart by programs, so a client must not be able to make some up."""

    ATTACKS = (
        request("GET", "/%0a%7b%22level%22%3a%22FORGED%22%7d%0a"),
        request("GET", "/%1b[31mFORGED%07%08%c2%9b"),
        run("echo", "X-Request-ID: FORGED\x9b\x85"),
        run("FORGED\n\x1b[31m\x9b"),
        request("GET", f"/threads/FORGED%0a/runs/{UNKNOWN}"),
        b"FORGED\x1b[31m\x9b / HTTP/1.1\r\n\r\n",
        request("GET", "/ok", "FORGED\x1b: x"),
        request("POST", "/runs/wait", CHUNKED) + b"FORGED\x1b\x9b\r\n\r\n",
    )

    def test_is_one_object_a_line_in_json(self, zoo: Server) -> None:
        before = zoo.log.stat().st_size
        for data in self.ATTACKS:
            exchange(zoo, data)
        for line in zoo.log.read_bytes()[before:].split(b"\n")[:-1]:
            assert json.loads(line)["level"] != "FORGED"

    def test_has_no_control_characters_in_text(self, serve: ServerFactory) -> None:
        server = serve(LANGGRAPH_CONFIG=ZOO, LOG_FORMAT="text")
        for data in self.ATTACKS:
            exchange(server, data)
        eventually(lambda: server.log.read_bytes().count(b"method=POST") >= 3)
        lines = server.log.read_text(errors="strict").split("\n")
        assert [line for line in lines if re.search(r"[\x00-\x1f\x7f-\x9f]", line)] == []
        assert [line for line in lines if line and not re.match(r"\d\d:\d\d:\d\d ", line)] == []

    def test_tells_of_each_request(self, zoo: Server) -> None:
        mine = "the one that is looked for"
        answer = exchange(zoo, run("echo", f"X-Request-ID: {mine}"))
        lines = eventually(
            lambda: [
                each
                for each in map(json.loads, zoo.log.read_text().split("\n")[:-1])
                if each.get("request_id") == mine and each["message"] == "request"
            ]
        )
        (line,) = lines
        _, _, thread_id, _, run_id = answer.headers["content-location"].split("/")
        assert line["level"] == "INFO"
        assert (line["method"], line["path"], line["status"]) == ("POST", "/runs/wait", 200)
        assert (line["thread_id"], line["run_id"]) == (thread_id, run_id)
        assert line["duration_ms"] >= 0


MANY = 1001
NO_THREAD = "/threads/01a20acd-2b83-70b2-a8d5-eb34efcb8229"
NOBODY = "01a20acd-2b83-70b2-a8d5-eb34efcb8229"


@pytest.mark.parametrize(
    ("method", "path", "field", "value"),
    [
        *(
            ("POST", path, field, value)
            for path in ("/runs/wait", f"{NO_THREAD}/runs/wait")
            for field, value in (
                ("command.goto", ["a"] * MANY),
                ("command.update", [["value", 1]] * MANY),
                ("config.tags", ["a"] * MANY),
                ("feedback_keys", ["a"] * MANY),
                ("interrupt_before", ["a"] * MANY),
                ("interrupt_after", ["a"] * MANY),
            )
        ),
        ("POST", "/runs/cancel", "run_ids", [NOBODY] * MANY),
        ("POST", "/threads", "supersteps", [{}] * MANY),
        *(
            ("POST", path, field, value)
            for path in ("/threads/search", "/threads/count")
            for field, value in (
                ("ids", [NOBODY] * MANY),
                ("metadata", {"a": list(range(MANY))}),
                ("values", {"a": [{}] * 21}),
            )
        ),
        ("POST", "/threads/search", "extract", {"a": "values" + ".a" * MANY}),
        ("POST", "/threads/prune", "thread_ids", [NOBODY] * MANY),
        ("POST", f"{NO_THREAD}/history", "metadata", {"a": [[]] * 21}),
        ("POST", "/assistants/search", "metadata", {"a": list(range(MANY))}),
        ("POST", "/assistants/count", "metadata", {"a": list(range(MANY))}),
        ("POST", f"/assistants/{NOBODY}/versions", "metadata", {"a": list(range(MANY))}),
        ("POST", "/store/items/search", "filter", {"a": list(range(MANY))}),
        ("PUT", "/store/items", "index", ["a"] * MANY),
    ],
)
def test_what_costs_more_than_its_bytes_is_bounded_and_named(zoo, method, path, field, value):
    outer, _, inner = field.partition(".")
    body = {"assistant_id": "echo", outer: {inner: value} if inner else value}
    answer = zoo.http.request(method, path, json=body)
    assert f"{field}: must have " in detail(answer, 422)
