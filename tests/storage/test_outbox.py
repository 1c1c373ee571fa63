"""The outbox in Redis: what the scripts promise, on real servers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from typing import Any
from uuid import uuid4

import pytest

from runwait.storage import outbox as outbox_module
from runwait.storage.connection import Storage, StorageUnavailable
from runwait.storage.outbox import Outbox, Webhook
from tests.servers import PATIENCE, RedisServer

LEASE = 1000.0
NEVER = 10_000.0


class Twice(Storage):
    """Sends each call again, as if the first answer had been lost."""

    def call(self, script: Any, keys: Any, args: Any) -> Any:
        first = super().call(script, keys, args)
        again = super().call(script, keys, args)
        # What a claim says of time differs.
        same = 5 if script is outbox_module._CLAIM else None
        assert again == first or again[:same] == first[:same]
        return again


def done(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


class Box:
    """An outbox under a prefix of its own, with short ways to use it."""

    def __init__(self, storage: Storage, server: RedisServer, prefix: str) -> None:
        self.redis = server.client
        self.tag = f"{{{prefix}}}"
        self.outbox = Outbox(storage, prefix)
        self.other = Outbox(storage, prefix)

    def add(
        self, run_id: str, url: str = "http://a.example/hook", body: bytes = b'{"n":1}'
    ) -> None:
        self.outbox.add(run_id, url, body)

    def claim(self, *full: str, by: Outbox | None = None) -> Webhook | None:
        return done((by or self.outbox).claim(LEASE, full))[0]

    def take(self, by: Outbox | None = None) -> Webhook:
        webhook = self.claim(by=by)
        assert webhook is not None
        return webhook

    def pause(self, *full: str) -> float | None:
        webhook, pause = done(self.outbox.claim(LEASE, full))
        assert webhook is None
        return pause

    def make_due(self) -> None:
        """As if all pauses and leases were over."""
        for receiver in self.redis.zrange(f"{self.tag}:outbox", 0, -1):
            queue = f"{self.tag}:outbox:{receiver.decode()}"
            for run_id in self.redis.zrange(queue, 0, -1):
                self.redis.zadd(queue, {run_id: 1})
            self.redis.zadd(f"{self.tag}:outbox", {receiver: 1})

    def keys(self) -> set[str]:
        found = self.redis.scan_iter(f"{self.tag}:*", count=1000)
        return {key.decode().removeprefix(f"{self.tag}:") for key in found} - self.claims()

    def claims(self) -> set[str]:
        found = self.redis.scan_iter(f"{self.tag}:webhooks:claimed:*", count=1000)
        return {key.decode().removeprefix(f"{self.tag}:") for key in found}


@pytest.fixture(params=[Storage, Twice], ids=["once", "twice"])
def box(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[Box]:
    storage = request.param(redis_server.url, 1)
    storage.start()
    yield Box(storage, redis_server, f"test-{uuid4().hex}")


class TestClaiming:
    def test_an_empty_outbox_has_nothing_to_wait_for(self, box: Box) -> None:
        assert box.pause() is None

    def test_what_was_added_is_given_out_once(self, box: Box) -> None:
        box.add("r", "https://A.example:8443/x?y", b'{"e":"\xc3\xa9"}')
        webhook = box.take()
        assert (webhook.run_id, webhook.url) == ("r", "https://A.example:8443/x?y")
        assert (webhook.body, webhook.receiver) == (b'{"e":"\xc3\xa9"}', "a.example:8443")
        assert webhook.attempts == 1
        assert 0 <= webhook.age < PATIENCE
        assert box.claim(by=box.other) is None

    def test_what_was_claimed_is_due_again_after_the_lease(self, box: Box) -> None:
        box.add("r")
        first = box.take()
        pause = box.pause()
        assert pause is not None
        assert LEASE - PATIENCE < pause <= LEASE
        box.make_due()
        second = box.take(by=box.other)
        assert (second.run_id, second.attempts) == ("r", 2)
        assert second.claim != first.claim

    def test_a_claim_that_was_lost_costs_its_process_nothing_but_the_lease(self, box: Box) -> None:
        box.add("r")
        box.take()
        assert box.claim() is None
        box.make_due()
        assert box.take().run_id == "r"

    def test_the_one_that_is_due_longest_comes_first_whoever_receives_it(self, box: Box) -> None:
        ids = [f"r{n}" for n in range(6)]
        for n, run_id in enumerate(ids):
            box.add(run_id, f"http://{'ab'[n % 2]}.example/")
        for run_id, receiver in zip(ids, itertools.cycle("ab"), strict=False):
            box.redis.zadd(f"{box.tag}:outbox:{receiver}.example", {run_id: 1 + ids.index(run_id)})
        for n, receiver in enumerate("ab"):
            box.redis.zadd(f"{box.tag}:outbox", {f"{receiver}.example": 1 + n})
        assert [box.take().run_id for _ in ids] == ids

    def test_receivers_that_are_full_are_passed_over(self, box: Box) -> None:
        for n in range(3):
            box.add(f"a{n}", "http://a.example/")
            box.add(f"b{n}", "http://b.example/")
        box.add("c", "http://c.example/")
        webhook = box.claim("a.example", "b.example")
        assert webhook is not None
        assert webhook.run_id == "c"
        assert box.claim("a.example", "b.example", "c.example", "d.example") is None
        assert box.claim("a.example").run_id == "b0"  # type: ignore[union-attr]

    def test_what_full_receivers_wait_for_is_no_time_to_wake_up(self, box: Box) -> None:
        box.add("a", "http://a.example/")
        assert box.pause("a.example") is None
        box.add("b", "http://b.example/")
        done(box.outbox.failed(box.claim("a.example"), 500, "e"))  # type: ignore[arg-type]
        pause = box.pause("a.example")
        assert pause is not None
        assert 500 - PATIENCE < pause <= 500

    @pytest.mark.parametrize(
        ("url", "receiver"),
        [
            ("http://a.example", "a.example"),
            ("HTTP://A.Example?x=http://b.example/", "a.example"),
            ("http://[::1]:80/#x", "[::1]:80"),
            ("//a.example:1/x", "a.example:1"),
            ("/hook//x", ""),
            ("hook?x", ""),
        ],
    )
    def test_webhooks_wait_in_line_by_the_receiver_that_the_url_names(
        self, box: Box, url: str, receiver: str
    ) -> None:
        box.add("r", url)
        webhook = box.take()
        assert (webhook.url, webhook.receiver) == (url, receiver)

    def test_one_whose_record_is_gone_is_passed_over(self, box: Box) -> None:
        box.add("a", "http://a.example/")
        box.add("b", "http://b.example/")
        box.redis.delete(f"{box.tag}:webhook:a")
        assert box.take().run_id == "b"
        box.make_due()
        assert box.take().run_id == "b"

    def test_a_full_redis_lets_them_out(self, box: Box) -> None:
        box.add("r1")
        box.add("r2")
        box.redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(StorageUnavailable, match="maxmemory"):
                box.add("r3")
            done(box.outbox.delivered(box.take()))
            done(box.outbox.failed(box.take(), NEVER, "e"))
            assert box.pause() is not None
        finally:
            box.redis.config_set("maxmemory", 0)


class TestAdding:
    def test_a_run_has_one_webhook(self, box: Box) -> None:
        box.add("r", "http://a.example/", b'{"n":1}')
        box.add("r", "http://b.example/", b'{"n":2}')
        assert box.take().body == b'{"n":1}'
        assert box.claim() is None

    def test_an_end_that_is_recorded_again_is_not_told_again(self, box: Box) -> None:
        box.add("r")
        done(box.outbox.delivered(box.take()))
        box.add("r")
        assert box.claim() is None

    def test_all_processes_are_told(self, box: Box) -> None:
        with box.redis.pubsub(ignore_subscribe_messages=False) as listener:
            listener.subscribe(f"{box.tag}:told:all")
            assert listener.get_message(timeout=PATIENCE)["type"] == "subscribe"
            box.add("r")
            message = listener.get_message(timeout=PATIENCE)
        assert message is not None
        assert message["data"] == b"webhook"


class TestDelivering:
    def test_what_was_delivered_leaves_nothing_that_lasts(self, box: Box) -> None:
        box.add("r", body=b'{"n":"%s"}' % (b"x" * 1000))
        done(box.outbox.delivered(box.take()))
        assert box.keys() == {"webhook:r"}
        assert 0 < box.redis.ttl(f"{box.tag}:webhook:r") <= 3600
        assert box.redis.hgetall(f"{box.tag}:webhook:r") == {b"done": b"1"}
        for key in box.claims():
            assert box.redis.ttl(f"{box.tag}:{key}") > 0
        assert box.pause() is None

    def test_it_was_delivered_even_if_the_lease_was_over(self, box: Box) -> None:
        box.add("r")
        late = box.take()
        box.make_due()
        second = box.take(by=box.other)
        done(box.outbox.delivered(late))
        assert done(box.other.failed(second, 0, "e")) is False
        box.make_due()
        assert box.claim() is None


class TestFailing:
    def test_it_is_due_again_after_the_pause(self, box: Box) -> None:
        box.add("r")
        assert done(box.outbox.failed(box.take(), 500, "e")) is True
        pause = box.pause()
        assert pause is not None
        assert 500 - PATIENCE < pause <= 500
        box.make_due()
        assert box.take().attempts == 2

    def test_the_others_of_its_receiver_do_not_wait_with_it(self, box: Box) -> None:
        box.add("first")
        box.add("second")
        done(box.outbox.failed(box.take(), NEVER, "e"))
        assert box.take().run_id == "second"

    def test_who_lost_the_lease_changes_nothing(self, box: Box) -> None:
        box.add("r")
        late = box.take()
        box.make_due()
        box.take(by=box.other)
        assert done(box.outbox.failed(late, 0, "late")) is False
        assert done(box.outbox.failed(late, None, "late")) is False
        assert box.claim() is None
        assert box.outbox.dead(10) == []

    def test_age_counts_from_the_first_attempt(self, box: Box) -> None:
        box.add("r")
        box.redis.hincrby(f"{box.tag}:webhook:r", "since", -5_000_000)
        assert 5000 <= box.take().age < 5000 + PATIENCE


class TestReleasing:
    def test_it_is_due_at_once_and_the_attempt_does_not_count(self, box: Box) -> None:
        box.add("r")
        done(box.outbox.release(box.take()))
        assert box.take(by=box.other).attempts == 1

    def test_only_who_holds_it_can(self, box: Box) -> None:
        box.add("r")
        late = box.take()
        box.make_due()
        box.take(by=box.other)
        done(box.outbox.release(late))
        assert box.claim() is None


class TestDeadLetters:
    def kill(self, box: Box, run_id: str, error: str = "e", **more: Any) -> None:
        box.add(run_id, **more)
        assert done(box.outbox.failed(box.take(), None, error)) is True

    def test_they_are_listed_the_last_first_and_not_delivered(self, box: Box) -> None:
        self.kill(box, "r1", "first")
        self.kill(box, "r2", "é", url="http://b.example/")
        box.redis.zadd(f"{box.tag}:webhooks:dead", {"r2": 1}, incr=True)
        assert box.pause() is None
        second, first = box.outbox.dead(10)
        assert (second.run_id, second.url, second.error) == ("r2", "http://b.example/", "é")
        assert (first.run_id, first.error, first.attempts) == ("r1", "first", 1)
        assert first.created <= first.died
        assert box.outbox.dead(1) == [second]
        assert box.outbox.dead(10, 1) == [first]

    def test_they_are_kept_for_days_and_not_for_ever(self, box: Box) -> None:
        self.kill(box, "r1")
        self.kill(box, "r2")
        assert 0 < box.redis.ttl(f"{box.tag}:webhook:r1") <= outbox_module.DEAD_SECONDS
        over = -(outbox_module.DEAD_SECONDS + 1) * 1000
        box.redis.zincrby(f"{box.tag}:webhooks:dead", over, "r1")
        assert [each.run_id for each in box.outbox.dead(10)] == ["r2"]
        assert box.redis.zrange(f"{box.tag}:webhooks:dead", 0, -1) == [b"r2"]

    def test_one_that_is_retried_has_all_its_attempts_before_it(self, box: Box) -> None:
        self.kill(box, "r", body=b'{"n":7}')
        box.redis.hincrby(f"{box.tag}:webhook:r", "since", -5_000_000)
        assert box.outbox.retry("r") is True
        assert box.outbox.dead(10) == []
        assert box.redis.ttl(f"{box.tag}:webhook:r") == -1
        webhook = box.take()
        assert (webhook.attempts, webhook.body) == (1, b'{"n":7}')
        assert webhook.age < PATIENCE

    def test_a_retry_does_not_disturb_one_under_way(self, box: Box) -> None:
        box.add("r")
        box.take()
        assert box.outbox.retry("r") is True
        assert box.claim() is None

    def test_what_is_unknown_or_delivered_cannot_be_retried(self, box: Box) -> None:
        assert box.outbox.retry("r") is False
        box.add("r")
        done(box.outbox.delivered(box.take()))
        assert box.outbox.retry("r") is False
