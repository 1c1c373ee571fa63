"""The process's connections to Redis, shared by all its threads.

A thread that finds a connection free uses it. One that finds none waits; whoever is done with a
connection hands it to the one that has waited longest, and that thread sends what all of them
wait for in one round trip. So a few connections carry hundreds of threads, each of which is
woken once, and a lone call pays for nothing.

Large values, asked for or answered, travel one after another on a connection of their own, so
that nothing small waits behind them. They may take as long as the network needs: what is
limited is how long nothing moves.

Request threads never connect. One thread of its own does that whenever the connection is
lost, so that a server that is silent, unreachable or unresolvable costs a request at most
`WAIT_SECONDS` twice, and nothing at all while it is known to be away.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import itertools
import logging
import math
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    DataError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from runwait.storage import urls

log = logging.getLogger("runwait.storage")

# Longest wait for an answer, and for a connection: together under a second.
WAIT_SECONDS = 0.4
# Within this time a call in time is done or not at all: longer than any call may take.
IN_TIME_SECONDS = 2.0
# Calls sent in one round trip, at most.
BATCH = 64
# A call with more bytes than this, or in its answer, is a large one.
LARGE_BYTES = 65_536
# How long nothing may move of a large value, while Redis answers others.
STALL_SECONDS = 5.0
# How long replicas may take to confirm a write: less than an answer may.
CONFIRM_SECONDS = 0.3
# Large calls that may wait for others. More are refused at once: they hold threads.
LARGE_WAITING = 8
# Threads that send for event loops.
SENDERS = 4
# Longest pause between attempts to connect. Processes must all be back within a lease, or those
# that are take the runs of those that are not.
PAUSE_SECONDS = 0.5

# What a script is given; or what makes it as the call is sent, told how long that may take.
Argument = str | bytes | int | Callable[[float], str | int]

# What a script that has names for its arguments is given under one.
AnyField = str | bytes | int | list[Any] | tuple[Any, ...] | None

# redis-py's connections; their methods have no types.
_Connection = Any

_LUA = Path(__file__).parent / "lua"


def pauses(longest: float) -> Iterator[float]:
    """Yield growing pauses between attempts, in seconds, of `longest` at most, without end."""
    backoff = ExponentialWithJitterBackoff(base=0.05, cap=longest)
    for failures in itertools.count(1):
        # redis-py raises 2 to this power, for which a float has no room some time.
        yield backoff.compute(min(failures, 32))


class StorageUnavailable(Exception):
    """Redis did not take or answer a call; the text says why.

    Attributes:
        doubtful: it was sent and may have been done, now or a little later.
    """

    doubtful = False


class StorageUnsuitable(Exception):
    """This Redis cannot be used; the text says why."""


class _Unconfirmed(RedisConnectionError):
    """Redis took something that too few replicas have, which a failover would lose."""


class _Large(Exception):
    """This is to be asked for on the connection for large values."""


@dataclass(frozen=True)
class Script:
    """A Lua script, known to Redis by its SHA-1."""

    text: str
    sha: str
    large: bool = False

    @classmethod
    def of(cls, text: str, *, large: bool = False) -> Script:
        """The script with this text; its answer may be large."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), large)

    @classmethod
    def load(cls, name: str, *libraries: str, large: bool = False) -> Script:
        """The script `name` from the package's lua folder, after the libraries that it calls."""
        names = ("named", *libraries, name)
        text = "".join((_LUA / f"{each}.lua").read_text() for each in names)
        return cls.of(text, large=large)

    @classmethod
    def over(cls, name: str, inner: str, function: str, *libraries: str) -> Script:
        """The script `name`, which calls another script, `inner`, as a function."""
        texts = [(_LUA / f"{each}.lua").read_text() for each in ("named", *libraries)]
        body = (_LUA / f"{inner}.lua").read_text()
        texts += [f"local function {function}(KEYS, ARGV)\n{body}\nend\n"]
        return cls.of("".join([*texts, (_LUA / f"{name}.lua").read_text()]))


def named(**fields: AnyField) -> list[str | bytes | int]:
    """The fields of a script that reads them by name (lua/named.lua).

    What is None or False is absent; True is there.
    """
    given: list[str | bytes | int] = []
    for name, value in fields.items():
        if value is None or value is False:
            continue
        if isinstance(value, (list, tuple)):
            given += ("", name, len(value), *value)
        else:
            given += (name, "1" if value is True else value)
    return given


class AnyScript(Protocol):
    """What can be run: a Lua script and its SHA-1, in hexadecimal."""

    @property
    def text(self) -> str:
        """The script."""

    @property
    def sha(self) -> str:
        """Its SHA-1."""


@dataclass(eq=False)
class _Call:
    script: AnyScript
    keys: Sequence[str]
    args: Sequence[Argument]
    # Of a call that waits: what the script answers; or a _Turn, for the one who is to send.
    answer: Future[Any] = field(init=False)

    @property
    def size(self) -> int:
        return sum(len(each) for each in self.args if isinstance(each, str | bytes))

    def command(self) -> tuple[Any, ...]:
        """The command, by the hash of the script."""
        args = (each(IN_TIME_SECONDS) if callable(each) else each for each in self.args)
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *args)

    def pieces(self) -> Iterator[bytes]:
        """The command with the whole script, each piece made when all before it was sent."""
        whole = ["EVAL", self.script.text, len(self.keys), *self.keys, *self.args]
        small = [b"*%d\r\n" % len(whole)]
        for each in whole:
            if callable(each):
                each = each(IN_TIME_SECONDS + STALL_SECONDS)
            data = each if isinstance(each, bytes) else str(each).encode()
            small.append(b"$%d\r\n" % len(data))
            if len(data) > LARGE_BYTES:
                # Not copied once more.
                yield b"".join(small)
                yield data
                small = [b"\r\n"]
            else:
                small += (data, b"\r\n")
        yield b"".join(small)


@dataclass(frozen=True)
class _Turn:
    """A connection, and the calls that its holder is to send on it: first the holder's own."""

    connection: _Connection
    batch: list[_Call]


def client(url: str, silence: float | None = None, **options: Any) -> redis.Redis:
    """A client with timeouts and without redis-py's own retries; it opens nothing yet.

    It takes `silence` seconds without an answer, by default WAIT_SECONDS, for a fault.

    Where Sentinels name the server, each connection asks them anew as it is opened. Of a cluster,
    it is one for the first node.

    Raises:
        ValueError: the URL cannot be used.
    """
    address = urls.read(url)
    options |= {
        "socket_timeout": WAIT_SECONDS if silence is None else silence,
        "socket_connect_timeout": WAIT_SECONDS,
        # A retried command may run twice; whether that is harmless is for the caller to say.
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": False,
    }
    if address.kind == "sentinel":
        return _client_by_sentinels(address, options)
    made = redis.Redis.from_url(address.server)
    # Whatever the URL says of these.
    made.connection_pool.connection_kwargs.update(options)
    return made


def _client_by_sentinels(address: urls.Address, options: dict[str, Any]) -> redis.Redis:
    parse: Any = parse_url
    given: dict[str, Any] = {**parse(address.server), **options}
    for name in ("host", "port", "connection_class"):
        given.pop(name, None)
    given["ssl"] = urls.is_tls(address.server)
    theirs = {k: v for k, v in given.items() if k.startswith(("ssl", "socket", "retry"))}
    for name in ("username", "password"):
        theirs[name] = given.pop(f"sentinel_{name}", None)
    sentinels: Any = Sentinel
    asked = sentinels(address.hosts, sentinel_kwargs=theirs)
    made: redis.Redis = asked.master_for(address.service, **given)
    return made


def check_url(url: str) -> str | None:
    """Why a URL of Redis cannot be used, without a word of what is in it; None if it can."""
    try:
        urls.read(url)
    except ValueError as error:
        return str(error)
    try:
        client(url).connection_pool.make_connection()
    except Exception:
        return "Has options that redis-py does not know, or takes with other values."
    return None


class Storage:
    """Runs scripts in Redis for any thread of the process."""

    def __init__(
        self,
        url: str,
        connections: int,
        prefix: str | None = None,
        replicas: int = 0,
        node: str = "",
    ) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            url: that of the server, or of the Sentinels that name it.
            connections: how many to open, at least 1. The last one is for large values, and is
                opened for the first of them; where there is but one, it is for all.
            prefix: of the keys and channels that are tried for the rights to them; None: none are.
            replicas: how many have to have what a call wrote, and what it read, before it returns.
            node: which one of a cluster it is, if it is one.
        """
        self._server = f"Redis {node}".rstrip()
        self._node_of_cluster = node
        self._prefix = prefix
        self._replicas = replicas
        self._tls = urls.is_tls(url)
        # Connections as such, not clients: a client's pipelines cost more than what they send.
        pool = client(url).connection_pool
        self._connections: list[_Connection] = [
            pool.make_connection() for _ in range(max(1, connections - 1))
        ]
        self._large: _Connection | None = None
        if connections > 1:
            self._large = client(url, STALL_SECONDS).connection_pool.make_connection()
        self._large_sender = ThreadPoolExecutor(1, thread_name_prefix="large")
        self._large_places = threading.Semaphore(1 + LARGE_WAITING)
        self._idle: list[_Connection] = []
        self._senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="sender")
        self._pending: deque[_Call] = deque()
        self._up = threading.Event()
        self._down_since = time.monotonic()
        self._reason = "not connected yet"
        self._reconnect = threading.Event()
        self._stopped = False
        self._changed = threading.Condition()
        self.warning: str | None = None
        # What Redis's clock said, in ms, and what this process's said just before, in seconds.
        self.clock: tuple[int, float] | None = None
        # How many calls failed; who remembers it knows whether some have since.
        self.faults = 0
        # When Redis was found again last, on the monotonic clock.
        self._back_since = -math.inf
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Connect, and keep connected on a thread of its own.

        Raises:
            StorageUnsuitable: the server answers and cannot be used.
        """
        try:
            self._connect_all()
        except RedisError as error:
            self._lost(error)
        else:
            self._idle = list(self._connections)
            self._up.set()
        threading.Thread(target=self._keep_connected, name="storage", daemon=True).start()

    def stop(self) -> None:
        """End it: the server has no keys of ours any more."""
        self._stopped = True
        self._lost(RedisConnectionError("it is not in use any more"))

    @property
    def problem(self) -> str | None:
        """Why Redis cannot be used now, or None."""
        return None if self._up.is_set() else self._reason

    @property
    def back_since(self) -> float:
        """When Redis was found again last, on the monotonic clock; -inf if it was never away."""
        return self._back_since

    def call(self, script: AnyScript, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run a script and return its answer.

        The script may be sent twice, after a connection that broke before the answer came, or to
        have a large answer.

        Raises:
            StorageUnavailable: there was no answer, or an error for an answer.
        """
        with contextlib.suppress(_Large):
            return self._call_small(script, keys, args)
        return self._submit_large(script, keys, args).result()

    async def acall(self, script: AnyScript, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """`call` for an event loop, by way of a few threads that do nothing else."""
        small = functools.partial(self._call_small, script, keys, args)
        with contextlib.suppress(_Large):
            return await asyncio.get_running_loop().run_in_executor(self._senders, small)
        return await asyncio.wrap_future(self._submit_large(script, keys, args))

    def _call_small(self, script: AnyScript, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Raises _Large if the call, or its answer, is."""
        call = _Call(script, keys, args)
        if self._large is not None:
            if call.size > LARGE_BYTES:
                raise _Large
            if getattr(script, "large", False):
                call.script = _measured(script.text)
        return self._call_twice(self._call_once, call)

    def _submit_large(
        self, script: AnyScript, keys: Sequence[str], args: Sequence[Argument]
    ) -> Future[Any]:
        if not self._large_places.acquire(blocking=False):
            self.faults += 1
            raise StorageUnavailable("too many large values are under way")
        call = _Call(script, keys, args)
        sent = self._large_sender.submit(self._call_twice, self._send_large, call)
        sent.add_done_callback(lambda _: self._large_places.release())
        return sent

    def _call_twice(self, once: Callable[[_Call], Any], call: _Call) -> Any:
        doubtful = False
        for again in (True, False):
            try:
                return once(call)
            except (RedisError, StorageUnavailable) as error:
                if isinstance(error, ResponseError) and str(error).startswith("LARGE"):
                    raise _Large from None
                lost = isinstance(error, RedisConnectionError)
                if again and lost:
                    # Most often the server was restarted and this call was the first to notice.
                    doubtful = True
                    continue
                self.faults += 1
                failure = StorageUnavailable(str(error))
                # A script that Redis answers with an error has changed nothing.
                failure.doubtful = doubtful or lost or isinstance(error, RedisTimeoutError)
                raise failure from error
        raise AssertionError("unreachable: the second attempt returns or raises")

    def _send_large(self, call: _Call) -> Any:
        if not self._up.is_set():
            raise StorageUnavailable(self._reason)
        connection = self._large
        assert connection is not None
        try:
            connection.connect()
            connection._sock.settimeout(WAIT_SECONDS)
            # What waits in a larger buffer would pass for silence.
            connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LARGE_BYTES)
            _send(connection, call.pieces(), self._wait_for_large)
            stalled = time.monotonic() + STALL_SECONDS
            while not connection.can_read(WAIT_SECONDS):
                self._wait_for_large(stalled)
            answer = connection.read_response()
            if self._replicas:
                self._wait_for_replicas(connection, call.keys)
            return answer
        except BaseException as error:
            if not isinstance(error, ResponseError) or isinstance(error, ReadOnlyError):
                connection.disconnect()
            raise

    def _wait_for_large(self, deadline: float) -> None:
        """Nothing moves of a large value: raise, unless Redis answers others and it may still."""
        if time.monotonic() > deadline:
            raise RedisTimeoutError(f"nothing moved of a large value for {STALL_SECONDS:g} seconds")
        self.ping()

    def ping(self) -> None:
        """Raise StorageUnavailable unless Redis answers now."""
        self.call(_PING, [], [])

    def write(self) -> None:
        """Raise StorageUnavailable unless Redis takes writes now."""
        self.call(_WRITE, [f"{{{self._prefix}}}:rights"], [])

    def _call_once(self, call: _Call) -> Any:
        # While the connection was lost only just now, it is worth waiting for.
        patience = max(0.0, self._down_since + WAIT_SECONDS - time.monotonic())
        if not self._up.is_set() and not self._up.wait(patience):
            raise StorageUnavailable(self._reason)
        turn = self._turn_for(call)
        if turn is None:
            given = _given(call)
            if not isinstance(given, _Turn):
                return given
            turn = given
        answers = self._send(turn)
        self._pass_on(turn.connection)
        for each, answer in zip(turn.batch[1:], answers[1:], strict=True):
            if isinstance(answer, Exception):
                each.answer.set_exception(answer)
            else:
                each.answer.set_result(answer)
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    def _turn_for(self, call: _Call) -> _Turn | None:
        """The turn at once, if a connection is idle; else the call is queued."""
        with self._changed:
            if self._idle:
                return _Turn(self._idle.pop(), [call])
            call.answer = Future()
            self._pending.append(call)
            return None

    def _send(self, turn: _Turn) -> list[Any]:
        """The answers of the calls, among which there may be errors."""
        try:
            if not self._up.is_set():
                raise RedisConnectionError(self._reason)
            if self._replicas:
                confirmation = self._confirmation(turn.batch[0].keys)
                answers = _run_scripts(turn.connection, turn.batch, confirmation)
                self._check_confirmed(answers.pop())
            else:
                answers = _run_scripts(turn.connection, turn.batch)
        except Exception as error:
            if not isinstance(error, DataError):
                # Answers may be on their way still: the connection cannot be used for another call.
                self._lost(error)
            return [error] * len(turn.batch)
        for answer in answers:
            # After a failover, the name in the URL may lead to the new primary. Of rights that
            # are lacking, the next attempt to connect says which.
            if isinstance(answer, ReadOnlyError) or _is_no_right(answer):
                self._lost(answer)
        return answers

    def _confirmation(self, keys: Sequence[str]) -> list[tuple[Any, ...]]:
        """Commands after which the replicas have all that Redis had when it was sent them.

        WAIT is about what its own connection wrote last. What was read may be what another one
        wrote, so that something has to be written in any case.
        """
        written = f"{self._prefix}:{{{tag_of(keys) or self._prefix}}}:confirmed"
        timeout = round(CONFIRM_SECONDS * 1000)
        return [("SET", written, 1, "PX", 60_000), ("WAIT", self._replicas, timeout)]

    def _check_confirmed(self, answer: Any) -> None:
        if isinstance(answer, ResponseError):
            raise _Unconfirmed(str(answer))
        if answer < self._replicas:
            raise _Unconfirmed(
                f"{answer} of {self._replicas} replicas have what was written (REDIS_WAIT_REPLICAS)"
            )

    def _wait_for_replicas(self, connection: _Connection, keys: Sequence[str]) -> None:
        """A large value is longer under way."""
        stalled = time.monotonic() + STALL_SECONDS
        while True:
            try:
                self._check_confirmed(_exchange(connection, self._confirmation(keys))[-1])
                return
            except _Unconfirmed:
                if time.monotonic() > stalled:
                    raise

    def _pass_on(self, connection: _Connection) -> None:
        """Give the connection to the one that has waited longest, with all that wait."""
        with self._changed:
            batch: list[_Call] = []
            room = LARGE_BYTES
            while self._pending and len(batch) < BATCH and room > 0:
                call = self._pending.popleft()
                if call.answer.set_running_or_notify_cancel():
                    batch.append(call)
                    room -= call.size
            if batch:
                batch[0].answer.set_result(_Turn(connection, batch))
            else:
                self._idle.append(connection)
                self._changed.notify_all()

    def _lost(self, error: Exception) -> None:
        with self._changed:
            self._reason = self._away(error)
            if not self._reconnect.is_set():
                self._down_since = time.monotonic()
                self._up.clear()
                if not self._stopped:
                    log.warning("%s; runs that need no Redis go on unrecorded", self._reason)
                self._reconnect.set()
                self.on_down()

    def _away(self, error: Exception) -> str:
        text = ("TLS: " if self._tls else "") + " ".join(str(error).split())
        advice = [each for words, each in _ADVICE.items() if re.search(words, text)]
        return "; ".join([f"{self._server} is away: {text}", *advice])

    def _keep_connected(self) -> None:
        held = [] if self._up.is_set() else list(self._connections)
        while True:
            self._reconnect.wait()
            # Whoever still waits for an answer gives its connection back within its timeout.
            with self._changed:
                while len(self._idle) + len(held) < len(self._connections):
                    self._changed.wait()
                held += self._idle
                self._idle.clear()
            waiting = pauses(PAUSE_SECONDS)
            while True:
                if self._stopped:
                    for each in (*held, self._large):
                        if each is not None:
                            each.disconnect()
                    return
                try:
                    self._connect_all()
                    break
                except (RedisError, StorageUnsuitable) as error:
                    self._reason = self._away(error)
                    time.sleep(next(waiting))
            with self._changed:
                self._reconnect.clear()
                self._back_since = time.monotonic()
                self._up.set()
            while held:
                self._pass_on(held.pop())
            log.warning("%s is back", self._server)
            self.on_up()

    def _connect_all(self) -> None:
        for each in self._connections:
            each.disconnect()
            each.connect()
            _exchange(each, [("PING",)])
        self._try_rights(self._connections[0])
        if self._replicas:
            # Whatever was written before, by anybody, is confirmed with it.
            self._check_confirmed(_exchange(self._connections[0], self._confirmation(()))[-1])
        asked = time.monotonic()
        answer, clock = _exchange(self._connections[0], [("INFO", "everything"), ("TIME",)])
        if not isinstance(clock, ResponseError):
            seconds, micros = map(int, clock)
            self.clock = seconds * 1000 + micros // 1000, asked
        if isinstance(answer, ResponseError):
            return  # a user without the right to ask can still run scripts
        info = dict(line.split(":", 1) for line in answer.decode().split("\r\n") if ":" in line)
        if info.get("cluster_enabled") == "1" and not self._node_of_cluster:
            raise StorageUnsuitable(
                "REDIS_URL: names a Redis cluster: REDIS_CLUSTER=true is for that"
            )
        if info.get("role") == "slave" and info.get("slave_read_only") != "0":
            raise RedisConnectionError("it is a replica that takes no writes")
        policy = info.get("maxmemory_policy")
        warning = None
        if policy not in (None, "noeviction"):
            warning = (
                f"Redis evicts keys when its memory is full (maxmemory-policy {policy}): "
                "runs and results can be lost. Set it to noeviction."
            )
            if warning != self.warning:
                log.warning(warning)
        self.warning = warning

    def _try_rights(self, connection: _Connection) -> None:
        if self._prefix is None:
            return
        p = self._prefix
        args = [f"{{{p}}}:told:rights", f"{{{p}}}:told:*"]
        args += [f"{{{p}}}:rights", f"{{{p}}}:*", f"{p}:{{{p}}}:rights", f"{p}:*"]
        asked: list[tuple[Any, ...]] = [
            ("SCRIPT", "LOAD", _RIGHTS.text),
            ("EVAL", _RIGHTS.text, 0, *args),
            ("EVALSHA", _RIGHTS.sha, 0, *args),
        ]
        if self._replicas:
            asked.insert(0, ("WAIT", 0, 1))
        answers = _exchange(connection, asked)
        lacking = [
            f"+{command[0].lower()}"
            for command, answer in zip(asked, answers, strict=True)
            if _is_no_right(answer)
        ]
        if isinstance(answers[-1], list):
            lacking += [each.decode() for each in answers[-1]]
        if lacking:
            raise RedisConnectionError(f"its user lacks the rights {' '.join(lacking)}")


# What TLS says of what is most often wrong, and what to do about it.
_ADVICE = {
    "CERTIFICATE_VERIFY_FAILED": "REDIS_TLS_CA_FILE names whose certificates to trust, and "
    "REDIS_TLS_VERIFY=none trusts all",
    # A server without TLS waits for the rest of what it takes for a command.
    "TLS: Timeout connecting": "if it speaks no TLS, its URL is redis://",
}


def _is_no_right(answer: Any) -> bool:
    return isinstance(answer, NoPermissionError) or (
        isinstance(answer, ResponseError)
        and re.search("ACL failure|user executing the script", str(answer)) is not None
    )


def _given(call: _Call) -> Any:
    """What a queued call is given: its answer, or the turn to send it."""
    try:
        return call.answer.result(WAIT_SECONDS)
    except TimeoutError:
        if call.answer.cancel():
            raise StorageUnavailable("no connection came free") from None
        # It is on its way, or was given the turn this moment.
        return call.answer.result()


def tag_of(keys: Sequence[str]) -> str:
    """What of the keys says where in a cluster they are."""
    return keys[0].partition("{")[2].partition("}")[0] if keys else ""


def _run_scripts(
    connection: _Connection, batch: list[_Call], after: Sequence[tuple[Any, ...]] = ()
) -> list[Any]:
    """Run the scripts in one round trip; two, where Redis does not know one of them yet.

    Of the commands that come `after` all of them, only the last one's answer is returned.
    """
    answers = _exchange(connection, [*(call.command() for call in batch), *after])
    unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        loads = [("SCRIPT", "LOAD", text) for text in {batch[i].script.text for i in unknown}]
        again = _exchange(connection, [*loads, *(batch[i].command() for i in unknown), *after])
        for i, answer in zip(unknown, again[len(loads) :], strict=False):
            answers[i] = answer
        answers[len(batch) :] = again[len(loads) + len(unknown) :]
    if after:
        del answers[len(batch) : -1]
    return answers


def _exchange(connection: _Connection, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Send commands in one go; their answers, among which errors of single commands may be."""
    _send(connection, [_packed(commands)], _stalled)
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(connection.read_response())
        except ResponseError as error:
            answers.append(error)
    return answers


def _packed(commands: Sequence[tuple[Any, ...]]) -> bytes:
    """Commands as Redis reads them (RESP). redis-py's own way takes several times as long."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for each in command:
            data = each if isinstance(each, bytes) else str(each).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def _send(connection: _Connection, pieces: Iterable[bytes], wait: Callable[[float], None]) -> None:
    """Send on a connection, however long it takes; `wait` is called while nothing moves."""
    try:
        for piece in pieces:
            left = memoryview(piece)
            stalled = time.monotonic() + STALL_SECONDS
            while left:
                try:
                    left = left[connection._sock.send(left) :]
                    stalled = time.monotonic() + STALL_SECONDS
                except TimeoutError:
                    wait(stalled)
    except OSError as error:
        raise RedisConnectionError(f"the connection broke: {error}") from error


def _stalled(deadline: float) -> None:
    raise RedisTimeoutError("Redis takes nothing")


class InTime:
    """Runs scripts that do nothing any more once who asked was told that they were not done.

    A command can lie in the socket of a server that is silent, and be read long after.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def call(
        self, script: AnyScript, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """`Storage.call`."""
        try:
            return self._storage.call(_script_in_time(script), keys, [*args, self._latest])
        except StorageUnavailable as error:
            self._learn_the_time_from(error)
        return self._storage.call(_script_in_time(script), keys, [*args, self._latest])

    async def acall(
        self, script: AnyScript, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        """`Storage.acall`."""
        try:
            return await self._storage.acall(_script_in_time(script), keys, [*args, self._latest])
        except StorageUnavailable as error:
            self._learn_the_time_from(error)
        return await self._storage.acall(_script_in_time(script), keys, [*args, self._latest])

    def _latest(self, seconds: float) -> int | str:
        """The time in so many seconds by Redis's clock, in ms; '' if that is unknown."""
        if self._storage.clock is None:
            return ""
        redis, ours = self._storage.clock
        return redis + round((time.monotonic() - ours + seconds) * 1000)

    def _learn_the_time_from(self, error: StorageUnavailable) -> None:
        """Raise it again, unless it says that what was asked for just now comes late."""
        late = re.match(r"LATE (\d+)", str(error))
        if late is None or error.doubtful:
            raise error
        # The clocks have drifted apart, or Redis's was set.
        self._storage.clock = int(late[1]), time.monotonic()


class Scripts:
    """Calls scripts by the names of their arguments; each is told the prefix of all keys.

    Attributes:
        tag: that prefix, as a hash tag.
    """

    def __init__(self, storage: Storage | InTime, prefix: str) -> None:
        """Prepare.

        Args:
            storage: the process's connections, perhaps by way of `InTime`.
            prefix: what all keys begin with, so that services can share a Redis.
        """
        self._storage = storage
        self.tag = f"{{{prefix}}}"

    def call(self, script: AnyScript, keys: Sequence[str], **fields: AnyField) -> Any:
        """`Storage.call`, with these fields and `prefix`."""
        return self._storage.call(script, keys, named(prefix=self.tag, **fields))

    async def acall(self, script: AnyScript, keys: Sequence[str], **fields: AnyField) -> Any:
        """`Storage.acall`, with these fields and `prefix`."""
        return await self._storage.acall(script, keys, named(prefix=self.tag, **fields))


def _script_in_time(script: AnyScript) -> Script:
    return _in_time(script.text, getattr(script, "large", False))


@functools.cache
def _in_time(script: str, large: bool = False) -> Script:
    return Script.of((_LUA / "in_time.lua").read_text() + script, large=large)


@functools.cache
def _measured(script: str) -> Script:
    body = f"local function answer()\n{script}\nend\n"
    return Script.of(body + (_LUA / "measured.lua").read_text() % LARGE_BYTES)


_PING = Script.of("return 1")
_WRITE = Script.of("redis.call('SET', KEYS[1], '1', 'PX', 60000) return 1")
_RIGHTS = Script.of((_LUA / "rights.lua").read_text())
