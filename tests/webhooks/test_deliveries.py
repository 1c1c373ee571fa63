"""Webhooks on their way: real receivers, a real Redis, and processes that die."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from runwait.storage.connection import Storage
from runwait.storage.outbox import Outbox
from runwait.version import __version__
from runwait.webhooks import deliveries as module
from runwait.webhooks import targets as webhooks
from runwait.webhooks.deliveries import Deliveries, pause_after
from runwait.webhooks.targets import WebhookRules, check_target
from tests.e2e.programs import require
from tests.ports import free_port
from tests.receiver import Receiver, status
from tests.servers import PATIENCE, ROOT, RedisServer, eventually

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
LOCAL = WebhookRules(allowed_hosts=("127.0.0.0/8",))
BODY = b'{"run_id":"r","big":123456789012345678901234567890,"text":"\xc3\xa9"}'

Start = Callable[..., Deliveries]
Headers = Sequence[tuple[str, str]]


@pytest.fixture
def storage(shared_valkey: RedisServer) -> Storage:
    storage = Storage(shared_valkey.url, 2)
    storage.start()
    return storage


@pytest.fixture
def outbox(storage: Storage) -> Outbox:
    return Outbox(storage, "test")


@pytest.fixture
def start(storage: Storage) -> Iterator[Start]:
    """Starts deliveries, and stops them with the test."""
    with ExitStack() as stack:

        def begin(
            rules: WebhookRules = LOCAL, secret: str | None = None, headers: Headers = ()
        ) -> Deliveries:
            deliveries = Deliveries(Outbox(storage, "test"), rules, secret, headers)
            stack.callback(deliveries.stop, 0)
            deliveries.start()
            return deliveries

        yield begin


@pytest.fixture
def receivers() -> Iterator[Callable[..., Receiver]]:
    """Starts receivers, and closes them with the test."""
    with ExitStack() as stack:

        def begin(tls: ssl.SSLContext | None = None) -> Receiver:
            receiver = Receiver(tls)
            stack.callback(receiver.close)
            return receiver

        yield begin


@pytest.fixture
def receiver(receivers: Callable[..., Receiver]) -> Receiver:
    return receivers()


@pytest.fixture
def held(receiver: Receiver) -> Iterator[Callable[[str], threading.Event]]:
    """Has the receiver answer requests to a path when the test says so."""
    events: list[threading.Event] = []

    def hold(path: str) -> threading.Event:
        event = threading.Event()
        events.append(event)

        def answer(handler: BaseHTTPRequestHandler) -> None:
            event.wait(PATIENCE)
            status(200)(handler)

        receiver.by_path[path] = answer
        return event

    yield hold
    for event in events:
        event.set()


def is_empty(server: RedisServer) -> bool:
    return not server.client.exists("{test}:outbox")


def failure(server: RedisServer, run_id: str) -> str:
    """Why the last attempt failed, once one did."""
    found = eventually(lambda: server.client.hget(f"{{test}}:webhook:{run_id}", "error"))
    return found.decode()


def make_due(server: RedisServer) -> None:
    """As if all pauses and leases were over."""
    for receiver in server.client.zrange("{test}:outbox", 0, -1):
        queue = f"{{test}}:outbox:{receiver.decode()}"
        for run_id in server.client.zrange(queue, 0, -1):
            server.client.zadd(queue, {run_id: 1})
        server.client.zadd("{test}:outbox", {receiver: 1})


def names(monkeypatch: pytest.MonkeyPatch, **known: list[str] | Callable[[], list[str]]) -> None:
    """Has the system's resolver know these names, with `_` for a dot, and no others."""

    def resolve(host: str) -> list[str]:
        found = known.get(host.rstrip(".").replace(".", "_"))
        if found is None:
            raise OSError("unknown")
        return found() if callable(found) else found

    monkeypatch.setattr(webhooks, "_system_resolve", resolve)


class TestARequest:
    def test_is_the_runs_body_and_when_it_was_sent(
        self, start: Start, outbox: Outbox, receiver: Receiver, shared_valkey: RedisServer
    ) -> None:
        before = datetime.now(UTC)
        outbox.add("r", f"{receiver.url}/a/b?c=%20d", BODY)
        start()
        eventually(lambda: is_empty(shared_valkey))
        [received] = receiver.received
        assert received.path == "/a/b?c=%20d"
        assert received.content.startswith(BODY[:-1] + b",")
        content = received.json
        sent_at = datetime.fromisoformat(content.pop("webhook_sent_at"))
        assert content == json.loads(BODY)
        assert before <= sent_at <= datetime.now(UTC)
        assert received.headers.pop("webhook-timestamp") == str(int(sent_at.timestamp()))
        assert received.headers == {
            "host": f"127.0.0.1:{receiver.port}",
            "content-type": "application/json",
            "content-length": str(len(received.content)),
            "user-agent": f"runwait/{__version__}",
            "connection": "close",
            "webhook-id": "r",
        }

    def test_has_the_operators_headers_too(
        self, start: Start, outbox: Outbox, receiver: Receiver, shared_valkey: RedisServer
    ) -> None:
        outbox.add("r", receiver.url, BODY)
        start(headers=[("Authorization", "Bearer x"), ("User-Agent", "us/1")])
        eventually(lambda: is_empty(shared_valkey))
        [received] = receiver.received
        assert received.headers["authorization"] == "Bearer x"
        assert received.headers["user-agent"] == "us/1"
        assert received.headers["webhook-id"] == "r"

    def test_is_signed_over_what_is_sent_if_there_is_a_secret(
        self, start: Start, outbox: Outbox, receiver: Receiver, shared_valkey: RedisServer
    ) -> None:
        outbox.add("r", receiver.url, BODY)
        start(secret=SECRET)
        eventually(lambda: is_empty(shared_valkey))
        [received] = receiver.received
        signed = b"r." + received.headers["webhook-timestamp"].encode() + b"." + received.content
        digest = hmac.new(bytes(range(32)), signed, hashlib.sha256).digest()
        expected = "v1," + base64.b64encode(digest).decode()
        assert received.headers["webhook-signature"] == expected

    def test_goes_to_the_base_url_if_it_is_relative(
        self, start: Start, outbox: Outbox, receiver: Receiver, shared_valkey: RedisServer
    ) -> None:
        outbox.add("r", "done?x=1", BODY)
        start(WebhookRules(f"{receiver.url}/hooks/all", LOCAL.allowed_hosts))
        eventually(lambda: is_empty(shared_valkey))
        assert [each.path for each in receiver.received] == ["/hooks/done?x=1"]

    def test_of_a_name_goes_to_the_address_that_was_checked(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        asked = []

        def look_up() -> list[str]:
            asked.append(1)
            return ["127.0.0.1"]

        names(monkeypatch, hook_example=look_up)
        outbox.add("r", f"http://Hook.example.:{receiver.port}/x", BODY)
        start()
        eventually(lambda: is_empty(shared_valkey))
        assert receiver.received[0].headers["host"] == f"hook.example.:{receiver.port}"
        assert len(asked) == 1

    def test_takes_the_next_address_where_one_is_dead(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        names(monkeypatch, hook_example=["127.0.0.2", "127.0.0.1"])
        outbox.add("r", f"http://hook.example:{receiver.port}/", BODY)
        start()
        eventually(lambda: is_empty(shared_valkey))
        assert len(receiver.received) == 1

    def test_passes_by_proxies_of_the_environment(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
        outbox.add("r", receiver.url, BODY)
        start()
        eventually(lambda: is_empty(shared_valkey))
        assert len(receiver.received) == 1


class TestAnAnswer:
    @pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
    def test_of_2xx_is_success(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        code: int,
    ) -> None:
        receiver.answers.append(status(code))
        outbox.add("r", receiver.url, BODY)
        start()
        eventually(lambda: is_empty(shared_valkey))
        assert outbox.dead(1) == []

    @pytest.mark.parametrize("code", [304, 400, 404, 410, 429, 500, 503])
    def test_of_another_status_is_a_failure(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        code: int,
    ) -> None:
        receiver.answers.append(status(code))
        outbox.add("r", receiver.url, BODY)
        start()
        assert failure(shared_valkey, "r") == f"the answer was {code}"

    @pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
    def test_that_redirects_is_a_failure_and_not_followed(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        code: int,
    ) -> None:
        receiver.by_path["/"] = status(code, ("Location", f"{receiver.url}/elsewhere"))
        outbox.add("r", f"{receiver.url}/", BODY)
        start()
        assert failure(shared_valkey, "r") == f"the answer was {code}"
        assert [each.path for each in receiver.received] == ["/"]

    def test_without_end_is_cut_off_and_counts_by_its_status(
        self, start: Start, outbox: Outbox, receiver: Receiver, shared_valkey: RedisServer
    ) -> None:
        sent: list[int] = []
        cut = threading.Event()

        def endless(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            try:
                while True:
                    sent.append(handler.wfile.write(b"x" * 65_536))
            except OSError:
                cut.set()

        receiver.answers.append(endless)
        outbox.add("r", receiver.url, BODY)
        start()
        eventually(lambda: is_empty(shared_valkey))
        assert cut.wait(PATIENCE)
        # What the system's buffers hold, and no more.
        assert sum(sent) < 64 * 1024 * 1024

    def test_whose_body_drips_counts_by_its_status(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(module, "BODY_SECONDS", 0.2)

        def drip(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            drops(handler)

        receiver.answers.append(drip)
        outbox.add("r", receiver.url, BODY)
        start()
        eventually(lambda: is_empty(shared_valkey))

    @pytest.mark.parametrize(
        "beginning", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 C\r\n\r\n"]
    )
    def test_that_drips_holds_nothing_up_beyond_a_total(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
        beginning: bytes,
    ) -> None:
        monkeypatch.setattr(module, "ATTEMPT_SECONDS", 0.3)

        def drip(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(beginning)
            drops(handler)

        receiver.by_path["/drip"] = drip
        outbox.add("r", f"{receiver.url}/drip", BODY)
        start()
        assert failure(shared_valkey, "r") == "no answer within 0.3 seconds"

    @pytest.mark.parametrize(
        "raw", [b"", b"\r\n\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nbad\r\n\r\n", b"\0" * 999]
    )
    def test_that_is_not_http_is_a_failure(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        raw: bytes,
    ) -> None:
        receiver.answers.append(lambda handler: handler.wfile.write(raw) and None)
        outbox.add("r", receiver.url, BODY)
        start()
        text = failure(shared_valkey, "r")
        assert "RemoteProtocolError" in text
        assert len(text) <= module.REASON_CHARACTERS

    def test_of_nobody_is_a_failure(
        self, start: Start, outbox: Outbox, shared_valkey: RedisServer
    ) -> None:
        outbox.add("r", f"http://127.0.0.1:{free_port()}/", BODY)
        start()
        assert "ConnectError" in failure(shared_valkey, "r")


def drops(handler: BaseHTTPRequestHandler) -> None:
    """Sends a byte now and then, until nobody listens any more."""
    while True:
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.02)


class TestTheAddressRules:
    def test_hold_for_the_address_that_a_name_has_by_then(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        answers = iter([["93.184.215.14"], ["127.0.0.1"]])
        names(monkeypatch, rebinds_example=lambda: next(answers))
        url = f"http://rebinds.example:{receiver.port}/"
        check_target(url, WebhookRules())
        outbox.add("r", url, BODY)
        start(WebhookRules())
        assert failure(shared_valkey, "r") == "its URL must point to a public address"
        assert receiver.received == []

    @pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.215.14", "127.0.0.1"]])
    def test_hold_for_every_address_of_a_name(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
        addresses: list[str],
    ) -> None:
        names(monkeypatch, both_example=addresses)
        outbox.add("r", f"http://both.example:{receiver.port}/", BODY)
        start(WebhookRules())
        assert failure(shared_valkey, "r") == "its URL must point to a public address"
        assert receiver.received == []

    @pytest.mark.parametrize(
        ("url", "rules", "text"),
        [
            ("http://127.0.0.1:{port}/", WebhookRules(), "must point to a public address"),
            ("http://[::ffff:127.0.0.1]:{port}/", WebhookRules(), "must point to a public address"),
            ("http://127.0.0.1:{port}/", WebhookRules(require_https=True), "must be an https URL"),
            ("/hook", LOCAL, "must be an absolute http or https URL"),
            ("http://u:p@127.0.0.1:{port}/", LOCAL, "must not contain a user name or password"),
        ],
    )
    def test_are_those_of_now_not_of_when_the_run_was_created(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        url: str,
        rules: WebhookRules,
        text: str,
    ) -> None:
        outbox.add("r", url.format(port=receiver.port), BODY)
        start(rules)
        assert failure(shared_valkey, "r") == f"its URL {text}"
        assert receiver.received == []

    def test_a_resolver_that_hangs_delays_nobody_else(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        answer, asked = threading.Event(), threading.Event()

        def hang() -> list[str]:
            asked.set()
            answer.wait(PATIENCE)
            return []

        names(monkeypatch, hangs_example=hang)
        for number in range(20):
            outbox.add(f"hangs{number}", f"http://hangs.example:{number + 1}/", BODY)
        deliveries = start()
        try:
            assert asked.wait(PATIENCE)
            outbox.add("r", receiver.url, BODY)
            deliveries.wake()
            eventually(lambda: receiver.received)
            assert "within 2 seconds" in failure(shared_valkey, "hangs0")
        finally:
            answer.set()


class TestTls:
    @pytest.fixture
    def tls(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> tuple[ssl.SSLContext, list[str | None]]:
        """A context of a certificate for hook.example that is believed here; the SNI it sees."""
        key, certificate = tmp_path / "key", tmp_path / "certificate"
        subprocess.run(
            [
                *(
                    require("openssl"),
                    "req",
                    "-x509",
                    "-newkey",
                    "rsa:2048",
                    "-nodes",
                    "-days",
                    "2",
                ),
                *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=hook.example"),
                *("-addext", "subjectAltName=DNS:hook.example"),
            ],
            check=True,
            capture_output=True,
        )
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        seen: list[str | None] = []
        context.sni_callback = lambda connection, name, own: seen.append(name)
        return context, seen

    @pytest.mark.parametrize("host", ["hook.example", "hook.example."])
    def test_the_certificate_is_checked_for_the_name(
        self,
        start: Start,
        outbox: Outbox,
        receivers: Callable[..., Receiver],
        shared_valkey: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
        tls: tuple[ssl.SSLContext, list[str | None]],
        host: str,
    ) -> None:
        receiver = receivers(tls[0])
        names(monkeypatch, hook_example=["127.0.0.1"])
        outbox.add("r", f"https://{host}:{receiver.port}/x", BODY)
        start()
        eventually(lambda: is_empty(shared_valkey))
        assert receiver.received[0].headers["host"] == f"{host}:{receiver.port}"
        assert tls[1] == ["hook.example"]

    @pytest.mark.parametrize("is_known", [True, False])
    def test_another_certificate_is_not_believed(
        self,
        start: Start,
        outbox: Outbox,
        receivers: Callable[..., Receiver],
        shared_valkey: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
        tls: tuple[ssl.SSLContext, list[str | None]],
        is_known: bool,
    ) -> None:
        receiver = receivers(tls[0])
        names(monkeypatch, hook_example=["127.0.0.1"], other_example=["127.0.0.1"])
        if not is_known:
            monkeypatch.delenv("SSL_CERT_FILE")
        host = "other.example" if is_known else "hook.example"
        outbox.add("r", f"https://{host}:{receiver.port}/x", BODY)
        start()
        assert "CERTIFICATE_VERIFY_FAILED" in failure(shared_valkey, "r")
        assert receiver.received == []


class TestRetries:
    def test_keep_the_id_and_are_stamped_and_signed_anew(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(module, "pause_after", lambda attempts, age: 0.0)
        receiver.answers += [status(500), status(500)]
        outbox.add("r", receiver.url, BODY)
        start(secret=SECRET)
        eventually(lambda: is_empty(shared_valkey))
        assert [each.id for each in receiver.received] == ["r"] * 3
        assert len({each.json["webhook_sent_at"] for each in receiver.received}) == 3
        assert len({each.headers["webhook-signature"] for each in receiver.received}) == 3

    def test_come_when_they_are_due_without_being_asked_for(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        pauses: list[tuple[int, float]] = []

        def pause(attempts: int, age: float) -> float:
            pauses.append((attempts, age))
            return 0.1

        monkeypatch.setattr(module, "pause_after", pause)
        receiver.answers += [status(500)] * 3
        outbox.add("r", receiver.url, BODY)
        start()
        eventually(lambda: is_empty(shared_valkey))
        assert [attempts for attempts, _ in pauses] == [1, 2, 3]
        assert pauses[0][1] < pauses[1][1] < pauses[2][1]
        assert pauses[2][1] >= 0.2

    def test_end_in_a_dead_letter_that_can_be_retried(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(module, "pause_after", lambda attempts, age: None)
        receiver.answers.append(status(500))
        outbox.add("r", receiver.url, BODY)
        deliveries = start()
        [letter] = eventually(lambda: outbox.dead(10))
        assert (letter.run_id, letter.url) == ("r", receiver.url)
        assert (letter.attempts, letter.error) == (1, "the answer was 500")
        assert is_empty(shared_valkey)
        outbox.retry("r")
        deliveries.wake()
        eventually(lambda: len(receiver.received) == 2 and is_empty(shared_valkey))
        assert outbox.dead(10) == []


class TestPauses:
    def test_have_full_jitter_below_a_bound_that_doubles_from_seconds_to_hours(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bounds = []
        monkeypatch.setattr(random, "uniform", lambda low, high: bounds.append((low, high)) or high)
        given = [pause_after(attempts, 0) for attempts in (*range(1, 20), 10_000)]
        assert bounds == [(0, bound) for bound in given]
        assert given[:12] == [5 * 2**n for n in range(12)]
        assert set(given[12:]) == {4 * 3600}

    def test_are_never_none_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(random, "uniform", lambda low, high: low)
        assert pause_after(1, 0) == 1.0

    def test_end_after_a_day_and_not_before(self) -> None:
        for _ in range(100):
            age, attempts = 0.0, 1
            while (pause := pause_after(attempts, age)) is not None:
                age += pause
                attempts += 1
            assert timedelta(hours=24) <= timedelta(seconds=age) <= timedelta(hours=28)
            assert attempts > 8


class TestASlowReceiver:
    def test_delays_nobody_else_and_is_not_flooded(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        receivers: Callable[..., Receiver],
        shared_valkey: RedisServer,
        held: Callable[[str], threading.Event],
    ) -> None:
        go_on = held("/slow")
        for number in range(20):
            outbox.add(f"slow{number}", f"{receiver.url}/slow", BODY)
        deliveries = start()
        eventually(lambda: len(receiver.received) == module.PER_RECEIVER)
        others = [receivers() for _ in range(3)]
        for number, other in enumerate(others):
            outbox.add(f"other{number}", other.url, BODY)
            deliveries.wake()
        eventually(lambda: all(other.received for other in others))
        assert len(receiver.received) == module.PER_RECEIVER
        go_on.set()
        eventually(lambda: is_empty(shared_valkey))
        assert Counter(each.id for each in receiver.received) == {f"slow{n}": 1 for n in range(20)}

    def test_has_one_place_where_many_are_slow(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        receivers: Callable[[], Receiver],
        shared_valkey: RedisServer,
        held: Callable[[str], threading.Event],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(module, "CONCURRENCY", 3 * module.PER_RECEIVER)
        slow = [f"host{n}_example" for n in range(6)]
        names(monkeypatch, **{name: ["127.0.0.1"] for name in slow})
        go_on = held("/slow")
        for name in slow:
            for number in range(20):
                host = name.replace("_", ".")
                outbox.add(f"{name}{number}", f"http://{host}:{receiver.port}/slow", BODY)
        other = receivers()
        outbox.add("other", other.url, BODY)
        start()
        eventually(lambda: other.received)
        go_on.set()
        eventually(lambda: is_empty(shared_valkey))
        assert len(receiver.received) == 120

    def test_leaves_places_where_it_is_not_alone(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(module, "CONCURRENCY", 3)
        names(monkeypatch, **{f"host{n}_example": ["127.0.0.1"] for n in range(10)})
        barrier = threading.Barrier(3)
        lock, now, most = threading.Lock(), [0], [0]

        def answer(handler: BaseHTTPRequestHandler) -> None:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            barrier.wait(PATIENCE)
            with lock:
                now[0] -= 1
            status(200)(handler)

        receiver.by_path["/"] = answer
        for number in range(9):
            outbox.add(f"r{number}", f"http://host{number}.example:{receiver.port}/", BODY)
        start()
        eventually(lambda: is_empty(shared_valkey))
        assert most == [3]
        assert len(receiver.received) == 9


class TestAStop:
    def test_gives_attempts_their_time(
        self,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        held: Callable[[str], threading.Event],
        in_thread: Callable[..., threading.Thread],
    ) -> None:
        go_on = held("/slow")
        outbox.add("r", f"{receiver.url}/slow", BODY)
        deliveries = Deliveries(outbox, LOCAL)
        deliveries.start()
        eventually(lambda: receiver.received)
        stopping = in_thread(deliveries.stop, PATIENCE)
        outbox.add("later", receiver.url, BODY)
        go_on.set()
        stopping.join(PATIENCE)
        assert [each.id for each in receiver.received] == ["r"]
        assert shared_valkey.client.zcard(f"{{test}}:outbox:127.0.0.1:{receiver.port}") == 1

    def test_gives_back_what_takes_longer(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        held: Callable[[str], threading.Event],
    ) -> None:
        go_on = held("/slow")
        outbox.add("r", f"{receiver.url}/slow", BODY)
        first = start()
        eventually(lambda: receiver.received)
        first.stop(0)
        assert shared_valkey.client.hget("{test}:webhook:r", "attempts") == b"0"
        go_on.set()
        start()
        eventually(lambda: is_empty(shared_valkey))
        assert [each.id for each in receiver.received] == ["r", "r"]

    def test_is_over_at_once_where_nothing_is_under_way(self, start: Start, outbox: Outbox) -> None:
        deliveries = start()
        deliveries.stop(PATIENCE)
        deliveries.stop(PATIENCE)
        deliveries.wake()
        never_started = Deliveries(outbox, LOCAL)
        never_started.wake()
        never_started.stop(PATIENCE)


PROGRAM = """
import signal, sys
from runwait.webhooks.deliveries import Deliveries
from runwait.webhooks.targets import WebhookRules
from runwait.storage.connection import Storage, StorageUnavailable
from runwait.storage.outbox import Outbox

url, *secret = sys.argv[1:]
storage = Storage(url, 2)
storage.start()
rules = WebhookRules(allowed_hosts=("127.0.0.0/8",))
Deliveries(Outbox(storage, "test"), rules, *secret).start()
signal.pause()
"""


@pytest.fixture
def processes(shared_valkey: RedisServer) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes that deliver, and kills them with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*secret: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PROGRAM, shared_valkey.url, *secret]
        started.append(subprocess.Popen(command, cwd=ROOT))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait(PATIENCE)


class TestProcesses:
    def test_that_share_an_outbox_deliver_each_webhook_once(
        self,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        held: Callable[[str], threading.Event],
        processes: Callable[..., subprocess.Popen[bytes]],
    ) -> None:
        go_on = held("/slow")
        for number in range(100):
            outbox.add(f"r{number}", f"{receiver.url}/slow", BODY)
        processes()
        processes(SECRET)
        eventually(lambda: len(receiver.received) == 2 * module.PER_RECEIVER)
        go_on.set()
        eventually(lambda: is_empty(shared_valkey))
        assert Counter(each.id for each in receiver.received) == {f"r{n}": 1 for n in range(100)}
        signed = ["webhook-signature" in each.headers for each in receiver.received]
        assert min(signed.count(True), signed.count(False)) >= module.PER_RECEIVER

    def test_that_die_leave_theirs_to_the_others(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        shared_valkey: RedisServer,
        held: Callable[[str], threading.Event],
        processes: Callable[..., subprocess.Popen[bytes]],
    ) -> None:
        go_on = held("/slow")
        outbox.add("r", f"{receiver.url}/slow", BODY)
        process = processes()
        eventually(lambda: receiver.received)
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
        go_on.set()
        deliveries = start()
        lease = shared_valkey.client.zrange("{test}:outbox", 0, -1, withscores=True)[0][1]
        assert lease / 1000 > time.time()
        make_due(shared_valkey)
        deliveries.wake()
        eventually(lambda: is_empty(shared_valkey))
        assert [each.id for each in receiver.received] == ["r", "r"]


class TestARedisThatGoesAway:
    @pytest.fixture
    def shared_valkey(self, valkey: RedisServer) -> RedisServer:
        """In place of the shared one, for the storage too."""
        return valkey

    def test_a_webhook_survives_its_restart_and_that_of_the_process(
        self, start: Start, outbox: Outbox, receiver: Receiver, valkey: RedisServer
    ) -> None:
        receiver.answers.append(status(500))
        outbox.add("r", receiver.url, BODY)
        first = start()
        failure(valkey, "r")
        first.stop(0)
        valkey.stop()
        valkey.start()
        make_due(valkey)
        start()
        eventually(lambda: is_empty(valkey))
        assert [each.id for each in receiver.received] == ["r", "r"]

    def test_what_was_delivered_while_it_was_away_is_delivered_once(
        self,
        start: Start,
        outbox: Outbox,
        receiver: Receiver,
        valkey: RedisServer,
        held: Callable[[str], threading.Event],
    ) -> None:
        go_on = held("/slow")
        outbox.add("r", f"{receiver.url}/slow", BODY)
        start()
        eventually(lambda: receiver.received)
        valkey.stop()
        go_on.set()
        valkey.start()
        eventually(lambda: is_empty(valkey))
        assert [each.id for each in receiver.received] == ["r"]

    def test_what_is_due_once_it_is_back_is_found_without_being_told(
        self, start: Start, outbox: Outbox, receiver: Receiver, valkey: RedisServer
    ) -> None:
        outbox.add("r", receiver.url, BODY)
        valkey.stop()
        start()
        valkey.start()
        eventually(lambda: is_empty(valkey))
        assert [each.id for each in receiver.received] == ["r"]


def test_where_webhooks_are_off_what_is_to_be_delivered_waits(
    start: Start, outbox: Outbox, receiver: Receiver, shared_valkey: RedisServer
) -> None:
    outbox.add("r", receiver.url, BODY)
    before = threading.active_count()
    start(WebhookRules(allowed_hosts=LOCAL.allowed_hosts, off=True)).wake()
    assert (threading.active_count(), receiver.received) == (before, [])
    start()
    eventually(lambda: is_empty(shared_valkey))
    assert [each.id for each in receiver.received] == ["r"]
